// A worker's end of its agent's socket, and what it keeps until the journal has it.

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "agent_link.hpp"
#include "step_log.hpp"

namespace paceline {
namespace {

constexpr Duration soon = std::chrono::seconds(30);  // a deadline that only a hang reaches

class Link : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = WorkerChannel::make_pair();
    ASSERT_TRUE(made.ok()) << made.error().message;
    agent_.emplace(std::move(made->first));
    link_.emplace(WorkerChannel(std::move(made->second)));
    link_->start();
  }
  template <class Message>
  Message heard_by_agent() {
    const auto message = agent_->receive(soon);
    EXPECT_TRUE(message.ok() && message->has_value());
    return std::get<Message>(**message);
  }

  std::optional<WorkerChannel> agent_;
  std::optional<AgentLink> link_;
};

TEST_F(Link, GivesMessagesInTheirOrderAndThenTheEnd) {
  ASSERT_TRUE(agent_->send(AckMessage{7}).ok());
  ASSERT_TRUE(agent_->send(StopMessage{}).ok());
  const auto first = link_->take(soon);
  ASSERT_TRUE(first.ok() && first->has_value());
  EXPECT_EQ(std::get<AckMessage>(**first).step, 7);
  EXPECT_TRUE(std::holds_alternative<StopMessage>(**link_->take(soon)));
  EXPECT_FALSE(link_->take(Duration::zero())->has_value());
  agent_.reset();
  const auto end = link_->take(soon);
  ASSERT_FALSE(end.ok());
  EXPECT_EQ(end.error().code, ErrorCode::peer_lost);
}

TEST_F(Link, AnOrderToLeaveInterruptsWhatIsInThatGenerationOrAnEarlierOne) {
  std::atomic<int> of_2 = 0, of_4 = 0;
  const AgentLink::Interruption two(*link_, 2, [&](const std::string&) { ++of_2; });
  const AgentLink::Interruption four(*link_, 4, [&](const std::string&) { ++of_4; });
  ASSERT_TRUE(agent_->send(LeaveMessage{3}).ok());
  ASSERT_TRUE(agent_->send(LeaveMessage{3}).ok());
  ASSERT_TRUE(agent_->send(StopMessage{}).ok());  // after this one both have been obeyed
  ASSERT_TRUE(std::holds_alternative<StopMessage>(**link_->take(soon)));
  EXPECT_EQ(of_2, 1);
  EXPECT_EQ(of_4, 0);
  // One that comes too late is interrupted at once.
  const AgentLink::Interruption three(*link_, 3, [&](const std::string& reason) {
    EXPECT_EQ(reason, "the coordinator ends generation 3");
    ++of_2;
  });
  EXPECT_EQ(of_2, 2);
}

TEST_F(Link, WhatIsOverIsNotInterrupted) {
  int called = 0;
  {
    const AgentLink::Interruption over(*link_, 1, [&](const std::string&) { ++called; });
  }
  ASSERT_TRUE(agent_->send(LeaveMessage{5}).ok());
  ASSERT_TRUE(agent_->send(StopMessage{}).ok());
  ASSERT_TRUE(link_->take(soon)->has_value());
  EXPECT_EQ(called, 0);
}

TEST_F(Link, HeartbeatsTellWhatTheTrainingThreadDoes) {
  EXPECT_FALSE(agent_->receive(std::chrono::milliseconds(300))->has_value()) << "not before they are wanted";
  link_->send_heartbeats();
  EXPECT_EQ(heard_by_agent<HeartbeatMessage>().phase, "loading");
  link_->activity().at_step(7);
  link_->activity().begin(Phase::evaluate);
  HeartbeatMessage heard;
  for (int i = 0; i < 100 && heard.phase != "evaluate"; ++i) heard = heard_by_agent<HeartbeatMessage>();
  EXPECT_EQ(heard.phase, "evaluate");
  EXPECT_EQ(heard.step, 7);
  const double before = heard.seconds;
  EXPECT_GT(heard_by_agent<HeartbeatMessage>().seconds, before) << "it is still there";
  link_->activity().begin(Phase::save);
  for (int i = 0; i < 100 && heard.phase != "save"; ++i) heard = heard_by_agent<HeartbeatMessage>();
  EXPECT_EQ(heard.phase, "save") << "the last of them all";
}

