// Who is started, awaited and given up: the rules about workers as such, event by event.
#include <gtest/gtest.h>

#include <string>

#include "script.hpp"

namespace paceline::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using State = Coordinator::State;

constexpr bool reduced = true, not_reduced = false;

// ---- who joins (I7) ---------------------------------------------------------------------------------

TEST(Joining, OneStartedByHandTakesAPlaceOrWaitsForOne) {
  Script job(ranks(2, 1, 2));
  const WorkerId by_hand = job.coordinator().admit(job.now());
  EXPECT_EQ(by_hand, 3) << "1 and 2 are taken";
  EXPECT_EQ(members(job.ready({1, by_hand}).recorded()), (Workers{1, by_hand}));
  job.written().entered({1, by_hand}).ready({2});
  EXPECT_EQ(job.recorded(), GenerationRecord{}) << "there are as many ranks as the job may have";
  job.lost(by_hand).left(1, 1, {4, reduced});
  EXPECT_EQ(members(job.recorded()), (Workers{1, 2}));
  EXPECT_EQ(job.whom<StartWorker>(), Workers{});
}

TEST(Joining, OneThatFailsToJoinIsNotWorthTheJob) {
  Script job(ranks(2));
  job.trains(2).on(ResizeWanted{3}).ready({3}).written();
  Script member = job;
  job.on(WorkerFailed{3, "there is no such dataset here"});
  EXPECT_EQ(job.failure(), "");
  EXPECT_EQ(job.whom<EndWorker>(), (Workers{3}));
  EXPECT_EQ(job.whom<AbandonGeneration>(), (Workers{1, 2}));
  member.on(WorkerFailed{2, "a chunk is corrupt"});
  EXPECT_EQ(member.failure(), "a chunk is corrupt");
}

TEST(Joining, OneThatIsNotWantedAnyMoreLeavesWithoutARepair) {
  Script job(ranks(3));
  job.trains(3)
      .on(ResizeWanted{2})
      .written()
      .lost(3);  // it has changed first, and nobody else has said so yet
  EXPECT_EQ(job.state(), State::preparing);
  job.on(WorkerEntered{1, 2}).on(WorkerEntered{2, 2});
  EXPECT_EQ(job.state(), State::running);
  EXPECT_EQ(job.coordinator().repairs(), 0);
}

TEST(Joining, OneThatDiesBeforeTheChangeIsNotMissedForLong) {
  Script job(ranks(3));
  job.trains(3).on(ResizeWanted{2}).written().lost(3).after(seconds(91));
  EXPECT_EQ(job.state(), State::repairing);
}

// ---- who is started -----------------------------------------------------------------------------------

/// A job of two ranks that wants a third, and has lost three that were to be it.
Script without_a_third(std::int64_t min_ranks = 1) {
  Script job(ranks(2, min_ranks));
  job.trains(2).on(ResizeWanted{3}).lost(3).lost(4).lost(5);
  return job;
}

TEST(Starting, AfterThreeThatWereLostNoneIsStartedForAWhile) {
  Script job = without_a_third();
  EXPECT_EQ(job.whom<StartWorker>(), Workers{});
  EXPECT_NE(job.announced().find("3 workers in a row were lost"), std::string::npos) << job.announced();
  EXPECT_EQ(job.coordinator().wake(), job.now() + seconds(10));
  EXPECT_EQ(job.after(seconds(9)).whom<StartWorker>(), Workers{});
  EXPECT_EQ(job.after(seconds(1)).whom<StartWorker>(), Workers{6});
  job.ready({6}).written();
  EXPECT_EQ(job.whom<PrepareGeneration>(), (Workers{1, 2}));
}

