// A test for each rule of docs/protocol.md that the coordinator has a part in: the interleaving that the rule
// is for, event by event; and that the simulation finds workers out that break one.
#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>

#include "paceline/base/text.hpp"
#include "script.hpp"
#include "simulation.hpp"

namespace paceline::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using State = Coordinator::State;

constexpr bool reduced = true, not_reduced = false, incomplete = false;

using Donors = std::vector<std::int64_t>;

// ---- P1: generations are files ------------------------------------------------------------------------

TEST(P1, NobodyIsToldBeforeTheRecordIsWritten) {
  Script job(ranks(2));
  job.ready({1, 2});
  EXPECT_EQ(members(job.recorded()), (Workers{1, 2}));
  EXPECT_EQ(job.whom<FormGeneration>(), Workers{});
  job.written();
  EXPECT_EQ(job.whom<FormGeneration>(), (Workers{1, 2}));
}

TEST(P1, WhereARecordExistsAlreadyThisCoordinatorEnds) {
  Script job(ranks(2));
  job.ready({1, 2}).on(RecordWritten{1, RecordWritten::Result::exists, ""});
  EXPECT_NE(job.failure().find("another coordinator"), std::string::npos);
}

TEST(P1, ANumberIsTakenOrFreeBeforeTheNextIsAskedFor) {
  // A planned generation is being recorded when a rank dies. If the next number were taken at once, another
  // coordinator that has taken this one would go unseen.
  Script job(ranks(3));
  job.trains(3).on(ResizeWanted{2});
  EXPECT_EQ(job.recorded().generation, 2);
  job.lost(3).left(1, 1, {4, reduced}).left(2, 1, {4, reduced});
  EXPECT_EQ(job.recorded(), GenerationRecord{});
  Script fenced = job;
  fenced.on(RecordWritten{2, RecordWritten::Result::exists, ""});
  EXPECT_NE(fenced.failure().find("another coordinator"), std::string::npos);
  job.written();
  EXPECT_EQ(job.whom<PrepareGeneration>(), Workers{}) << "it is void";
  EXPECT_EQ(job.recorded().generation, 3);
}

TEST(P1, AFailedAttemptIsMadeAgainWithTheSameRecord) {
  Script job(ranks(1));
  job.ready({1});
  const GenerationRecord first = job.recorded();
  job.on(RecordWritten{1, RecordWritten::Result::failed, "no space"});
  EXPECT_NE(job.find<Announce>(), nullptr);
  job.after(seconds(1));
  EXPECT_EQ(job.recorded(), first);
  for (int i = 0; i < 100 && job.failure().empty(); ++i)
    job.on(RecordWritten{1, RecordWritten::Result::failed, "no space"}).after(seconds(1));
  EXPECT_NE(job.failure(), "") << "there is an end to it";
}

TEST(P1, WhoDiesWhileItIsWrittenIsNoMember) {
  Script job(ranks(3));
  job.trains(3).lost(3).left(1, 1, {4, reduced}).left(2, 1, {4, not_reduced});
  EXPECT_EQ(job.recorded().base_step, 4);
  job.lost(2).written();
  EXPECT_EQ(job.whom<FormGeneration>(), Workers{});
  EXPECT_EQ(members(job.recorded()), (Workers{1}));
  EXPECT_EQ(job.recorded().generation, 3);
  EXPECT_EQ(job.recorded().base_step, 5) << "all who are left hold it";
}

// ---- P2: the state comes from the last recorded generation -----------------------------------------------

TEST(P2, EveryGenerationButTheFirstHasADonor) {
  Script job(ranks(3));
  job.trains(3).lost(1).left(2, 1, {4, reduced}).left(3, 1, {5, not_reduced});
  EXPECT_EQ(job.recorded().donors, (Donors{0, 1}));
  EXPECT_EQ(job.recorded().base_step, 5);
}

TEST(P2, WhoWasLeftOutOfAGenerationIsNoSourceOnceThatHasTrained) {
  // 3 freezes with the commit of step 5 not yet there; the others change to a generation without it and train
  // to step 9, and are lost.
  Script job(ranks(3));
  job.trains(3).on(ResizeWanted{2}).written();
  job.on(WorkerEntered{1, 2}).on(WorkerEntered{2, 2}).on(StepsCommitted{9});
  job.left(3, 1, {4, reduced});
  EXPECT_EQ(job.whom<DismissWorker>(), (Workers{3}));
  job.lost(1).lost(2);
  EXPECT_NE(job.failure().find("no rank is left"), std::string::npos);
}

