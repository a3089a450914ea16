// Checkpoints that are written, published, read by other numbers of ranks, and taken away.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "../../job/src/checkpoint_files.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/hash.hpp"
#include "support/checkpoints.hpp"

namespace paceline {
namespace {

using namespace checkpoint_testing;

TEST(CheckpointSlice, TilesTheStateInPages) {
  for (const std::int64_t bytes : {0L, 1L, 4095L, 4096L, 4097L, 1'000'003L, (1L << 53) - 1, 1L << 53})
    for (const std::int64_t ranks : {1L, 2L, 3L, 7L, 1000L}) {
      std::int64_t end = 0;
      for (std::int64_t rank = 0; rank < ranks; ++rank) {
        const CheckpointSlice slice = checkpoint_slice(bytes, rank, ranks);
        EXPECT_EQ(slice.offset, end);
        EXPECT_TRUE(slice.offset % 4096 == 0 || slice.bytes == 0) << bytes << " " << rank << " of " << ranks;
        EXPECT_LE(slice.bytes, ((bytes + 4095) / 4096 + ranks - 1) / ranks * 4096) << "shared out evenly";
        end += slice.bytes;
      }
      EXPECT_EQ(end, bytes);
    }
}

TEST(CheckpointFolder, NamesAreReadAsTheyAreWrittenAndNoOthers) {
  const CheckpointId id{200, 3, 7};
  EXPECT_EQ(published_name(id), "step-000000200.term-3");
  EXPECT_EQ(unfinished_name(id), ".step-000000200.term-3.gen-7");
  EXPECT_EQ(published_name({12'345'678'901, 0, 0}), "step-12345678901.term-0");
  for (const CheckpointId& each : {id, CheckpointId{12'345'678'901, 0, 0}}) {
    const auto published = parse_checkpoint_folder(published_name(each));
    ASSERT_TRUE(published.has_value());
    EXPECT_EQ(published->kind, CheckpointFolder::Kind::published);
    EXPECT_EQ(published->id, (CheckpointId{each.step, each.term, 0}));
    const auto unfinished = parse_checkpoint_folder(unfinished_name(each));
    ASSERT_TRUE(unfinished.has_value());
    EXPECT_EQ(unfinished->kind, CheckpointFolder::Kind::unfinished);
    EXPECT_EQ(unfinished->id, each);
  }
  for (const char* name :
       {"", ".", "step-", "step-200.term-3", "step-0000000200.term-3", "step-000000200",
        "step-000000200.term-", "step-000000200.term-03", "step-000000200.term-+3", "step--00000200.term-3",
        "step-000000200.term-3 ", "step-000000200.term-3.gen-7", ".step-000000200.term-3",
        ".step-000000200.term-3.gen-7.bak", "step-000000200.term-99999999999999999999",
        "step-000000200.term-9007199254740993", "notes.txt"})
    EXPECT_FALSE(parse_checkpoint_folder(name).has_value()) << name;
}

class CheckpointRoundTrip : public ::testing::TestWithParam<std::int64_t> {};

TEST_P(CheckpointRoundTrip, GivesBackEveryByteAndFigure) {
  constexpr std::int64_t mib = 1 << 20;
  const std::vector<Sizes> states = {{0, 1, 0, 4095, 5 * mib + 3, 0, 12'288, 17, 9 * mib + 1, 0},
                                     small_sizes,
                                     {7},
                                     {0, 0},
                                     {},
                                     {4 * mib},
                                     {4 * mib, 4 * mib}};
  for (const Sizes& sizes : states) {
    const RunDirectory run;
    const State state(sizes, 5);
    const CheckpointManifest manifest = write_parts(run.path(), {5, 1, 2}, GetParam(), state);
    EXPECT_EQ(list_checkpoints(run.path()).value().size(), 0U) << "not before it is published";
    expect_ok(publish_checkpoint(run.path(), manifest));
    EXPECT_EQ(run.names(), std::set<std::string>{"step-000000005.term-1"});

    std::vector<std::string> passed_over;
    const Result<Checkpoint> checkpoint = open_newest_checkpoint(run.path(), passed_over);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.error().message;
    EXPECT_TRUE(passed_over.empty());
    EXPECT_EQ(checkpoint->manifest.id, manifest.id);
    EXPECT_EQ(checkpoint->manifest.job_fingerprint, manifest.job_fingerprint);
    EXPECT_EQ(checkpoint->manifest.scalars, manifest.scalars);
    EXPECT_EQ(checkpoint->manifest.layout, manifest.layout);
    EXPECT_EQ(checkpoint->manifest.parts, manifest.parts);
    State read(sizes, 6);
    expect_ok(read_state(*checkpoint, read.place()));
    EXPECT_TRUE(read == state);
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, CheckpointRoundTrip, ::testing::Values(1, 2, 3, 7));

TEST(CheckpointRead, OneThatDoesNotCountIsAsGoodAsNotThere) {
  const RunDirectory run;
  make_checkpoint(run.path(), {9, 1, 1});
  make_checkpoint(run.path(), {5, 1, 1});
  make_checkpoint(run.path(), {7, 2, 2});
  std::vector<std::string> passed_over;
  const auto counts = [](std::int64_t term, std::int64_t step) { return term == 1 && step <= 6; };
  const Result<Checkpoint> checkpoint = open_newest_checkpoint(run.path(), passed_over, counts);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.error().message;
  EXPECT_EQ(checkpoint->manifest.id.step, 5);
  EXPECT_TRUE(passed_over.empty());
}

TEST(CheckpointRead, SeveralReadersShareTheState) {
  const RunDirectory run;
  constexpr std::int64_t total = (std::int64_t{9} << 20) + 77;
  make_checkpoint(run.path(), {5, 1, 1}, 3, {1000, total - 1000});
  const Result<Checkpoint> checkpoint = open_checkpoint(run.in("step-000000005.term-1"));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.error().message;
  SplitMix64 random(3);
  std::vector<CheckpointSlice> ranges = {{0, 0}, {0, 1}, {total, 0}, {total - 1, 1}, {0, total}, {999, 2}};
  for (std::int64_t rank = 0; rank < 4; ++rank) ranges.push_back(checkpoint_slice(total, rank, 4));
  for (int i = 0; i < 20; ++i) {
    const auto begin = static_cast<std::int64_t>(random.below(total));
    ranges.push_back(
        {begin, static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(total - begin)))});
  }
  for (const CheckpointSlice& range : ranges) {
    std::vector<std::byte> bytes(static_cast<std::size_t>(range.bytes));
    const std::span<std::byte> all(bytes);
    const std::vector<std::span<std::byte>> into = {all.first(bytes.size() / 3),
                                                    all.subspan(bytes.size() / 3)};
    expect_ok(read_state(*checkpoint, range, into));
    for (std::size_t i = 0; i < bytes.size(); ++i)
      ASSERT_EQ(bytes[i], State::byte_at(static_cast<std::uint64_t>(range.offset) + i, 5))
          << range.offset << " + " << i;
  }
  for (const CheckpointSlice& range :
       {CheckpointSlice{-1, 1}, {0, -1}, {total, 1}, {0, total + 1}, {total + 1, 0}, {1, total}})
    EXPECT_EQ(read_state(*checkpoint, range, {}).error().code, ErrorCode::invalid_argument);
}

TEST(CheckpointRead, AnotherJobsStateIsNamed) {
  const RunDirectory run;
  make_checkpoint(run.path(), {5, 1, 1});
  const Result<Checkpoint> checkpoint = open_checkpoint(run.in("step-000000005.term-1"));
  ASSERT_TRUE(checkpoint.ok());
  State shorter({5, 0}, 1);
  expect_part(message_of(read_state(*checkpoint, shorter.place())),
              "holds 5 entries, and this job's state has 2");
  State other({5, 0, 12'000, 4095, 3}, 1);
  expect_part(message_of(read_state(*checkpoint, other.place())),
              "its entry entry.3 has 4096 bytes, and in this job's state it has 4095");
}

TEST(CheckpointWrite, IsPacedInBlocksAndCanBeGivenUp) {
  const RunDirectory run;
  const State state({3 * checkpoint_block_bytes + 1}, 1);
  const auto view = state.view();
  const CheckpointId id{5, 1, 1};
  int asked = 0;
  const std::string part = run.in(".step-000000005.term-1.gen-1/part-0-of-1.bin");
  const auto paced = write_checkpoint_part(run.path(), id, 0, 1, view, [&] {
    EXPECT_EQ(fs::file_size(part),
              std::min<std::uintmax_t>(asked * checkpoint_block_bytes, 3 * checkpoint_block_bytes + 1));
    ++asked;
    return true;
  });
  expect_ok(paced);
  EXPECT_EQ(asked, 5) << "before each of 4 blocks, and before the sync";
  expect_ok(abandon_checkpoint(run.path(), id));
  EXPECT_TRUE(run.names().empty());

  for (int stop = 0; stop < 5; ++stop) {
    asked = 0;
    const auto given_up = write_checkpoint_part(run.path(), id, 0, 1, view, [&] { return asked++ < stop; });
    ASSERT_FALSE(given_up.ok());
    EXPECT_EQ(given_up.error().code, ErrorCode::aborted);
    EXPECT_EQ(asked, stop + 1);
    EXPECT_TRUE(run.names().empty()) << stop;
  }
}

TEST(CheckpointWrite, OnesOwnFailureLeavesTheOthersParts) {
  const RunDirectory run;
  const State state(small_sizes, 1);
  const auto view = state.view();
  const CheckpointId id{5, 1, 1};
  expect_ok(write_checkpoint_part(run.path(), id, 0, 2, view));
  EXPECT_FALSE(write_checkpoint_part(run.path(), id, 1, 2, view, [] { return false; }).ok());
  EXPECT_TRUE(fs::exists(run.in(".step-000000005.term-1.gen-1/part-0-of-2.bin")));
  EXPECT_FALSE(fs::exists(run.in(".step-000000005.term-1.gen-1/part-1-of-2.bin")));
  const auto again = write_checkpoint_part(run.path(), id, 0, 2, view);
  ASSERT_FALSE(again.ok()) << "a part is written once";
  EXPECT_EQ(again.error().code, ErrorCode::already_exists);
  EXPECT_TRUE(fs::exists(run.in(".step-000000005.term-1.gen-1/part-0-of-2.bin")));
}

TEST(CheckpointWrite, AMissingRunDirectoryIsNamed) {
  const State state(small_sizes, 1);
  const auto view = state.view();
  const auto part = write_checkpoint_part("/nowhere/run", {5, 1, 1}, 0, 1, view);
  EXPECT_EQ(message_of(part), "cannot create /nowhere/run/checkpoints: No such file or directory");
}

TEST(CheckpointPublish, WantsAllPartsAsTheyWereReported) {
  const RunDirectory run;
  const State state(small_sizes, 1);
  const CheckpointManifest manifest = write_parts(run.path(), {5, 1, 1}, 2, state);
  const std::string part = run.in(".step-000000005.term-1.gen-1/part-1-of-2.bin");
  fs::resize_file(part, 3);
  expect_part(message_of(publish_checkpoint(run.path(), manifest)), "part-1-of-2.bin has 3 bytes");
  fs::remove(part);
  EXPECT_EQ(message_of(publish_checkpoint(run.path(), manifest)), part + " is missing");
  expect_ok(abandon_checkpoint(run.path(), manifest.id));
  const Status published = publish_checkpoint(run.path(), manifest);
  EXPECT_EQ(published.error().code, ErrorCode::not_found);
  expect_part(published.error().message, "is not there, or was given up");
  EXPECT_TRUE(run.names().empty());
}

TEST(CheckpointPublish, IsDoneOnce) {
  const RunDirectory run;
  make_checkpoint(run.path(), {5, 1, 1});
  const std::string before = read_file(run.in("step-000000005.term-1/manifest.json")).value();
  const CheckpointManifest again = write_parts(run.path(), {5, 1, 2}, 1, State({3}, 9));
  EXPECT_EQ(publish_checkpoint(run.path(), again).error().code, ErrorCode::already_exists);
  EXPECT_EQ(read_file(run.in("step-000000005.term-1/manifest.json")).value(), before);
  EXPECT_EQ(newest_of(run.path()).step, 5);
}

TEST(CheckpointPublish, AStaleTermIsRefused) {
  for (const bool published : {true, false}) {
    const RunDirectory run;
    make_checkpoint(run.path(), {100, 3, 1});
    const CheckpointManifest stale = write_parts(run.path(), {300, 3, 1}, 2, State(small_sizes, 300));
    const CheckpointManifest newer = write_parts(run.path(), {200, 4, 2}, 2, State(small_sizes, 200));
    if (published) expect_ok(publish_checkpoint(run.path(), newer));
    const Status refused = publish_checkpoint(run.path(), stale);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::mismatch);
    expect_part(refused.error().message, published ? "has step-000000200.term-4 of a newer term"
                                                   : "has .step-000000200.term-4.gen-2 of a newer term");
    EXPECT_EQ(newest_of(run.path()).step, published ? 200 : 100);
    expect_ok(keep_checkpoints(run.path(), 2));
    EXPECT_FALSE(run.names().contains(".step-000000300.term-3.gen-1"));
    EXPECT_EQ(newest_of(run.path()).step, published ? 200 : 100);
  }
}

// A run that was resumed from before its newest checkpoint comes past the same steps again.
TEST(CheckpointPublish, ANewerTermsSameStepStandsBesideTheOlder) {
  const RunDirectory run;
  make_checkpoint(run.path(), {100, 1, 1});
  make_checkpoint(run.path(), {200, 1, 1});
  make_checkpoint(run.path(), {150, 2, 2});
  EXPECT_EQ(newest_of(run.path()).step, 150) << "terms go before steps";
  make_checkpoint(run.path(), {200, 2, 2});
  fs::remove(run.in("step-000000200.term-2/manifest.json"));
  EXPECT_EQ(newest_of(run.path()).step, 150);
  const auto listings = list_checkpoints(run.path()).value();
  ASSERT_EQ(listings.size(), 4U);
  EXPECT_EQ(listings[2].folder, run.in("step-000000200.term-1"));
}

TEST(CheckpointKeep, RemovesOlderOnesAndAbandonedAttempts) {
  const RunDirectory run;
  for (const std::int64_t step : {100, 200, 300, 400}) make_checkpoint(run.path(), {step, 2, 5});
  const State state(small_sizes, 1);
  write_parts(run.path(), {50, 1, 9}, 1, state);   // of an older term
  write_parts(run.path(), {400, 2, 4}, 1, state);  // another made that one
  write_parts(run.path(), {500, 2, 5}, 1, state);  // may still be going on
  fs::create_directories(run.in(".removing-step-000000001.term-1/x"));
  fs::create_directories(run.in("best"));
  expect_ok(keep_checkpoints(run.path(), 2));
  EXPECT_EQ(run.names(), (std::set<std::string>{"best", ".step-000000500.term-2.gen-5",
                                                "step-000000300.term-2", "step-000000400.term-2"}));
  EXPECT_EQ(keep_checkpoints(run.path(), 0).error().code, ErrorCode::invalid_argument);
}

TEST(CheckpointKeep, DamagedOnesDoNotCount) {
  const RunDirectory run;
  for (const std::int64_t step : {100, 200, 300, 400}) make_checkpoint(run.path(), {step, 1, 1});
  fs::remove(run.in("step-000000400.term-1/part-0-of-2.bin"));
  fs::remove(run.in("step-000000200.term-1/manifest.json"));
  expect_ok(keep_checkpoints(run.path(), 1));
  EXPECT_EQ(run.names(), (std::set<std::string>{"step-000000300.term-1", "step-000000400.term-1"}));
  EXPECT_EQ(newest_of(run.path()).step, 300);
}

TEST(CheckpointKeep, ARunWithoutCheckpointsHasNone) {
  const RunDirectory run;
  expect_ok(keep_checkpoints(run.path(), 1));
  EXPECT_TRUE(list_checkpoints(run.path()).value().empty());
  expect_part(newest_of(run.path()).error, "/checkpoints holds no checkpoint");
}

}  // namespace
}  // namespace paceline
