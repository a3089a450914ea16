#include "watch.hpp"

#include <gtest/gtest.h>

namespace paceline {
namespace {

using namespace std::chrono_literals;
using Kind = WorkerFault::Kind;

constexpr Instant start{};
using List = std::vector<std::size_t>;

FailedMessage own_error() {
  return {"corrupt", "a chunk is damaged", -1};
}
FailedMessage lost(std::int64_t rank) {
  return {"peer lost", "a rank is gone", rank};
}
FinishedMessage finished(const std::string& status) {
  FinishedMessage message;
  message.status = status;
  return message;
}

/// A watch over ranks 0, 1 and 2 that have all said hello.
Watch three_ranks() {
  Watch watch({0, 1, 2}, start);
  for (std::size_t worker = 0; worker < 3; ++worker) watch.on_hello(worker);
  return watch;
}

TEST(Watch, AllFinishedAndGoneIsCompleted) {
  Watch watch = three_ranks();
  for (std::size_t worker = 0; worker < 3; ++worker) {
    watch.on_finished(worker, finished("completed"), start + 1s);
    EXPECT_FALSE(watch.next(start + 1s).done);
    watch.on_exited(worker, 0, start + 1s);
  }
  const WatchOrders orders = watch.next(start + 2s);
  EXPECT_TRUE(orders.done);
  EXPECT_TRUE(orders.kill.empty());
  EXPECT_EQ(watch.status(), "completed");
  EXPECT_FALSE(watch.cause().has_value());
}

TEST(Watch, ADeathKillsTheOthersAfterTheirLastWords) {
  Watch watch = three_ranks();
  watch.on_killed(1, 9, start + 1s);
  const WatchOrders waiting = watch.next(start + 1s);
  EXPECT_TRUE(waiting.kill.empty());
  EXPECT_EQ(waiting.wake, start + 1300ms);
  EXPECT_TRUE(watch.next(start + 1299ms).kill.empty());
  EXPECT_EQ(watch.next(start + 1300ms).kill, (List{0, 2}));
  watch.on_killed(0, 9, start + 1301ms);
  watch.on_killed(2, 9, start + 1301ms);
  EXPECT_TRUE(watch.next(start + 1301ms).done);
  EXPECT_EQ(watch.status(), "failed");
  EXPECT_EQ(watch.cause()->rank, 1);
  EXPECT_EQ(watch.cause()->kind, Kind::killed);
  EXPECT_EQ(watch.cause()->number, 9);
}

TEST(Watch, EndsAtOnceWhereAllDieByThemselves) {
  Watch watch = three_ranks();
  watch.on_killed(2, 11, start + 1s);
  watch.on_failed(0, lost(2), start + 1001ms);
  watch.on_exited(0, 1, start + 1002ms);
  watch.on_failed(1, lost(2), start + 1003ms);
  watch.on_exited(1, 1, start + 1004ms);
  EXPECT_TRUE(watch.next(start + 1004ms).done);
  EXPECT_EQ(watch.cause()->rank, 2);
}

TEST(RootCause, ADeathComesBeforeThoseWhoLostAPeer) {
  Watch watch = three_ranks();
  watch.on_failed(0, lost(1), start + 1s);
  watch.on_failed(2, lost(1), start + 1s);
  watch.on_killed(1, 6, start + 1100ms);
  EXPECT_EQ(watch.cause()->rank, 1);
  EXPECT_EQ(watch.cause()->kind, Kind::killed);
}

TEST(RootCause, AnErrorOfItsOwnComesBeforeThoseWhoLostAPeer) {
  Watch watch = three_ranks();
  watch.on_failed(0, lost(2), start + 1s);
  watch.on_failed(2, own_error(), start + 1010ms);
  watch.on_exited(2, 1, start + 1020ms);
  EXPECT_EQ(watch.cause()->rank, 2);
  EXPECT_EQ(watch.cause()->failed.message, own_error().message);
}

TEST(RootCause, TheFirstOfSeveralIsBlamed) {
  Watch watch = three_ranks();
  watch.on_killed(2, 11, start + 1s);
  watch.on_exited(0, 3, start + 1001ms);
  EXPECT_EQ(watch.cause()->rank, 2);
}

TEST(RootCause, ConsequencesAloneNameWhomTheyLost) {
  Watch watch = three_ranks();
  watch.on_failed(0, lost(1), start + 1s);
  watch.on_failed(2, lost(1), start + 1001ms);
  EXPECT_EQ(watch.cause()->rank, 0);
  EXPECT_EQ(watch.cause()->failed.lost_rank, 1);
}

TEST(RootCause, OnlyAPeersLossIsAConsequence) {
  WorkerFault fault{.kind = Kind::failed, .rank = 1, .failed = own_error()};
  EXPECT_FALSE(is_consequence(fault));
  fault.failed = lost(1);  // it blames itself
  EXPECT_FALSE(is_consequence(fault));
  fault.failed = lost(0);
  EXPECT_TRUE(is_consequence(fault));
  fault.failed = {"aborted", "the collective was aborted", -1};
  EXPECT_TRUE(is_consequence(fault));
  fault.kind = Kind::killed;
  EXPECT_FALSE(is_consequence(fault));
  EXPECT_FALSE(root_cause({}).has_value());
}

TEST(Watch, AWorkerThatSaysNothingIsNamedAfterAMinute) {
  Watch watch({0, 1}, start);
  watch.on_hello(0);
  EXPECT_EQ(watch.next(start).wake, start + 60s);
  EXPECT_FALSE(watch.next(start + 59s).done);
  EXPECT_EQ(watch.status(), "failed");  // were it to end now: nobody has finished
  EXPECT_FALSE(watch.cause().has_value());
  EXPECT_TRUE(watch.next(start + 60s).kill.empty());
  EXPECT_EQ(watch.cause()->rank, 1);
  EXPECT_EQ(watch.cause()->detail, "did not report within 60 s of its start");
  EXPECT_EQ(watch.next(start + 60s + 300ms).kill, (List{0, 1}));
}

TEST(Watch, ASignalAsksAllToStopOnce) {
  Watch watch = three_ranks();
  watch.on_stop_signal(2, start + 1s);
  EXPECT_TRUE(watch.next(start + 1s).send_stop);
  EXPECT_FALSE(watch.next(start + 1s).send_stop);
  for (std::size_t worker = 0; worker < 3; ++worker) {
    watch.on_finished(worker, finished("stopped"), start + 2s);
    watch.on_exited(worker, 0, start + 2s);
  }
  EXPECT_TRUE(watch.next(start + 2s).done);
  EXPECT_EQ(watch.status(), "stopped");
  EXPECT_EQ(watch.stop_signal(), 2);
}

TEST(Watch, WhoDoesNotStopInTimeIsKilledAndSaid) {
  Watch watch = three_ranks();
  watch.on_stop_signal(15, start + 1s);
  EXPECT_EQ(watch.next(start + 1s).wake, start + 6s);
  const WatchOrders orders = watch.next(start + 6s);
  EXPECT_EQ(orders.kill, (List{0, 1, 2}));
  EXPECT_EQ(orders.note, "the ranks did not stop within 5 s, and were killed");
  for (std::size_t worker = 0; worker < 3; ++worker) watch.on_killed(worker, 9, start + 6s);
  EXPECT_EQ(watch.status(), "stopped");
}

TEST(Watch, ASecondSignalKillsAtOnce) {
  Watch watch = three_ranks();
  watch.on_stop_signal(2, start + 1s);
  (void)watch.next(start + 1s);
  watch.on_stop_signal(2, start + 1500ms);
  const WatchOrders orders = watch.next(start + 1500ms);
  EXPECT_EQ(orders.kill, (List{0, 1, 2}));
  EXPECT_EQ(orders.note, "");
}

TEST(Watch, LosingAPeerAfterTheSignalIsStillStopping) {
  Watch watch = three_ranks();
  watch.on_stop_signal(2, start + 1s);
  watch.on_finished(0, finished("stopped"), start + 1100ms);
  watch.on_failed(1, lost(0), start + 1200ms);
  watch.on_failed(2, lost(0), start + 1200ms);
  EXPECT_EQ(watch.status(), "stopped");
}

TEST(Watch, LosingAPeerBeforeTheSignalIsAFailure) {
  // mpirun tells the rest of a job to stop when one of its processes has failed.
  Watch watch({0}, start);
  watch.on_hello(0);
  watch.on_failed(0, lost(1), start + 1s);
  watch.on_stop_signal(15, start + 1010ms);
  EXPECT_EQ(watch.status(), "failed");
  EXPECT_EQ(watch.cause()->failed.lost_rank, 1);
}

TEST(Watch, AFinishedWorkerThatStaysIsKilledAndCountsAsFinished) {
  Watch watch({0}, start);
  watch.on_hello(0);
  watch.on_finished(0, finished("completed"), start + 1s);
  EXPECT_TRUE(watch.next(start + 10s).kill.empty());
  EXPECT_EQ(watch.next(start + 11s).kill, List{0});
  watch.on_killed(0, 9, start + 11s);
  EXPECT_TRUE(watch.next(start + 11s).done);
  EXPECT_EQ(watch.status(), "completed");
}

TEST(Watch, StragglersAndThoseWhoOnlyCloseTheirSocketAreBounded) {
  Watch straggler = three_ranks();
  straggler.on_finished(0, finished("completed"), start + 1s);
  straggler.on_exited(0, 0, start + 1s);
  (void)straggler.next(start + 1s + 10min);
  EXPECT_EQ(straggler.cause()->rank, 1);
  EXPECT_EQ(straggler.cause()->kind, Kind::broken);

  Watch closer({0}, start);
  closer.on_hello(0);
  closer.on_closed(0, start + 1s);
  EXPECT_EQ(closer.next(start + 1s).wake, start + 11s);
  (void)closer.next(start + 11s);
  EXPECT_EQ(closer.cause()->kind, Kind::broken);
}

TEST(Watch, GivesUpOnAProcessThatTheKernelHolds) {
  Watch watch({0}, start);
  watch.on_hello(0);
  watch.on_failed(0, own_error(), start + 1s);
  EXPECT_EQ(watch.next(start + 1300ms).kill, List{0});
  EXPECT_FALSE(watch.next(start + 6s).done);
  const WatchOrders orders = watch.next(start + 6300ms);
  EXPECT_TRUE(orders.done);
  EXPECT_NE(orders.note, "");
}

TEST(Watch, ExitWithoutAWordIsAFault) {
  Watch watch({0}, start);
  watch.on_hello(0);
  watch.on_exited(0, 0, start + 1s);
  EXPECT_TRUE(watch.next(start + 1s).done);
  EXPECT_EQ(watch.cause()->kind, Kind::exited);
}

}  // namespace
}  // namespace paceline