TEST(P2, AChangeThatNobodyLeftKnowsOfIsNotGuessed) {
  // The same, and nobody has said that it has changed: 3 holds step 5, and the others may have gone further.
  Script job(ranks(3));
  job.trains(3).on(ResizeWanted{2}).written().lost(1).lost(2);
  Script unknown = job;
  unknown.left(3, 1, {4, reduced});
  EXPECT_NE(unknown.failure().find("don't know how far"), std::string::npos);
  // Without the sum of step 5, 3 can't have voted in its commit, so nobody can have changed there.
  job.left(3, 1, {4, not_reduced});
  EXPECT_EQ(members(job.recorded()), (Workers{3}));
}

TEST(P2, WhoIsTooFarBehindTheNewestGenerationIsLeftBehind) {
  Script job(ranks(3));
  job.trains(3).on(ResizeWanted{2}).written().lost(2);
  job.left(3, 1, {4, reduced}).left(1, 2, {9, not_reduced});
  EXPECT_EQ(job.recorded().base_step, 9);
  EXPECT_EQ(members(job.recorded()).front(), 1);
  EXPECT_EQ(job.recorded().donors, (Donors{0}));
  EXPECT_EQ(job.whom<DismissWorker>(), (Workers{3}));
}

// ---- P4: accusing is not evicting ------------------------------------------------------------------------

TEST(P4, WhoIsAccusedGoesOnIfItAnswers) {
  Script job(ranks(2));
  job.trains(2).on(WorkerLeft{1, 1, {4, not_reduced}, "rank 1 did not answer within 10 s"});
  EXPECT_EQ(job.whom<EndWorker>(), Workers{});
  job.left(2, 1, {4, not_reduced});
  EXPECT_EQ(members(job.recorded()), (Workers{1, 2}));
}

TEST(P4, WhoDoesNotAnswerIsEvictedAndIsNotBelievedAfterwards) {
  Script job(ranks(2));
  job.trains(2).left(1, 1, {4, reduced});
  job.after(seconds(61));
  EXPECT_EQ(job.whom<EndWorker>(), (Workers{2}));
  job.left(2, 1, {4, not_reduced}).lost(2);
  EXPECT_EQ(members(job.recorded()), (Workers{1}));
  EXPECT_EQ(job.recorded().base_step, 5) << "what the evicted one says doesn't count";
  job.ready({2}).written();
  EXPECT_EQ(job.whom<FormGeneration>(), (Workers{1})) << "its name is used up";
}

TEST(P4, ARankThatHangsWhileAllConnectDoesNotGetTheOthersKilled) {
  Script job(ranks(3));
  job.ready({1, 2, 3}).written();
  job.after(seconds(91));
  EXPECT_EQ(job.whom<EndWorker>(), Workers{});
  EXPECT_EQ(job.whom<LeaveGeneration>(), (Workers{1, 2, 3}));
  job.left(1, 1, {0, not_reduced}).left(3, 1, {0, not_reduced}).after(seconds(61));
  EXPECT_EQ(job.whom<EndWorker>(), (Workers{2}));
  EXPECT_EQ(members(job.lost(2).recorded()), (Workers{1, 3}));
}

// ---- P6: reports are frozen ------------------------------------------------------------------------------

TEST(P6, NothingIsSettledBeforeAllHaveLeft) {
  Script job(ranks(3));
  job.trains(3).lost(3);
  EXPECT_EQ(job.whom<LeaveGeneration>(), (Workers{1, 2}));
  job.left(1, 1, {4, reduced});
  EXPECT_EQ(job.recorded(), GenerationRecord{}) << "2 may still apply step 5, or not";
  job.left(2, 1, {5, not_reduced});
  EXPECT_EQ(job.recorded().base_step, 5);
}

TEST(P6, WhatIsSaidOfAnOlderGenerationDoesNotCount) {
  Script job(ranks(3));
  job.trains(3).lost(3).left(1, 1, {4, reduced}).left(2, 1, {4, not_reduced}).written().entered({1, 2});
  job.lost(2);
  job.left(1, 1, {4, reduced});  // sent once more after a reconnect: it has discarded that since
  EXPECT_EQ(job.recorded(), GenerationRecord{});
  job.left(1, 2, {4, not_reduced});
  EXPECT_EQ(job.recorded().base_step, 4);
}

