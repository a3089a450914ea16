// Events that make no sense, in every state: whatever a bug elsewhere, an old message or a stranger may
// bring, the coordinator neither asserts nor breaks a rule of its own.
#include <gtest/gtest.h>

#include <iostream>
#include <set>

#include "paceline/base/text.hpp"
#include "queue.hpp"

#include "paceline/sched/coordinator.hpp"

namespace paceline::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

CoordinatorOptions options_from(Dice& dice) {
  CoordinatorOptions options;
  options.min_ranks = dice.between(1, 3);
  options.max_ranks = options.min_ranks + dice.between(0, 3);
  options.wish = dice.between(options.min_ranks, options.max_ranks);
  options.last_generation = dice.between(0, 2);
  options.base_step = dice.between(0, 5);
  // Most of these coordinators are to live long.
  if (!dice.one_in(4))
    options.limits.start_failures = options.limits.redone = options.limits.not_entered = 1000;
  return options;
}

/// What is asked of whom follows from what was asked before.
class Watched {
 public:
  Watched(Dice& dice, CoordinatorOptions options) : options_(options), dice_(&dice), coordinator_(options) {
    note(coordinator_.begin(now_));
  }

  void next() {
    now_ += dice_->one_in(8) ? dice_->between(seconds(1), seconds(100))
                             : dice_->between(milliseconds(0), milliseconds(50));
    const Coordinator::State before = coordinator_.state();
    const CoordinatorEvent event = random_event();
    const CoordinatorEffects effects = coordinator_.on(event, now_);
    if (const auto* written = std::get_if<RecordWritten>(&event);
        written != nullptr && written->result == RecordWritten::Result::written &&
        asked_.contains(written->generation))
      written_.insert(written->generation);
    note(effects);
    if (before == Coordinator::State::ended) {
      EXPECT_TRUE(effects.empty());
      EXPECT_EQ(coordinator_.state(), Coordinator::State::ended);
    }
    if (std::holds_alternative<Tick>(event)) {
      const auto wake = coordinator_.wake();
      EXPECT_TRUE(!wake || *wake > now_);
    }
  }

  [[nodiscard]] Coordinator::State state() const { return coordinator_.state(); }

 private:
  [[nodiscard]] WorkerId worker() { return dice_->between(0, highest_ + (dice_->one_in(10) ? 2 : 0)); }
  [[nodiscard]] std::int64_t generation() { return dice_->between(0, last_ + (dice_->one_in(10) ? 2 : 0)); }
  [[nodiscard]] Standing standing() {
    return {options_.base_step + (dice_->one_in(40) ? dice_->between(0, 3) : 0), dice_->one_in(2),
            !dice_->one_in(3)};
  }

  CoordinatorEvent random_event() {
    switch (dice_->between(1, 22)) {
      case 1:
      case 2:
      case 3: return WorkerReady{{worker(), "n", "h", 1}};
      case 4: return WorkerLost{worker(), "died"};
      case 5:
      case 6: return WorkerLeft{worker(), generation(), standing(), "left"};
      case 7:
      case 8:
      case 9: return WorkerEntered{worker(), generation()};
      case 10: return PreparationFailed{worker(), generation(), "no way"};
      case 11: return StepsCommitted{dice_->between(0, 20)};
      case 12:
        if (dice_->one_in(100)) return WorkerFinished{worker()};
        return Tick{};
      case 13:
        if (dice_->one_in(100)) return WorkerFailed{worker(), "failed"};
        return Tick{};
      case 14:
        if (dice_->one_in(100)) return StopWanted{};
        return ResizeWanted{dice_->between(-1, 8)};
      case 15:
      case 16:
      case 17:
      case 18:
      case 19:
      case 20:
        return WorkerHeartbeat{worker(), dice_->between(-1, 20), static_cast<WorkPhase>(dice_->between(0, 4)),
                               dice_->between(seconds(-10), seconds(1000))};
      default: {
        const std::int64_t fate = dice_->between(1, 400);
        return RecordWritten{generation(),
                             fate == 1    ? RecordWritten::Result::exists
                             : fate <= 80 ? RecordWritten::Result::failed
                                          : RecordWritten::Result::written,
                             "why"};
      }
    }
  }

  void note(const CoordinatorEffects& effects) {
    for (const CoordinatorEffect& effect : effects) {
      if (const auto* start = std::get_if<StartWorker>(&effect)) {
        EXPECT_TRUE(started_.insert(start->worker).second) << "a worker's name is used again";
        highest_ = std::max(highest_, start->worker);
      }
      if (const auto* record = std::get_if<RecordGeneration>(&effect)) {
        const auto& members = record->record->members;
        EXPECT_GE(record->record->generation, last_);
        EXPECT_GE(std::ssize(members), options_.min_ranks);
        EXPECT_LE(std::ssize(members), options_.max_ranks);
        last_ = record->record->generation;
        asked_.insert(last_);
      }
      if (const auto* form = std::get_if<FormGeneration>(&effect)) told(form->record);
      if (const auto* prepare = std::get_if<PrepareGeneration>(&effect)) told(prepare->record);
      if (const auto* end = std::get_if<EndJob>(&effect)) {
        EXPECT_FALSE(ended_) << "it ends twice";
        EXPECT_TRUE(end->status != "failed" || !end->why.empty());
        ended_ = true;
      }
    }
  }

  void told(const Generation& record) { EXPECT_TRUE(written_.contains(record->generation)); }

  CoordinatorOptions options_;
  Dice* dice_;  // does not own; outlives it
  Coordinator coordinator_;
  Instant now_{};
  WorkerId highest_ = 0;
  std::int64_t last_ = 0;
  std::set<WorkerId> started_;
  std::set<std::int64_t> asked_, written_;
  bool ended_ = false;
};

TEST(CoordinatorFuzz, NoEventInAnyStateBreaksIt) {
  std::set<Coordinator::State> seen;
  std::int64_t lived = 0;
  for (std::uint64_t seed = 1; seed <= 10000; ++seed) {
    SCOPED_TRACE(concat("seed ", seed));
    Dice dice(seed);
    Watched coordinator(dice, options_from(dice));
    for (int event = 0; event < 300; ++event) {
      coordinator.next();
      lived += coordinator.state() != Coordinator::State::ended;
      seen.insert(coordinator.state());
    }
    if (testing::Test::HasFailure()) return;
  }
  std::cout << lived << " events before an end\n";
  EXPECT_EQ(seen.size(), 7U) << "not every state was visited";
  EXPECT_GT(lived, 10000 * 100) << "most of them end too soon to see much";
}

}  // namespace
}  // namespace paceline::sim
