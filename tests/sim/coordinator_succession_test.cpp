// What a coordinator makes of a job whose coordinator was lost, and of nodes that are to be left: event by
// event. The simulation loses coordinators at any moment; here is what each of those moments is to lead to.

#include <gtest/gtest.h>

#include "script.hpp"

namespace paceline::sim {
namespace {

using State = Coordinator::State;

GenerationMember member(WorkerId id) {
  return {id, "n", "h", 1};
}

Generation generation(std::int64_t number, const Workers& workers, bool planned = false,
                      std::int64_t donors = -1) {
  GenerationRecord record;
  record.generation = number;
  record.term = 1;
  record.planned = planned;
  for (const WorkerId id : workers) record.members.push_back(member(id));
  const std::int64_t all = donors >= 0 ? donors : number > 1 ? std::ssize(workers) : 0;
  for (std::int64_t donor = 0; donor < all; ++donor) record.donors.push_back(donor);
  return std::make_shared<const GenerationRecord>(std::move(record));
}

FoundWorker in(WorkerId id, std::int64_t entered, std::int64_t told = 0) {
  return {.member = member(id), .ready = true, .told = told > 0 ? told : entered, .entered = entered};
}

FoundWorker has_left(WorkerId id, std::int64_t number, Standing standing, std::int64_t told = 0) {
  FoundWorker found = in(id, number);
  found.told = told;
  found.left = WorkerLeft{id, number, standing, "its peers are gone"};
  return found;
}

CoordinatorOptions second_term(std::int64_t wish) {
  CoordinatorOptions options = ranks(wish);
  options.term = 2;
  return options;
}

TEST(P5, TrainingIsNotDisturbedByASuccessor) {
  Script script(second_term(3), {generation(1, {1, 2, 3})}, {in(1, 1), in(2, 1), in(3, 1)});
  EXPECT_EQ(script.state(), State::running);
  // The journal may not know yet what they train in. Nothing else is said, and to no worker.
  EXPECT_EQ(script.effects().size(), 1U);
  EXPECT_NE(script.find<Announce>(), nullptr);
  // And it is a coordinator like any other.
  script.lost(2);
  EXPECT_EQ(script.whom<LeaveGeneration>(), Workers({1, 3}));
  script.left(1, 1, {.applied = 7}).left(3, 1, {.applied = 7});
  EXPECT_EQ(script.recorded().generation, 2);
  EXPECT_EQ(script.recorded().term, 2);
  EXPECT_EQ(script.recorded().base_step, 7);
}

TEST(P5, WhatIsInTheJournalIsNotAnnouncedAgainAndCounted) {
  CoordinatorOptions options = second_term(3);
  options.history = {.announced = 4, .repairs = 2, .resizes = 1};
  Script script(options, {generation(4, {1, 2, 3})}, {in(1, 4), in(2, 4), in(3, 4)});
  EXPECT_TRUE(script.effects().empty());
  EXPECT_EQ(script.coordinator().repairs(), 2);
  EXPECT_EQ(script.coordinator().resizes(), 1);
}

TEST(P5, AChangeThatNobodyHeardOfIsAnnounced) {
  CoordinatorOptions options = second_term(3);
  options.history.announced = 1;
  Script script(options, {generation(1, {1, 2}), generation(2, {1, 2, 3}, true, 2)},
                {in(1, 2), in(2, 2), in(3, 2)});
  ASSERT_NE(script.find<Announce>(), nullptr);
  EXPECT_EQ(script.find<Announce>()->kind, Announce::Kind::generation);
  EXPECT_EQ(script.coordinator().resizes(), 1);
  EXPECT_EQ(script.coordinator().repairs(), 0);
}

TEST(P5, ARankThatFrozeWhileNobodyListenedIsMissed) {
  std::vector<FoundWorker> workers = {in(1, 1), in(2, 1), in(3, 1)};
  for (FoundWorker& worker : workers)
    worker.heartbeat = WorkerHeartbeat{worker.member.worker, 4, WorkPhase::compute, {}};
  Script script(second_term(3), {generation(1, {1, 2, 3})}, workers);
  Workers ended;
  for (int second = 1; second <= 7; ++second) {
    script.after(std::chrono::seconds(1));
    for (const WorkerId id : script.whom<EndWorker>()) ended.push_back(id);
    for (const WorkerId id : {1, 2}) script.on(WorkerHeartbeat{id, 4, WorkPhase::waits, {}});
  }
  EXPECT_EQ(ended, Workers({3}));
}

TEST(P5, ARankThatWasLostWithTheCoordinatorIsMissed) {
  Script script(second_term(3), {generation(1, {1, 2, 3})}, {in(1, 1), in(3, 1)});
  EXPECT_EQ(script.state(), State::repairing);
  EXPECT_EQ(script.whom<LeaveGeneration>(), Workers({1, 3}));
  EXPECT_EQ(script.whom<StartWorker>(), Workers({4}));
}

TEST(P1, ARecordThatNobodyWasToldOfIsTheOneThatCounts) {
  // Worker 2 was lost, the others have left, generation 2 was recorded, and then the coordinator was lost.
  Script script(second_term(2), {generation(1, {1, 2, 3}), generation(2, {1, 3})},
                {has_left(1, 1, {.applied = 7}), has_left(3, 1, {.applied = 7})});
  EXPECT_EQ(script.state(), State::running);
  EXPECT_EQ(script.whom<FormGeneration>(), Workers({1, 3}));
  EXPECT_EQ(script.coordinator().generation()->generation, 2);
}

TEST(P1, OneThatSomeWereToldOfToo) {
  Script script(second_term(2), {generation(1, {1, 2, 3}), generation(2, {1, 3})},
                {in(1, 2), has_left(3, 1, {.applied = 7})});
  EXPECT_EQ(script.whom<FormGeneration>(), Workers({3}));
  script.entered({3});
  EXPECT_EQ(script.state(), State::running);
}

TEST(P6, ReportsThatWereMadeToTheOldCoordinatorCount) {
  Script script(second_term(2), {generation(1, {1, 2, 3})}, {has_left(1, 1, {.applied = 7}), in(3, 1)});
  EXPECT_EQ(script.state(), State::repairing);
  EXPECT_EQ(script.whom<LeaveGeneration>(), Workers({3}));  // worker 1 has said all that it has to say
  script.left(3, 1, {.applied = 6, .reduced = true});
  EXPECT_EQ(script.recorded().base_step, 7);
  EXPECT_EQ(members(script.recorded()), Workers({1, 3}));
}

TEST(P8, APreparedGenerationIsGivenUp) {
  FoundWorker joiner = in(4, 0, 2);
  Script script(second_term(3), {generation(1, {1, 2}), generation(2, {1, 2, 4}, true, 2)},
                {in(1, 1, 2), in(2, 1, 2), joiner});
  EXPECT_EQ(script.whom<AbandonGeneration>(), Workers({1, 2}));
  EXPECT_EQ(script.whom<LeaveGeneration>(), Workers({4}));
  EXPECT_EQ(script.coordinator().generation()->generation, 1);
  // Some had changed before they heard of it: all leave, and settle.
  script.on(WorkerEntered{1, 2});
  EXPECT_EQ(script.state(), State::repairing);
}

TEST(P8, OneThatSomebodyIsInIsNotGivenUp) {
  Script script(second_term(3), {generation(1, {1, 2}), generation(2, {1, 2, 4}, true, 2)},
                {in(1, 2), in(2, 1, 2), in(4, 0, 2)});
  EXPECT_EQ(script.coordinator().generation()->generation, 2);
  EXPECT_TRUE(script.whom<AbandonGeneration>().empty());
  script.entered({2, 4});
  EXPECT_EQ(script.state(), State::running);
}

TEST(P5, AJobThatWasJustDoneIsDone) {
  FoundWorker first = in(1, 1), second = in(2, 1);
  first.finished = second.finished = first.gone = second.gone = true;
  Script script(second_term(2), {generation(1, {1, 2})}, {first, second});
  ASSERT_NE(script.find<EndJob>(), nullptr);
  EXPECT_EQ(script.find<EndJob>()->status, "completed");
}

TEST(P5, AJobThatHadNotBegunBegins) {
  FoundWorker loads{.member = member(1)}, waits{.member = member(2), .ready = true};
  Script script(second_term(2), {}, {loads, waits});
  EXPECT_EQ(script.state(), State::forming);
  EXPECT_TRUE(script.whom<StartWorker>().empty());
  script.ready({1});
  EXPECT_EQ(script.recorded().generation, 1);
}

TEST(P1, WhoFindsItsNumberTakenIsFenced) {
  Script script(ranks(2));
  script.ready({1, 2}).on(RecordWritten{1, RecordWritten::Result::exists, ""});
  ASSERT_NE(script.find<EndJob>(), nullptr);
  EXPECT_TRUE(script.find<EndJob>()->fenced);
}

// ---- leaving a node ---------------------------------------------------------------------------------

TEST(Drain, OthersTakeThePlaces) {
  Script script(ranks(3));
  script.trains(3);
  script.on(DrainWanted{{1}, 8});
  EXPECT_EQ(script.whom<StartWorker>(), Workers({4}));
  EXPECT_TRUE(script.whom<EndWorker>().empty());
  script.ready({4});
  EXPECT_EQ(members(script.recorded()), Workers({2, 3, 4}));
  EXPECT_EQ(script.recorded().donors, std::vector<std::int64_t>({0, 1}));
}

TEST(Drain, WithoutRoomTheJobGetsSmaller) {
  Script script(ranks(3));
  script.trains(3);
  script.on(DrainWanted{{1}, 2});
  EXPECT_TRUE(script.whom<StartWorker>().empty());
  EXPECT_EQ(members(script.recorded()), Workers({2, 3}));
}

TEST(Drain, NotBelowTheLeast) {
  Script script(ranks(2, 2));
  script.trains(2);
  script.on(DrainWanted{{1}, 1});
  EXPECT_EQ(script.find<RecordGeneration>(), nullptr);
  script.on(RoomChanged{2});
  EXPECT_EQ(script.whom<StartWorker>(), Workers({3}));
  script.ready({3});
  EXPECT_EQ(members(script.recorded()), Workers({2, 3}));
}

TEST(Drain, OfAllGoesInTwoSteps) {
  Script script(ranks(2));
  script.trains(2);
  script.on(DrainWanted{{1, 2}, 8});
  EXPECT_EQ(script.whom<StartWorker>(), Workers({3, 4}));
  script.ready({3, 4});
  EXPECT_EQ(members(script.recorded()), Workers({1, 3}));  // somebody must give the state
  script.written();
  script.on(WorkerEntered{1, 2}).on(WorkerEntered{3, 2});
  EXPECT_EQ(members(script.recorded()), Workers({3, 4}));
}

TEST(Room, NoMoreAreStartedThanThereIsRoomFor) {
  CoordinatorOptions options = ranks(4);
  options.room = 2;
  Script script(options);
  EXPECT_EQ(script.whom<StartWorker>(), Workers({1, 2}));
  script.ready({1, 2});
  EXPECT_EQ(members(script.recorded()), Workers({1, 2}));
  script.written().entered({1, 2});
  script.on(RoomChanged{3});
  EXPECT_EQ(script.whom<StartWorker>(), Workers({3}));
}

}  // namespace
}  // namespace paceline::sim