TEST(P6, AReportBeforeTheRepairIsKept) {
  Script job(ranks(3));
  job.trains(3).on(ResizeWanted{2}).written().on(WorkerEntered{1, 2});
  // 2's commit has failed, so it never came to generation 2, and says so before anyone asks.
  job.left(2, 1, {4, reduced});
  EXPECT_EQ(job.whom<LeaveGeneration>(), (Workers{1}));
  job.left(1, 2, {5, not_reduced});
  EXPECT_EQ(job.recorded().base_step, 5);
  EXPECT_EQ(members(job.recorded()), (Workers{1, 2}));
}

// ---- P7: who counts --------------------------------------------------------------------------------------

TEST(P7, AJoinerBetweenOneThatAppliedAndOneThatReduced) {
  Script job(ranks(4));
  job.trains(4)
      .lost(4)
      .left(1, 1, {4, not_reduced})
      .left(2, 1, {4, not_reduced})
      .left(3, 1, {4, not_reduced});
  job.written().entered({1, 2, 3}).ready({5}).written();
  EXPECT_EQ(job.whom<FormGeneration>(), (Workers{5}));
  // The ranks train in generation 2. 3 dies in the commit of step 8: 1 has its result, 2 has not, and 5,
  // which has received nothing yet, has applied less than either.
  job.lost(3).left(1, 2, {8, not_reduced}).left(5, 3, {0, not_reduced, incomplete}).left(2, 2, {7, reduced});
  EXPECT_EQ(job.recorded().base_step, 8);
  EXPECT_EQ(members(job.recorded()), (Workers{1, 2, 5}));
  EXPECT_EQ(job.recorded().donors, (Donors{0, 1}));
}

TEST(P7, OneHasChangedWithTheCommitThatTheOtherMissed) {
  Script job(ranks(2));
  job.trains(2).on(ResizeWanted{3}).ready({3}).written().lost(3);
  job.on(WorkerLeft{2, 1, {7, reduced}, "rank 0 is gone"}).left(1, 2, {8, not_reduced});
  EXPECT_EQ(job.recorded().base_step, 8);
  EXPECT_EQ(job.recorded().donors, (Donors{0, 1}));
}

// ---- P8: joiners and prepared generations
// ------------------------------------------------------------------

TEST(P8, AJoinerThatHasNotReceivedAllIsNoSource) {
  Script job(ranks(2));
  job.trains(2).on(ResizeWanted{3}).ready({3}).written().on(WorkerEntered{1, 2});
  job.lost(1).lost(2).left(3, 2, {4, not_reduced, incomplete});
  EXPECT_NE(job.failure().find("no rank is left"), std::string::npos);
}

TEST(P8, AJoinerThatHasReceivedAllIsOne) {
  Script job(ranks(2));
  job.trains(2).on(ResizeWanted{3}).ready({3}).written().lost(1).lost(2).left(3, 2, {4, not_reduced});
  EXPECT_EQ(members(job.recorded()).front(), 3);
  EXPECT_EQ(job.recorded().base_step, 4);
}

TEST(P8, AJoinerThatWasInterruptedJoinsTheNext) {
  Script job(ranks(2));
  job.trains(2).lost(2).ready({3}).left(1, 1, {4, not_reduced}).written();
  EXPECT_EQ(job.whom<FormGeneration>(), (Workers{1, 3}));
  job.left(1, 2, {4, not_reduced}).left(3, 2, {0, not_reduced, incomplete});
  EXPECT_EQ(members(job.recorded()), (Workers{1, 3}));
  EXPECT_EQ(job.recorded().donors, (Donors{0}));
}

TEST(P8, APreparedGenerationIsVoidOnceAHigherOneIsRecorded) {
  Script job(ranks(2));
  job.trains(2).on(ResizeWanted{3}).ready({3}).written();
  EXPECT_EQ(job.whom<PrepareGeneration>(), (Workers{1, 2}));
  job.lost(2).left(1, 1, {4, reduced}).left(3, 2, {0, not_reduced, incomplete});
  EXPECT_EQ(job.recorded().generation, 3);
  job.written();
  job.on(WorkerEntered{3, 2}).left(3, 2, {9, not_reduced});  // late
  EXPECT_EQ(job.state(), State::running);
  EXPECT_EQ(job.coordinator().generation()->generation, 3);
}

