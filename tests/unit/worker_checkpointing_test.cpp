// A rank's part of checkpoints: that it is of the moment when it was begun, and what the agent is told.

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "checkpointing.hpp"
#include "paceline/job/journal.hpp"
#include "support/checkpoints.hpp"

namespace paceline {
namespace {

using checkpoint_testing::expect_ok;
using checkpoint_testing::expect_part;
using checkpoint_testing::message_of;
using checkpoint_testing::RunDirectory;
using checkpoint_testing::State;

constexpr Duration soon = std::chrono::seconds(60);  // a deadline that only a hang reaches

/// A rank's state and its end of a socket, with an agent at the other.
class Rank {
 public:
  Rank(const std::string& run_dir, const checkpoint_testing::Sizes& sizes, std::int64_t seed)
      : state_(sizes, seed),
        channels_(WorkerChannel::make_pair().value()),
        agent_(std::move(channels_.first)),
        link_(WorkerChannel(std::move(channels_.second))),
        writer_(run_dir, link_) {}

  std::vector<StatePart> parts() {
    std::vector<StatePart> parts;
    for (std::size_t i = 0; i < state_.layout().size(); ++i)
      parts.push_back({state_.layout()[i].name, state_.place()[i]});
    return parts;
  }
  CheckpointMessage heard() {
    const auto message = agent_.receive(soon);
    EXPECT_TRUE(message.ok() && message->has_value());
    return std::get<CheckpointMessage>(**message);
  }
  /// Until it has told the agent.
  CheckpointMessage report() {
    while (writer_.busy()) {
      expect_ok(writer_.report());
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return heard();
  }

  State state_;
  std::pair<WorkerChannel, UniqueFd> channels_;
  WorkerChannel agent_;
  AgentLink link_;
  Checkpointing writer_;
};

const checkpoint_testing::Sizes sizes = {5, 0, 12'000, 4096, 3};

TEST(Checkpointing, WritesTheStateOfTheMomentWhenItWasBegun) {
  const RunDirectory run;
  constexpr std::int64_t ranks = 3;
  CheckpointManifest manifest{{7, 1, 2}, "f", {}, {}, {}};
  for (std::int64_t number = 0; number < ranks; ++number) {
    Rank rank(run.path(), sizes, 7);
    rank.writer_.begin(manifest.id, number, ranks, rank.parts());
    EXPECT_TRUE(rank.writer_.busy());
    for (const auto& bytes : rank.state_.place()) std::ranges::fill(bytes, std::byte{0xee});  // the next step
    const CheckpointMessage message = rank.report();
    EXPECT_FALSE(rank.writer_.busy());
    EXPECT_EQ(message.error, "");
    EXPECT_EQ((std::vector{message.step, message.generation, message.rank, message.ranks}),
              (std::vector<std::int64_t>{7, 2, number, ranks}));
    if (number == 0) manifest.layout = message.layout;
    EXPECT_EQ(message.layout.empty(), number > 0);
    ASSERT_EQ(message.checksums.size(), 16U);
    manifest.parts.push_back(
        {number, ranks, {message.offset, message.bytes}, {parse_hex_word("0x" + message.checksums).value()}});
  }
  expect_ok(publish_checkpoint(run.path(), manifest));
  const Checkpoint checkpoint = open_checkpoint(run.in("step-000000007.term-1")).value();
  // All of it, and in parts by other ranks.
  Rank whole(run.path(), sizes, 0);
  expect_ok(read_checkpoint(checkpoint, whole.parts(), nullptr));
  EXPECT_TRUE(whole.state_ == State(sizes, 7));
  Rank shared(run.path(), sizes, 0);
  for (std::int64_t number = 0; number < 2; ++number) {
    const CheckpointSlice slice = checkpoint_slice(state_bytes(checkpoint.manifest), number, 2);
    expect_ok(read_checkpoint(checkpoint, shared.parts(), &slice));
    EXPECT_EQ(shared.state_ == State(sizes, 7), number == 1);
  }
  // A state that is laid out otherwise is not touched.
  Rank other(run.path(), {5, 0, 12'000, 4095, 4}, 0);
  expect_part(message_of(read_checkpoint(checkpoint, other.parts(), nullptr)),
              "it has 4096 bytes of entry.3, and the state has 4095");
  EXPECT_TRUE(other.state_ == State({5, 0, 12'000, 4095, 4}, 0));
  Rank shorter(run.path(), {5}, 0);
  expect_part(message_of(read_checkpoint(checkpoint, shorter.parts(), nullptr)),
              "it has 5 parts, and the state has 1");
}

TEST(Checkpointing, OneThatIsGivenUpLeavesNothing) {
  const RunDirectory run;
  {
    // Of many blocks, which at its pace take far longer than the test.
    Rank rank(run.path(), {std::int64_t{200} << 20}, 1);
    rank.writer_.begin({4, 1, 1}, 0, 1, rank.parts());
    expect_ok(rank.writer_.report());
    EXPECT_TRUE(rank.writer_.busy());
  }
  EXPECT_FALSE(std::filesystem::exists(run.in(".step-000000004.term-1.gen-1")));
}

TEST(Checkpointing, FinishDoesNotKeepThePace) {
  const RunDirectory run;
  Rank rank(run.path(), {std::int64_t{100} << 20}, 1);
  rank.writer_.begin({4, 1, 1}, 0, 1, rank.parts());
  expect_ok(rank.writer_.finish());
  EXPECT_FALSE(rank.writer_.busy());
  EXPECT_EQ(rank.writer_.last(), (CheckpointId{4, 1, 1}));
  EXPECT_EQ(rank.heard().bytes, std::int64_t{100} << 20);
}

TEST(Checkpointing, APartThatCannotBeWrittenIsTold) {
  Rank rank("/proc/nowhere", sizes, 1);
  rank.writer_.begin({4, 1, 1}, 0, 1, rank.parts());
  expect_ok(rank.writer_.finish());
  expect_part(rank.heard().error, "/proc/nowhere/checkpoints");
}

TEST(Checkpointing, APartOfTooManyBlocksToTellIsToldAsAnError) {
  const RunDirectory run;
  Rank rank(run.path(), sizes, 1);
  std::vector<StatePart> parts = rank.parts();
  for (int i = 0; i < 5000; ++i) parts.push_back({concat(std::string(60, 'n'), i), {}});
  rank.writer_.begin({4, 1, 1}, 0, 1, parts);
  expect_ok(rank.writer_.finish());
  const CheckpointMessage message = rank.heard();
  expect_part(message.error, "longer than the most");
  EXPECT_TRUE(message.layout.empty());
}

}  // namespace
}  // namespace paceline
