#include "rounds.hpp"

#include <algorithm>
#include <deque>
#include <optional>

#include "../waiting.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

const SteadyClock steady_clock;
// While blocks are on their way, what the node's other ranks do is looked at this often.
constexpr Duration glance = std::chrono::microseconds(200);

using shm::Stage;

/// The rounds of one collective on this rank, in four steps that follow each other per round: contribute,
/// begin, deliver, collect. Rounds overlap: whatever can be done next is done. Ranks take rounds in order, so
/// the lowest unfinished one can always go on: there is no deadlock.
class Runner {
 public:
  Runner(const Course& course, Kind& kind, std::uint64_t& submitted)
      : course_(course),
        kind_(kind),
        submitted_(submitted),
        staged_(course.way == Way::staged && course.group.size() > 1),
        collects_(course.way != Way::direct && course.group.size() > 1) {
    if (course.transport != nullptr)
      context_.emplace(CrossingContext{course.layout, *course.transport, course.arithmetic, course.scratch,
                                       course.header, course.divisor});
    for (int fragment = 0; fragment < course.layout.fragments(); ++fragment)
      if (course.owns(fragment)) owned_.push_back(fragment);
  }

  Status run() {
    while (collected_ < course_.rounds) {
      if (course_.transport != nullptr && !in_flight_.empty()) PACELINE_TRY(move_blocks(Duration::zero()));
      PACELINE_ASSIGN(const bool stepped, step());
      if (stepped) {
        idle_since_ = Instant{};
        continue;
      }
      PACELINE_TRY(wait());
    }
    return {};
  }

 private:
  struct InFlight {
    std::vector<std::unique_ptr<Crossing>> crossings;  // of one round, by owned fragment
  };

  [[nodiscard]] std::uint64_t counted(std::uint64_t round) const { return course_.first_round + round; }

  /// Does one thing that can be done; false if there is none.
  Result<bool> step() {
    if (can_collect()) {
      if (collects_) PACELINE_TRY(kind_.collect(collected_));
      ++collected_;
      if (collects_) course_.group.advance(Stage::drained, counted(collected_));
      return true;
    }
    if (can_deliver()) {
      deliver();
      return true;
    }
    if (can_begin()) {
      PACELINE_TRY(begin());
      return true;
    }
    if (!can_contribute()) return false;
    kind_.contribute(contributed_);
    ++contributed_;
    course_.group.advance(Stage::staged, counted(contributed_));
    return true;
  }

  [[nodiscard]] bool can_contribute() const {
    return staged_ && contributed_ < course_.rounds && contributed_ < collected_ + course_.slots &&
           slot_waits_for() < 0;
  }
  /// Who still reads the slot that the next round needs.
  [[nodiscard]] int slot_waits_for() const {
    const std::uint64_t next = counted(contributed_);
    return next < course_.slots ? -1 : course_.group.behind(Stage::drained, next + 1 - course_.slots);
  }

  [[nodiscard]] bool can_begin() const {
    return begun_ < course_.rounds && in_flight_.size() < static_cast<std::size_t>(course_.crossings_ahead) &&
           (!staged_ || course_.group.behind(Stage::staged, counted(begun_) + 1) < 0);
  }

  Status begin() {
    InFlight flight;
    for (const int fragment : owned_) {
      PACELINE_ASSIGN(auto crossing, kind_.begin(begun_, fragment, context_ ? &*context_ : nullptr));
      if (crossing == nullptr) continue;
      crossing->begin();
      crossing->advance();
      flight.crossings.push_back(std::move(crossing));
    }
    in_flight_.push_back(std::move(flight));
    ++begun_;
    return {};
  }

  [[nodiscard]] bool can_deliver() const {
    return !in_flight_.empty() && std::ranges::all_of(in_flight_.front().crossings,
                                                      [](const auto& crossing) { return crossing->done(); });
  }

  void deliver() {
    for (const auto& crossing : in_flight_.front().crossings)
      submitted_ = std::min(submitted_, crossing->submitted());
    for (const int fragment : owned_) kind_.deliver(delivered_, fragment);
    in_flight_.pop_front();
    ++delivered_;
    if (collects_) course_.group.advance(Stage::reduced, counted(delivered_));
  }

  [[nodiscard]] bool can_collect() const {
    return collected_ < delivered_ &&
           (!collects_ || course_.group.behind(Stage::reduced, counted(collected_) + 1) < 0);
  }

  Status move_blocks(Duration at_most) {
    PACELINE_TRY(course_.transport->progress(at_most));
    for (InFlight& flight : in_flight_)
      for (const auto& crossing : flight.crossings) crossing->advance();
    return {};
  }

  /// The local index of a rank that holds up the next step, or -1 if there is none.
  [[nodiscard]] int held_up_by() const {
    if (!collects_ || can_contribute() || can_begin() || can_collect()) return -1;
    if (collected_ < delivered_) return course_.group.behind(Stage::reduced, counted(collected_) + 1);
    if (begun_ < contributed_) return course_.group.behind(Stage::staged, counted(begun_) + 1);
    return slot_waits_for();
  }

  [[nodiscard]] bool blocks_awaited() const {
    return std::ranges::any_of(in_flight_, [](const InFlight& flight) {
      return std::ranges::any_of(flight.crossings, [](const auto& crossing) { return !crossing->done(); });
    });
  }

  Status wait() {
    if (!blocks_awaited())
      return course_.group.wait_until([this] { return held_up_by(); }, course_.patience, "do its part");
    if (course_.patience.may_spin && idle_since_ == Instant{}) idle_since_ = steady_clock.now();
    if (course_.patience.may_spin && steady_clock.now() - idle_since_ < wire_spin) return {};
    PACELINE_TRY(course_.abort.status());
    PACELINE_TRY(move_blocks(std::min(collects_ ? glance : longest_nap, course_.patience.deadline.left())));
    if (course_.patience.deadline.passed()) return late();
    return {};
  }

  [[nodiscard]] Error late() const {
    for (const InFlight& flight : in_flight_)
      for (const auto& crossing : flight.crossings)
        if (const int rank = crossing->awaited_rank(); rank >= 0)
          return {ErrorCode::timeout,
                  concat("rank ", rank, " did not answer in time in ", describe(course_.request.descriptor)),
                  rank};
    return {ErrorCode::timeout, concat(describe(course_.request.descriptor), " did not end in time")};
  }

  const Course& course_;
  Kind& kind_;
  std::uint64_t& submitted_;
  bool staged_;    // ranks contribute
  bool collects_;  // and ranks collect
  std::optional<CrossingContext> context_;
  std::vector<int> owned_;

  std::deque<InFlight> in_flight_;
  std::uint64_t contributed_ = 0;  // rounds that are through with each step
  std::uint64_t begun_ = 0;
  std::uint64_t delivered_ = 0;
  std::uint64_t collected_ = 0;
  Instant idle_since_{};
};

}  // namespace

Status run_rounds(const Course& course, Kind& kind, std::uint64_t& submitted) {
  return Runner(course, kind, submitted).run();
}

}  // namespace paceline