TEST(P8, AGenerationThatIsGivenUpMayHaveBegunAllTheSame) {
  // The joiner dies, the ranks are told to forget it, and have changed before they read that.
  Script job(ranks(2));
  job.trains(2).on(ResizeWanted{3}).ready({3}).written().lost(3);
  EXPECT_EQ(job.whom<AbandonGeneration>(), (Workers{1, 2}));
  Script said_so = job;
  said_so.on(WorkerEntered{1, 2});
  EXPECT_EQ(said_so.whom<LeaveGeneration>(), (Workers{1, 2}));
  job.left(1, 2, {5, not_reduced}).left(2, 2, {5, not_reduced});
  EXPECT_EQ(job.recorded().base_step, 5);
  EXPECT_EQ(members(job.recorded()), (Workers{1, 2}));
  EXPECT_EQ(job.recorded().generation, 3);
}

TEST(P8, TheOtherJoinersOfAGenerationThatIsGivenUpJoinTheNext) {
  Script job(ranks(1));
  job.trains(1).on(ResizeWanted{3}).ready({2, 3}).written().lost(3);
  EXPECT_EQ(job.whom<LeaveGeneration>(), (Workers{2}));
  EXPECT_EQ(job.whom<EndWorker>(), Workers{});
  job.left(2, 2, {0, not_reduced, incomplete}).ready({4});
  EXPECT_EQ(job.recorded(), GenerationRecord{})
      << "not at once, or two that can't reach each other would try forever";
  job.after(seconds(10));
  EXPECT_EQ(members(job.recorded()), (Workers{1, 2, 4}));
}

// ---- P11: a step that is done again and again
// --------------------------------------------------------------

TEST(P11, AStepDoneAgainThreeTimesEndsTheJob) {
  Script job(ranks(8));
  job.trains(8);
  Workers left = {1, 2, 3, 4, 5, 6, 7, 8};
  for (std::int64_t generation = 1; generation <= 4; ++generation) {
    ASSERT_EQ(job.failure(), "");
    job.lost(left.back());
    left.pop_back();
    for (const WorkerId id : left) job.left(id, generation, {4, not_reduced});
    if (generation <= 3) job.written().entered(left);
  }
  EXPECT_NE(job.failure().find("step 5 was begun 4 times"), std::string::npos) << job.failure();
}

TEST(P11, AStepThatIsRolledForwardIsNotDoneAgain) {
  Script job(ranks(8));
  job.trains(8);
  Workers left = {1, 2, 3, 4, 5, 6, 7, 8};
  for (std::int64_t generation = 1; generation <= 6; ++generation) {
    job.lost(left.back());
    left.pop_back();
    for (const WorkerId id : left) job.left(id, generation, {3 + generation, reduced});
    job.written().entered(left);
  }
  EXPECT_EQ(job.state(), State::running);
}

TEST(P11, RanksLostDuringOneRepairAreOneAttempt) {
  Script job(ranks(8));
  job.trains(8).lost(8);
  for (WorkerId id = 1; id <= 7; ++id) job.left(id, 1, {4, not_reduced});
  for (const WorkerId id : {7, 6, 5, 4, 3, 2}) job.lost(id).written();  // while each record is written
  EXPECT_EQ(job.recorded().generation, 8);
  job.written();
  EXPECT_EQ(job.whom<FormGeneration>(), (Workers{1}));
}

TEST(P11, RanksThatCannotEvenConnectDoNotTryForever) {
  Script job(ranks(2));
  job.ready({1, 2}).written();
  std::int64_t generation = 1;
  for (; generation <= 50 && job.failure().empty(); ++generation) {
    job.left(1, generation, {0, not_reduced}).left(2, generation, {0, not_reduced});
    if (job.failure().empty()) job.written();
  }
  EXPECT_NE(job.failure().find("could not begin to train"), std::string::npos) << job.failure();
  EXPECT_GT(generation, 5);
}

// ---- P12: who may still write
// ------------------------------------------------------------------------------

