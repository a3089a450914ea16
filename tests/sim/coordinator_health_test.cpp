// Workers that are there in name only: that are silent, or get nowhere while the others wait for them. Event
// by event, and in whole jobs.
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

#include "script.hpp"
#include "simulation.hpp"

namespace paceline::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using State = Coordinator::State;

using Ids = std::set<WorkerId>;

constexpr bool reduced = true;

/// A job whose workers send heartbeats.
class Beating {
 public:
  explicit Beating(CoordinatorOptions options) : job(options) {}

  Beating& does(const Workers& workers, std::int64_t step, WorkPhase phase) {
    for (const WorkerId id : workers) {
      parts_[id] = {step, phase, job.now()};
      quiet_.erase(id);
      beat(id);
    }
    return *this;
  }
  /// Nothing is heard of it from now on.
  Beating& silent(const Workers& workers) {
    quiet_.insert(workers.begin(), workers.end());
    return *this;
  }
  /// Again, and they are where they were.
  Beating& awake(const Workers& workers) {
    for (const WorkerId id : workers) quiet_.erase(id);
    return *this;
  }
  /// One second after the other. What is wanted in it is kept.
  Beating& pass(Duration time) {
    for (Duration passed{}; passed < time; passed += seconds(1)) {
      job.after(seconds(1));
      for (const WorkerId id : job.whom<EndWorker>()) ended.insert(id);
      for (const WorkerId id : job.whom<LeaveGeneration>()) told_to_leave.insert(id);
      announced += job.announced();
      for (const auto& [id, part] : parts_)
        if (!quiet_.contains(id)) beat(id);
    }
    return *this;
  }

  Script job;
  Ids ended, told_to_leave;
  std::string announced;

 private:
  struct Part {
    std::int64_t step;
    WorkPhase phase;
    Instant since;
  };
  void beat(WorkerId id) {
    const Part& part = parts_.at(id);
    job.on(WorkerHeartbeat{id, part.step, part.phase, job.now() - part.since});
  }
  std::map<WorkerId, Part> parts_;
  Ids quiet_;
};

Beating three_ranks() {
  Beating ranks_of_three(ranks(3));
  ranks_of_three.job.trains(3);
  ranks_of_three.does({1, 2, 3}, 1, WorkPhase::data);
  return ranks_of_three;
}

// ---- silence ------------------------------------------------------------------------------------------

TEST(Silence, ARankThatIsSilentIsEndedAndTheOthersGoOn) {
  Beating all = three_ranks();
  all.pass(minutes(2));
  EXPECT_EQ(all.ended, Ids{});
  all.silent({3}).pass(seconds(4));
  EXPECT_EQ(all.ended, Ids{});
  all.pass(seconds(3));
  EXPECT_EQ(all.ended, Ids{3});
  EXPECT_EQ(all.told_to_leave, (Ids{1, 2}));
  EXPECT_NE(all.announced.find("worker 3 (rank 2 on node n) has not been heard of for 5 s, and is ended"),
            std::string::npos)
      << all.announced;
  all.job.left(1, 1, {4, reduced}).left(2, 1, {4, reduced});
  EXPECT_EQ(all.job.recorded(), GenerationRecord{}) << "it may write to shared memory until it is dead (P12)";
  EXPECT_EQ(members(all.job.lost(3).recorded()), (Workers{1, 2}));
  EXPECT_NE(all.job.recorded().reason.find("not been heard of"), std::string::npos);
}

TEST(Silence, NothingIsConcludedAboutOneThatNeverSentAHeartbeat) {
  Script job(ranks(3));
  job.trains(3);
  EXPECT_EQ(job.coordinator().wake(), std::nullopt);
  EXPECT_EQ(job.after(minutes(60)).whom<EndWorker>(), Workers{});
  Beating mixed = three_ranks();
  mixed.silent({1, 2, 3}).pass(seconds(4));
  EXPECT_EQ(mixed.ended, Ids{});
}

TEST(Silence, TheLastToHoldTheStateIsWaitedFor) {
  Beating all = three_ranks();
  all.silent({1, 2, 3}).pass(minutes(5));
  EXPECT_EQ(all.ended, Ids{}) << "whoever stopped them all may let them go on";
  EXPECT_EQ(
      all.announced.find("worker 1 (rank 0 on node n) has not been heard of for 5 s, and is waited for"),
      all.announced.rfind("worker 1 ("))
      << "said once, and not: " << all.announced;
  all.awake({2}).pass(seconds(4));
  EXPECT_EQ(all.ended, Ids{}) << "the others may be about to go on too";
  all.pass(seconds(3));
  EXPECT_EQ(all.ended, (Ids{1, 3})) << "one of them is enough";
}