TEST_F(Link, HeartbeatsCarryWhatWasMeasured) {
  TelemetryBoard& board = link_->activity().board();
  Telemetry expected{.steps = 2, .grains = 42, .samples = 1344};
  expected.data_s = 0.5, expected.forward_s = 1, expected.backward_s = 2;
  expected.reduce_s = 0.25, expected.commit_s = 0.125, expected.optimizer_s = 0.75;
  expected.cpu_s = 17.5, expected.wire_bytes = 9, expected.gpu_busy = 0.5;
  using std::chrono::microseconds;
  for (int i = 0; i < 2; ++i)
    board.add({Instant{}, i, 21, 672, microseconds(250'000), microseconds(500'000), microseconds(1'000'000),
               microseconds(125'000), microseconds(62'500), microseconds(375'000)});
  Telemetry sample = expected;
  sample.steps = 99, sample.forward_s = 99;  // which is not the sampling thread's
  board.set_sample(sample);
  link_->send_heartbeats();
  EXPECT_EQ(heard_by_agent<HeartbeatMessage>().telemetry, expected);
}

TEST_F(Link, HeartbeatsDoNotPileUpBeforeAnAgentThatDoesNotRead) {
  link_->send_heartbeats();
  std::this_thread::sleep_for(std::chrono::seconds(1));
  link_->activity().begin(Phase::save);
  const auto first = heard_by_agent<HeartbeatMessage>();
  EXPECT_NE(first.phase, "save");
  for (int i = 0; i < 2; ++i)
    if (heard_by_agent<HeartbeatMessage>().phase == "save") return;
  ADD_FAILURE() << "those of a second were queued";
}

StepFigures step(std::int64_t number) {
  StepFigures figures;
  figures.step = number;
  figures.epoch = 1;
  figures.consumed = "0x0000000000000001";
  return figures;
}

TEST_F(Link, OnlyWhoReportsSendsStepsAndANewOneBeginsWithAllThatAreNotAcknowledged) {
  const SteadyClock clock;
  StepLog log(*link_, clock);
  for (std::int64_t number = 1; number <= 4; ++number) log.add(step(number));
  ASSERT_TRUE(log.send_all().ok());
  EXPECT_FALSE(agent_->receive(std::chrono::milliseconds(20))->has_value()) << "it does not report";
  log.acknowledge(2);
  log.report(true);
  ASSERT_TRUE(log.send_all().ok());
  const auto told = heard_by_agent<StepsMessage>();
  ASSERT_EQ(told.steps.size(), 2U);
  EXPECT_EQ(told.steps[0].step, 3);
  log.add(step(5));
  ASSERT_TRUE(log.send_all().ok());
  const auto more = heard_by_agent<StepsMessage>();
  ASSERT_EQ(more.steps.size(), 1U) << "what was told is not told again";
  EXPECT_EQ(more.steps[0].step, 5);
  log.acknowledge(3);
  log.report(true);  // ranks have changed
  ASSERT_TRUE(log.send_all().ok());
  EXPECT_EQ(heard_by_agent<StepsMessage>().steps.size(), 2U);
}

TEST_F(Link, ManyStepsFitIntoMessages) {
  const SteadyClock clock;
  StepLog log(*link_, clock);
  for (std::int64_t number = 1; number <= 1000; ++number) log.add(step(number));
  log.report(true);
  std::thread sender([&] { EXPECT_TRUE(log.send_all().ok()); });
  std::int64_t next = 1;
  while (next <= 1000)
    for (const StepFigures& figures : heard_by_agent<StepsMessage>().steps) ASSERT_EQ(figures.step, next++);
  sender.join();
}

}  // namespace
}  // namespace paceline
