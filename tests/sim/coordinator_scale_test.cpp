// What the coordinator's decisions cost as a job grows: counted, and measured with the processor's time.
#include <gtest/gtest.h>

#include <algorithm>
#include <ctime>
#include <deque>
#include <iostream>

#include "paceline/base/text.hpp"
#include "paceline/sched/coordinator.hpp"

namespace paceline {
namespace {

using std::chrono::microseconds;

double cpu_ms() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
}

struct Cost {
  std::int64_t events = 0, effects = 0;
  double ms = 0;
};

/// A coordinator whose workers answer at once, so that its own work is all there is.
class Job {
 public:
  explicit Job(std::int64_t ranks) : coordinator_(options(ranks)) { take(coordinator_.begin(now_)); }

  Cost forms() {
    return measured([] {});
  }
  /// So many die at the same moment.
  Cost loses(std::int64_t ranks) {
    return measured([this, ranks] {
      const auto& members = coordinator_.generation()->members;
      for (std::int64_t i = 0; i < ranks; ++i)
        events_.push_back(
            WorkerLost{members[members.size() - 1 - static_cast<std::size_t>(i)].worker, "died"});
    });
  }
  Cost resizes(std::int64_t ranks) {
    return measured([this, ranks] { events_.push_back(ResizeWanted{ranks}); });
  }
  /// For ten seconds ten heartbeats of each rank in each of them.
  Cost beats() {
    Cost cost;
    for (int tenth = 0; tenth < 100; ++tenth) {
      now_ += std::chrono::milliseconds(100);
      const double before = cpu_ms();
      CoordinatorEffects effects;
      if (const auto wake = coordinator_.wake(); wake && now_ >= *wake)
        effects = coordinator_.on(Tick{}, now_);
      for (const GenerationMember& member : coordinator_.generation()->members) {
        const WorkPhase phase = member.worker % 2 == 0 ? WorkPhase::waits : WorkPhase::data;
        effects = coordinator_.on(WorkerHeartbeat{member.worker, 8, phase, {}}, now_);
        std::ignore = coordinator_.wake();
        ++cost.events;
      }
      cost.ms += cpu_ms() - before;
      cost.effects += std::ssize(effects);
    }
    return cost;
  }
  [[nodiscard]] const Coordinator& coordinator() const { return coordinator_; }

 private:
  static CoordinatorOptions options(std::int64_t ranks) {
    CoordinatorOptions options;
    options.wish = options.max_ranks = ranks;
    return options;
  }

  template <class Begin>
  Cost measured(Begin begin) {
    cost_ = {};
    begin();
    while (!events_.empty() || due()) {
      const CoordinatorEvent event = events_.empty() ? CoordinatorEvent(Tick{}) : events_.front();
      if (events_.empty())
        now_ = *coordinator_.wake();
      else
        events_.pop_front();
      now_ += microseconds(1);
      const double before = cpu_ms();
      const CoordinatorEffects effects = coordinator_.on(event, now_);
      std::ignore = coordinator_.wake();
      cost_.ms += cpu_ms() - before;
      ++cost_.events;
      take(effects);
    }
    return cost_;
  }
  /// Joiners that are ready wait for a moment.
  [[nodiscard]] bool due() const {
    const auto wake = coordinator_.wake();
    return wake && *wake - now_ < std::chrono::seconds(20);
  }

  void take(const CoordinatorEffects& effects) {
    cost_.effects += std::ssize(effects);
    for (const CoordinatorEffect& effect : effects)
      std::visit([this](const auto& one) { answer(one); }, effect);
  }
  void answer(const StartWorker& effect) { events_.push_back(WorkerReady{{effect.worker, "n", "h", 1}}); }
  void answer(const RecordGeneration& effect) {
    events_.push_back(RecordWritten{effect.record->generation, RecordWritten::Result::written, ""});
  }
  void answer(const FormGeneration& effect) {
    events_.push_back(WorkerEntered{effect.worker, effect.record->generation});
  }
  void answer(const PrepareGeneration& effect) {
    const bool stays = std::ranges::any_of(effect.record->members, [&](const GenerationMember& member) {
      return member.worker == effect.worker;
    });
    if (stays)
      events_.push_back(WorkerEntered{effect.worker, effect.record->generation});
    else
      events_.push_back(WorkerLost{effect.worker, "exited with status 0"});
  }
  void answer(const LeaveGeneration& effect) {
    const Standing standing{7, true, true};
    events_.push_back(WorkerLeft{effect.worker, coordinator_.generation()->generation, standing, ""});
  }
  template <class Effect>
  void answer(const Effect&) {}

  Instant now_{};
  Coordinator coordinator_;
  std::deque<CoordinatorEvent> events_;
  Cost cost_;
};

void print(std::int64_t ranks, const char* what, const Cost& cost) {
  std::cout << concat(ranks, " ranks, ", what, ": ", cost.events, " events, ", cost.effects, " effects, ",
                      cost.ms, " ms of one core\n");
}

struct Costs {
  Cost form, repair, repair_of_a_third, beats;
};

Costs costs_of(std::int64_t ranks) {
  Job job(ranks);
  Costs costs;
  costs.form = job.forms();
  EXPECT_EQ(std::ssize(job.coordinator().generation()->members), ranks);
  costs.repair = job.loses(1);
  EXPECT_EQ(std::ssize(job.coordinator().generation()->members), ranks) << "another has joined";
  EXPECT_EQ(job.coordinator().repairs(), 1);
  costs.repair_of_a_third = job.loses(ranks / 3);
  EXPECT_EQ(job.coordinator().repairs(), 2) << "many deaths at once are one repair";
  print(ranks, "forming", costs.form);
  print(ranks, "a rank lost and replaced", costs.repair);
  print(ranks, "a third lost and replaced", costs.repair_of_a_third);
  Job talks = job;
  costs.beats = talks.beats();
  print(ranks, "heartbeats of ten seconds", costs.beats);
  EXPECT_EQ(costs.beats.effects, 0);
  print(ranks, "half as many by choice", job.resizes(ranks / 2));
  EXPECT_EQ(std::ssize(job.coordinator().generation()->members), ranks / 2);
  EXPECT_EQ(job.coordinator().repairs(), 2);
  return costs;
}

TEST(CoordinatorScale, AThousandRanks) {
  costs_of(10);
  const Costs some = costs_of(100);
  const Costs many = costs_of(1000);
  EXPECT_LT(many.form.ms, 5000);
  // Ten times the ranks are ten times the messages, and no more.
  EXPECT_LE(many.form.events, 12 * some.form.events);
  EXPECT_LE(many.repair.events, 12 * some.repair.events);
  EXPECT_LE(many.repair.effects, 12 * some.repair.effects);
  EXPECT_LE(many.repair_of_a_third.effects, 12 * some.repair_of_a_third.effects);
  // Milliseconds on any machine. What a search through all members for each of them makes of it is printed
  // above.
  EXPECT_LT(many.repair.ms, 2000);
  EXPECT_LT(many.repair_of_a_third.ms, 2000);
  EXPECT_EQ(many.beats.events, 100'000);
  EXPECT_LT(many.beats.ms, 5000) << "half a core for nothing but heartbeats";
}

}  // namespace
}  // namespace paceline