TEST(Silence, ThoseWhoFallSilentTogetherAreWaitedForThoughTheLooksComeBetween) {
  Beating all = three_ranks();
  // Whoever is stopped, it is all of them, as where their agent is; the last heartbeats are some apart.
  all.silent({1, 2});
  all.job.after(milliseconds(300));
  all.job.on(WorkerHeartbeat{3, 1, WorkPhase::data, {}});
  all.silent({3}).pass(minutes(1));
  EXPECT_EQ(all.ended, Ids{});
}

TEST(Silence, ARankThatTrainsButWasNeverHeardIsEnded) {
  Beating all(ranks(3));
  all.job.trains(3);
  all.does({1, 2}, 1, WorkPhase::waits).pass(seconds(5));
  EXPECT_EQ(all.ended, Ids{}) << "its first heartbeat may be on the way";
  all.pass(seconds(5));
  EXPECT_EQ(all.ended, Ids{3});
}

TEST(Silence, ARankThatWasNeverHeardIsNoReasonToGiveUpTheOthers) {
  Beating all(ranks(3));
  all.job.trains(3);
  all.does({1, 2}, 1, WorkPhase::data).silent({1, 2}).pass(minutes(1));
  EXPECT_EQ(all.ended, Ids{}) << "all were stopped before it could say anything";
}

TEST(Silence, ACoordinatorThatStoodStillItselfAccusesNobody) {
  Beating all = three_ranks();
  all.pass(seconds(5));
  all.job.after(seconds(60));
  EXPECT_EQ(all.job.whom<EndWorker>(), Workers{});
  all.silent({3}).pass(seconds(4));
  EXPECT_EQ(all.ended, Ids{}) << "it is given the time anew";
  all.pass(seconds(3));
  EXPECT_EQ(all.ended, Ids{3});
}

TEST(Silence, OneThatFreezesWhileItStartsIsReplaced) {
  Beating all = three_ranks();
  all.job.on(ResizeWanted{4});
  all.does({4}, 0, WorkPhase::other).pass(seconds(60)).silent({4}).pass(seconds(7));
  EXPECT_EQ(all.ended, Ids{4});
  EXPECT_EQ(all.job.state(), State::running);
  EXPECT_NE(all.job.ready({5}).recorded(), GenerationRecord{}) << "5 was started for it";
}

TEST(Silence, AJoinerThatFreezesDoesNotHoldTheOthersUp) {
  Beating all = three_ranks();
  all.job.on(ResizeWanted{4}).ready({4}).written();
  EXPECT_EQ(all.job.state(), State::preparing);
  all.does({4}, 0, WorkPhase::other).pass(seconds(2)).silent({4}).pass(seconds(7));
  EXPECT_EQ(all.ended, Ids{4});
  EXPECT_EQ(all.told_to_leave, Ids{});
  EXPECT_EQ(all.job.state(), State::running);
}

TEST(Silence, OneThatFreezesBeforeItReportsIsNotWaitedForAMinute) {
  Beating all = three_ranks();
  all.job.lost(1).left(2, 1, {4, reduced});
  all.silent({1, 3}).pass(seconds(7));
  EXPECT_EQ(all.ended, Ids{3});
  EXPECT_EQ(members(all.job.lost(3).recorded()), Workers{2});
}

// ---- progress -----------------------------------------------------------------------------------------

TEST(Progress, ARankThatGetsNowhereWhileTheOthersWaitIsEndedWithTheCause) {
  Beating all = three_ranks();
  all.does({1, 2}, 1, WorkPhase::compute).does({1, 2}, 1, WorkPhase::waits).pass(seconds(29));
  EXPECT_EQ(all.ended, Ids{});
  all.pass(seconds(3));
  EXPECT_EQ(all.ended, Ids{3});
  EXPECT_EQ(all.told_to_leave, (Ids{1, 2}));
  EXPECT_NE(
      all.announced.find("worker 3 (rank 2 on node n) has been reading data for 30 s at step 1, while 2 "
                         "of 3 ranks wait for it, and is ended"),
      std::string::npos)
      << all.announced;
}

TEST(Progress, WhereAllAreSlowNobodyIsToBlame) {
  for (const WorkPhase phase : {WorkPhase::data, WorkPhase::compute, WorkPhase::evaluate}) {
    Beating all = three_ranks();
    all.does({1, 2, 3}, 2, phase).pass(minutes(10));
    EXPECT_EQ(all.ended, Ids{});
  }
}