TEST(P12, NoNewGenerationBeforeAnEvictedPeerIsDead) {
  Script job(ranks(3));
  job.trains(3).left(1, 1, {4, reduced}).left(2, 1, {4, reduced}).after(seconds(61));
  EXPECT_EQ(job.whom<EndWorker>(), (Workers{3}));
  EXPECT_EQ(job.recorded(), GenerationRecord{}) << "it may thaw and write before the signal is there";
  Script vanished = job;
  job.lost(3);
  EXPECT_EQ(members(job.recorded()), (Workers{1, 2}));
  vanished.after(seconds(31));
  EXPECT_EQ(members(vanished.recorded()), (Workers{1, 2})) << "its agent doesn't answer either";
}

// ---- P15, P16: the vote on a change
// ------------------------------------------------------------------------

Setting quiet(std::uint64_t seed) {
  Setting setting;
  setting.seed = seed;
  setting.job = ranks(3, 1, 6);
  setting.steps = 120;
  setting.resizes = 5;
  setting.entered_early = seed % 2 == 0;
  return setting;
}

TEST(P15, AllChangeAtOneCommitAndNothingIsInterrupted) {
  std::int64_t resizes = 0;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    const Outcome outcome = Simulation(quiet(seed)).run();
    ASSERT_EQ(outcome.violation, "") << seed;
    ASSERT_EQ(outcome.status, "completed") << seed;
    ASSERT_EQ(outcome.repairs, 0) << seed;
    resizes += outcome.resizes;
  }
  EXPECT_GT(resizes, 100);
}

// ---- the simulation finds out who breaks a rule -----------------------------------------------------

/// One rank or two, which change and die while there is no coordinator.
Setting unwatched(std::uint64_t seed) {
  Setting setting;
  setting.seed = seed;
  setting.job.max_ranks = 2;
  setting.job.wish = 1;
  setting.steps = 3000;
  setting.compute = milliseconds(5);
  setting.resizes = 40;
  setting.crashes = setting.kills = 20;
  return setting;
}

std::string found_out(Bug bug) {
  for (std::uint64_t seed = 1; seed <= 5000; ++seed) {
    Setting setting = Setting::random(seed);
    setting.resizes = setting.eager_kills = 8;
    if (bug == Bug::breaks_its_promise || bug == Bug::votes_after_its_report) {
      // A matter of the moment between a vote and its result.
      setting.job.wish = setting.job.max_ranks = 12;
      setting.compute = milliseconds(5);
      setting.steps = 400;
      setting.resizes = setting.eager_kills = 40;
      setting.eager_chances = bug == Bug::breaks_its_promise ? 10 : 3;
    }
    if (bug == Bug::joins_without_the_log || bug == Bug::log_after_the_state) setting = unwatched(seed);
    setting.bug = bug;
    const Outcome outcome = Simulation(setting).run();
    if (outcome.violation.empty()) continue;
    std::cout << "seed " << seed << ", " << outcome.violation << "\n";
    return outcome.violation;
  }
  return "";
}

TEST(P6, TheSimulationFindsAWorkerThatReportsAndStillVotes) {
  EXPECT_NE(found_out(Bug::votes_after_its_report), "");
}
TEST(P7, TheSimulationFindsAWorkerThatForgetsWhatItHoldsReduced) {
  EXPECT_NE(found_out(Bug::forgets_what_is_reduced), "");
}
TEST(P7, TheSimulationFindsAWorkerThatUsesSumsOfAnOlderGeneration) {
  EXPECT_NE(found_out(Bug::redoes_with_old_sums), "");
}
TEST(P8, TheSimulationFindsAWorkerThatGivesWhatItHasNot) {
  EXPECT_NE(found_out(Bug::gives_what_it_has_not), "");
}
TEST(P8, TheSimulationFindsAJoinerThatLacksWhatTheJournalLacks) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed)
    EXPECT_EQ(Simulation(unwatched(seed)).run().violation, "");
  EXPECT_NE(found_out(Bug::joins_without_the_log), "");
  EXPECT_NE(found_out(Bug::log_after_the_state), "");
}
TEST(P15, TheSimulationFindsAWorkerThatBreaksItsPromise) {
  EXPECT_NE(found_out(Bug::breaks_its_promise), "");
}

}  // namespace
}  // namespace paceline::sim
