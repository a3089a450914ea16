// Checkpoints that are damaged: each kind is found and named, and an older one is used instead.
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

/// Two checkpoints, of which the newer is to be damaged.
class DamagedCheckpoint : public ::testing::Test {
 protected:
  static constexpr std::int64_t ranks = 3;
  DamagedCheckpoint() {
    const Sizes sizes = {std::int64_t{30} << 20, 11};
    make_checkpoint(run_.path(), {100, 1, 1}, 1);
    make_checkpoint(run_.path(), {200, 1, 1}, ranks, sizes);
  }
  /// The one sentence about the newer one, when the older is used instead.
  std::string complaint() {
    const Newest newest = newest_of(run_.path());
    EXPECT_EQ(newest.step, 100) << newest.error;
    EXPECT_EQ(newest.passed_over.size(), 1U);
    return newest.passed_over.empty() ? "" : newest.passed_over[0];
  }
  std::string listed_problem() { return list_checkpoints(run_.path()).value().at(0).problem; }
  const RunDirectory run_;
  const std::string folder_ = run_.in("step-000000200.term-1");
};

TEST_F(DamagedCheckpoint, IsWholeBefore) {
  EXPECT_EQ(newest_of(run_.path()).step, 200);
  const auto listings = list_checkpoints(run_.path()).value();
  ASSERT_EQ(listings.size(), 2U);
  EXPECT_EQ(listings[0].folder, folder_);
  EXPECT_EQ(listings[0].step, 200);
  EXPECT_EQ(listings[0].term, 1);
  EXPECT_EQ(listings[0].bytes, (30 << 20) + 11);
  EXPECT_EQ(listings[0].problem, "");
  EXPECT_EQ(listings[1].step, 100);
}

TEST_F(DamagedCheckpoint, AFlippedByteOfEachPartIsFound) {
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    const std::string part = concat(folder_, "/", part_file_name(rank, ranks));
    const auto size = static_cast<std::int64_t>(fs::file_size(part));
    for (const std::int64_t at :
         {std::int64_t{0}, checkpoint_block_bytes - 1, checkpoint_block_bytes, size - 1}) {
      flip(part, at);
      const std::string said = complaint();
      expect_part(said, concat(part, ": block ", at / checkpoint_block_bytes, " ("));
      expect_part(said, " has the checksum 0x");
      expect_part(said, ", and the manifest says 0x");
      EXPECT_EQ(listed_problem(), "") << "that takes reading it";
      flip(part, at);
    }
  }
  EXPECT_EQ(newest_of(run_.path()).step, 200) << "mended again";
}

TEST_F(DamagedCheckpoint, NoUnverifiedByteIsHandedOut) {
  const Result<Checkpoint> checkpoint = open_checkpoint(folder_);
  ASSERT_TRUE(checkpoint.ok());
  const CheckpointPart& part = checkpoint->manifest.parts[1];
  flip(concat(folder_, "/", part_file_name(1, ranks)), checkpoint_block_bytes + 5);
  // The bytes asked for are whole; the block that they stand in is not.
  std::vector<std::byte> bytes(10);
  const std::vector<std::span<std::byte>> into = {bytes};
  const Status read = read_state(*checkpoint, {part.slice.offset + checkpoint_block_bytes + 100, 10}, into);
  EXPECT_EQ(read.error().code, ErrorCode::corrupt);
  EXPECT_EQ(bytes, std::vector<std::byte>(10));
  expect_ok(read_state(*checkpoint, {part.slice.offset + 100, 10}, into));
}

TEST_F(DamagedCheckpoint, AFlippedByteOfTheManifestIsFound) {
  const std::string manifest = folder_ + "/manifest.json";
  const auto size = static_cast<std::int64_t>(fs::file_size(manifest));
  for (std::int64_t at = 0; at < size; ++at) {
    flip(manifest, at);
    const Result<Checkpoint> checkpoint = open_checkpoint(folder_);
    ASSERT_FALSE(checkpoint.ok()) << at;
    EXPECT_EQ(checkpoint.error().code, ErrorCode::corrupt) << checkpoint.error().message;
    flip(manifest, at);
  }
  flip(manifest, size / 2);
  expect_part(complaint(), manifest + ": its checksum is 0x");
  EXPECT_NE(listed_problem(), "");
}

TEST_F(DamagedCheckpoint, AMissingPartIsFound) {
  const std::string part = concat(folder_, "/", part_file_name(2, ranks));
  fs::remove(part);
  EXPECT_EQ(complaint(), part + " is missing");
  EXPECT_EQ(listed_problem(), part + " is missing");
  fs::create_directory(part);
  EXPECT_EQ(complaint(), part + " is not a file");
}

TEST_F(DamagedCheckpoint, ATruncatedPartIsFound) {
  const std::string part = concat(folder_, "/", part_file_name(0, ranks));
  const Result<Checkpoint> opened = open_checkpoint(folder_);
  const auto size = static_cast<std::int64_t>(fs::file_size(part));
  fs::resize_file(part, fs::file_size(part) - 1);
  EXPECT_EQ(complaint(), concat(part, " has ", size - 1, " bytes, and the manifest says ", size));
  // Also where that happens after it was opened.
  expect_part(message_of(verify_checkpoint(*opened)),
              concat(part, " ends at byte ", size - 1, ", and the manifest says ", size));
}

TEST_F(DamagedCheckpoint, AMissingManifestIsFound) {
  fs::remove(folder_ + "/manifest.json");
  expect_part(complaint(), folder_ + "/manifest.json");
}

TEST_F(DamagedCheckpoint, ARenamedOneIsFound) {
  fs::rename(folder_, run_.in("step-000000300.term-1"));
  expect_part(complaint(), "step-000000300.term-1 holds the checkpoint of step 200 and term 1");
}

TEST_F(DamagedCheckpoint, NothingIsLeftWhereAllAre) {
  fs::remove(folder_ + "/manifest.json");
  fs::remove(run_.in("step-000000100.term-1/part-0-of-1.bin"));
  const Newest newest = newest_of(run_.path());
  EXPECT_EQ(newest.passed_over.size(), 2U);
  expect_part(newest.error, "/checkpoints holds no checkpoint that is whole: 2 are damaged");
}

TEST_F(DamagedCheckpoint, OneOfALaterVersionIsNotPassedOver) {
  const std::string path = folder_ + "/manifest.json";
  std::string text = read_file(path).value();
  text.replace(text.find("\"version\": 1"), 12, "\"version\": 2");
  std::ofstream(path) << seal_manifest(text.substr(0, text.rfind(",\n  \"checksum\"")) + "\n}");
  const Newest newest = newest_of(run_.path());
  EXPECT_TRUE(newest.passed_over.empty());
  expect_part(newest.error, "is of a checkpoint of version 2, and this Paceline reads version 1");
}

}  // namespace
}  // namespace paceline