TEST(Progress, WhatTookTheOthersLongMayTakeARankLonger) {
  Beating all = three_ranks();
  all.pass(seconds(20)).does({1, 2}, 1, WorkPhase::compute).does({1, 2}, 1, WorkPhase::waits);
  all.pass(seconds(78));
  EXPECT_EQ(all.ended, Ids{}) << "98 s, and the others took 20";
  all.pass(seconds(4));
  EXPECT_EQ(all.ended, Ids{3});
}

TEST(Progress, ManyShortPartsAreNoReasonToWaitForALongOne) {
  Beating all = three_ranks();
  for (std::int64_t step = 2; step < 40; ++step)
    all.does({1, 2, 3}, step, WorkPhase::data).pass(seconds(1)).does({1, 2, 3}, step, WorkPhase::waits);
  all.does({1, 2, 3}, 40, WorkPhase::data).pass(seconds(1)).does({1, 2}, 40, WorkPhase::waits);
  all.pass(seconds(32));
  EXPECT_EQ(all.ended, Ids{3});
}

TEST(Progress, WhoWaitsIsNeverToBlame) {
  Beating all = three_ranks();
  all.does({1, 2, 3}, 1, WorkPhase::waits).pass(minutes(4));
  EXPECT_EQ(all.ended, Ids{}) << "a collective that doesn't end has a limit of its own";
  all.does({3}, 1, WorkPhase::compute).pass(seconds(20));
  EXPECT_EQ(all.ended, Ids{}) << "1 and 2 wait for long, and 3 has just begun";
}

TEST(Progress, MostOfThemAreNotToBlameForWhatOneIsThroughWith) {
  Beating all = three_ranks();
  all.does({1}, 1, WorkPhase::waits).pass(minutes(4));
  EXPECT_EQ(all.ended, Ids{});
}

TEST(Progress, HalfOfThemCanBe) {
  Beating all(ranks(4));
  all.job.trains(4);
  all.does({1, 2, 3, 4}, 7, WorkPhase::compute).does({1, 3}, 7, WorkPhase::waits).pass(seconds(32));
  EXPECT_EQ(all.ended, (Ids{2, 4}));
  EXPECT_EQ(all.job.coordinator().state(), State::repairing);
}

TEST(Progress, WhoWaitsForAnEarlierStepDoesNotWaitForThis) {
  // What 1 and 2 said is old: they are about to say that they are at step 2 as well.
  Beating all = three_ranks();
  all.does({1, 2}, 1, WorkPhase::waits).does({3}, 2, WorkPhase::data).pass(seconds(40));
  EXPECT_EQ(all.ended, Ids{});
}

TEST(Progress, TimeInWhichARankStoodStillDoesNotCount) {
  Beating all = three_ranks();
  all.does({1, 2}, 1, WorkPhase::waits).silent({1, 2, 3}).pass(minutes(5));
  all.awake({1, 2, 3}).pass(seconds(25));
  EXPECT_EQ(all.ended, Ids{}) << "somebody had stopped them all, and let them go on";
  all.pass(seconds(8));
  EXPECT_EQ(all.ended, Ids{3});
}

TEST(Progress, WhatARankDoesForTheOthersMayTakeItsTime) {
  Beating all = three_ranks();
  all.does({1}, 9, WorkPhase::other).does({2, 3}, 9, WorkPhase::waits).pass(minutes(10));
  EXPECT_EQ(all.ended, Ids{}) << "it saves the model";
}

TEST(Progress, OneRankAloneIsNeverTooSlow) {
  Beating one(ranks(1));
  one.job.trains(1);
  one.does({1}, 1, WorkPhase::data).pass(minutes(10));
  EXPECT_EQ(one.ended, Ids{});
}

// ---- collectives that hang -----------------------------------------------------------------------------

/// A job that has come to wait in step 5, having waited so long in each before.
Beating all_wait(Duration in_each) {
  Beating all = three_ranks();
  for (std::int64_t step = 2; step < 5; ++step) {
    all.does({1, 2, 3}, step, WorkPhase::compute).does({1, 2, 3}, step, WorkPhase::waits).pass(in_each);
    all.job.on(StepsCommitted{step});
  }
  all.does({1, 2, 3}, 5, WorkPhase::compute).does({1, 2, 3}, 5, WorkPhase::waits);
  return all;
}