TEST(Starting, EachPauseIsTwiceAsLongUpToABound) {
  Script job = without_a_third();
  WorkerId next = 6;
  for (const int pause : {10, 20, 40, 80, 160, 300, 300, 300}) {
    EXPECT_EQ(job.after(seconds(pause) - milliseconds(10)).whom<StartWorker>(), Workers{}) << pause;
    EXPECT_EQ(job.after(milliseconds(10)).whom<StartWorker>(), Workers{next}) << pause;
    job.lost(next++);
  }
  EXPECT_EQ(job.failure(), "");
  EXPECT_EQ(job.state(), State::running);
}

TEST(Starting, OneThatTrainsMakesUpForThoseThatWereLost) {
  Script job = without_a_third();
  job.after(seconds(10)).lost(6).after(seconds(20)).ready({7}).written();
  job.on(WorkerEntered{1, 2}).on(WorkerEntered{2, 2}).on(WorkerEntered{7, 2}).on(ResizeWanted{4});
  EXPECT_EQ(job.lost(8).whom<StartWorker>(), Workers{9}) << "it counts from one again";
  job.lost(9).lost(10);
  EXPECT_EQ(job.after(seconds(10)).whom<StartWorker>(), Workers{11}) << "and from 10 s";
}

TEST(Starting, ThoseStartedBeforeAPauseDoNotMakeItLonger) {
  Script job(ranks(1));
  job.trains(1).on(ResizeWanted{6});
  for (const WorkerId id : {2, 3, 4, 5, 6}) job.lost(id);  // 7 and 8 are there for 2 and 3
  EXPECT_EQ(job.coordinator().wake(), job.now() - milliseconds(2) + seconds(10));
  EXPECT_EQ(job.after(seconds(10)).whom<StartWorker>(), (Workers{9, 10, 11}));
}

TEST(Starting, ThoseWhoTrainAlreadyDoNotMakeUpForThoseThatWereLost) {
  // Each that joins disturbs the others, who repair and train on: that says nothing about the next one.
  Script job(ranks(2));
  job.trains(2).on(ResizeWanted{3}).lost(3).lost(4).ready({5}).written();
  job.on(WorkerEntered{1, 2}).on(WorkerFailed{5, "it does not compute alike"});
  EXPECT_NE(job.announced().find("worker 5 could not join: it does not compute alike"), std::string::npos);
  job.left(1, 2, {4, reduced}).left(2, 2, {4, reduced}).written().entered({1, 2});
  EXPECT_EQ(job.whom<StartWorker>(), Workers{});
  EXPECT_EQ(job.after(seconds(10)).whom<StartWorker>(), Workers{6});
  EXPECT_EQ(job.lost(6).after(seconds(19)).whom<StartWorker>(), Workers{});
}

TEST(Starting, ALossOfATrainedRankEndsThePause) {
  // Its place is free now, and whatever it had there: memory, a device.
  Script job = without_a_third();
  EXPECT_EQ(job.lost(2).whom<StartWorker>(), (Workers{6, 7}));
  EXPECT_EQ(members(job.left(1, 1, {4, reduced}).recorded()), Workers{1});
}

TEST(Starting, WithoutItsLeastRanksTheJobDoesNotWaitForAnotherTry) {
  Script job = without_a_third(2);
  job.lost(2).left(1, 1, {4, reduced});
  EXPECT_EQ(job.failure(), "") << "two are being started";
  EXPECT_NE(job.lost(6).lost(7).failure().find("the job needs 2"), std::string::npos) << job.failure();
}

TEST(Starting, AJobThatNeverBeganFails) {
  Script job(ranks(2, 2));
  job.lost(1).lost(2).lost(3);
  EXPECT_NE(job.failure().find("3 workers in a row were lost"), std::string::npos) << job.failure();
}

TEST(Starting, AJobThatNeverBeganBeginsWithThoseWhoHaveCome) {
  Script job(ranks(3));
  job.ready({1, 2}).lost(3).lost(4);
  EXPECT_EQ(members(job.lost(5).recorded()), (Workers{1, 2}));
}

}  // namespace
}  // namespace paceline::sim