TEST(Hang, WhereAllWaitForEachOtherTheyBeginAnew) {
  Beating all = all_wait(seconds(1));
  all.pass(seconds(29));
  EXPECT_EQ(all.told_to_leave, Ids{});
  all.pass(seconds(3));
  EXPECT_EQ(all.told_to_leave, (Ids{1, 2, 3}));
  EXPECT_EQ(all.ended, Ids{}) << "nobody is to blame";
  EXPECT_NE(all.announced.find("all 3 ranks have waited for each other for 30 s at step 5"),
            std::string::npos)
      << all.announced;
  for (const WorkerId id : {1, 2, 3}) all.job.left(id, 1, {4});
  EXPECT_EQ(members(all.job.recorded()), (Workers{1, 2, 3}));
}

TEST(Hang, SumsThatAlwaysTakeLongMayTakeLonger) {
  Beating all = all_wait(seconds(20));
  all.pass(seconds(98));
  EXPECT_EQ(all.told_to_leave, Ids{});
  all.pass(seconds(4));
  EXPECT_EQ(all.told_to_leave, (Ids{1, 2, 3}));
}

TEST(Hang, OneThatDoesAnythingElseIsWaitedFor) {
  for (const WorkPhase phase : {WorkPhase::compute, WorkPhase::other}) {
    Beating all = all_wait(seconds(1));
    all.does({2}, 5, phase).pass(seconds(28));
    EXPECT_EQ(all.told_to_leave, Ids{});
  }
}

TEST(Hang, TheFirstSumsMayTakeAnyTime) {
  Beating all = three_ranks();
  all.does({1, 2, 3}, 1, WorkPhase::waits).pass(minutes(4));
  EXPECT_EQ(all.told_to_leave, Ids{});
}

TEST(Hang, ThoseOfANewGenerationToo) {
  Beating all = all_wait(seconds(1));
  all.pass(seconds(32));
  for (const WorkerId id : {1, 2, 3}) all.job.left(id, 1, {4});
  all.job.written();
  for (const WorkerId id : {1, 2, 3}) all.job.on(WorkerEntered{id, 2});
  ASSERT_EQ(all.job.state(), State::running);
  all.told_to_leave.clear();
  all.does({1, 2, 3}, 5, WorkPhase::compute).does({1, 2, 3}, 5, WorkPhase::waits).pass(minutes(4));
  EXPECT_EQ(all.told_to_leave, Ids{}) << "what didn't help once has a limit of its own";
}

// ---- whole jobs ---------------------------------------------------------------------------------------

Setting calm_job(std::uint64_t seed) {
  Setting setting;
  setting.seed = seed;
  setting.job = ranks(3, 1, 3);
  setting.steps = 300;
  setting.data_timeout = minutes(5);
  return setting;
}

TEST(HealthOfAJob, FrozenRanksAreReplaced) {
  std::int64_t repairs = 0;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    Setting setting = calm_job(seed);
    setting.freezes = 2;
    const Outcome outcome = Simulation(setting).run();
    ASSERT_EQ(outcome.violation, "") << seed;
    ASSERT_EQ(outcome.status, "completed") << seed;
    repairs += outcome.repairs;
  }
  EXPECT_GT(repairs, 50);
}

TEST(HealthOfAJob, RanksThatHangAreReplaced) {
  std::int64_t repairs = 0;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    Setting setting = calm_job(seed);
    setting.hangs = 2;
    const Outcome outcome = Simulation(setting).run();
    ASSERT_EQ(outcome.violation, "") << seed;
    ASSERT_EQ(outcome.status, "completed") << seed;
    repairs += outcome.repairs;
  }
  EXPECT_GT(repairs, 50);
}

TEST(HealthOfAJob, SumsThatHangAreDoneAgainLongBeforeTheirOwnLimit) {
  std::int64_t repairs = 0, late = 0;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    Setting setting = calm_job(seed);
    setting.hung_sums = 2;
    const Outcome outcome = Simulation(setting).run();
    ASSERT_EQ(outcome.violation, "") << seed;
    ASSERT_EQ(outcome.status, "completed") << seed;
    repairs += outcome.repairs;
    if (outcome.lasted > setting.data_timeout) ++late;
  }
  EXPECT_GT(repairs, 100);
  EXPECT_LE(late, 5) << "of 200, in which the first sums of a generation have hung";
}

TEST(HealthOfAJob, AStepThatIsSlowForAllIsNobodysFault) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    Setting setting = calm_job(seed);
    setting.slow_step = 1 + static_cast<std::int64_t>(seed);
    const Outcome outcome = Simulation(setting).run();
    ASSERT_EQ(outcome.violation, "") << seed;
    ASSERT_EQ(outcome.status, "completed") << seed;
    ASSERT_EQ(outcome.repairs, 0) << seed;
  }
}

}  // namespace
}  // namespace paceline::sim
