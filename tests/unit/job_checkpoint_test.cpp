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

TEST(CheckpointManifestText, ReadsTheExampleOfItsPage) {
  const auto root = fs::path(__FILE__).parent_path().parent_path().parent_path();
  const std::string page = read_file(root / "docs" / "checkpoints.md").value();
  const std::size_t begin = page.find("```json\n") + 8;
  const std::string example = page.substr(begin, page.find("```", begin) - begin);
  const auto manifest = parse_checkpoint_manifest(example, "docs/checkpoints.md");
  ASSERT_TRUE(manifest.ok()) << manifest.error().message;
  EXPECT_EQ(manifest->parts.size(), 2U);
  EXPECT_EQ(render_checkpoint_manifest(*manifest).value(), example);
}

CheckpointManifest some_manifest() {
  CheckpointManifest manifest{{5, 1, 2}, "f", {}, {{"a", 5000}, {"b", 1}}, {}};
  manifest.parts = {{0, 2, {0, 4096}, {1}}, {1, 2, {4096, 905}, {0xfedcba9876543210U}}};
  return manifest;
}

TEST(CheckpointManifestText, KeepsFiguresExactly) {
  CheckpointManifest manifest = some_manifest();
  for (const double number : {0.1, -0.0, 1.0, 1e300, 5e-324, -123456789.125})
    manifest.scalars[concat("d", manifest.scalars.size())] = number;
  manifest.scalars["most"] = std::numeric_limits<std::int64_t>::max();
  manifest.scalars["least"] = std::numeric_limits<std::int64_t>::min();
  manifest.scalars["n\xc3\xa4me \"quoted\" \\"] = "\xe2\x82\xac \"\\/";
  const std::string text = render_checkpoint_manifest(manifest).value();
  const auto read = parse_checkpoint_manifest(text, "m");
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(read->scalars, manifest.scalars);
  EXPECT_TRUE(std::signbit(std::get<double>(read->scalars.at("d1"))));
  EXPECT_EQ(read->parts, manifest.parts);
}

TEST(CheckpointManifestText, RulesHoldForTheWriter) {
  const auto complaint = [](auto change) {
    CheckpointManifest manifest = some_manifest();
    change(manifest);
    const auto text = render_checkpoint_manifest(manifest);
    if (text.ok()) return std::string();
    EXPECT_EQ(text.error().code, ErrorCode::invalid_argument);
    return text.error().message;
  };
  EXPECT_EQ(complaint([](auto&) {}), "");
  expect_part(complaint([](auto& m) { m.id.step = -1; }), "not whole numbers from 0 to 2^53");
  expect_part(complaint([](auto& m) { m.layout[1].name = "a"; }),
              "two entries of its layout have the name a");
  expect_part(complaint([](auto& m) { m.layout[1].name = ""; }), "name that is not a plain text");
  expect_part(complaint([](auto& m) { m.layout[1].name = "\xff"; }), "name that is not a plain text");
  expect_part(complaint([](auto& m) { m.layout[1].bytes = -1; }), "its entry b makes the state larger");
  expect_part(complaint([](auto& m) { m.layout[1].bytes = std::int64_t{1} << 53; }), "larger than 2^53");
  expect_part(complaint([](auto& m) { m.layout[1].bytes = 2; }), "leave out the last 1 bytes");
  expect_part(complaint([](auto& m) { m.layout[1].bytes = 0; }), "only 904 of the state are left");
  expect_part(complaint([](auto& m) { m.parts.clear(); }), "it has 0 parts");
  expect_part(complaint([](auto& m) { m.parts.pop_back(); }), "its part 0 is that of rank 0 of 2");
  expect_part(complaint([](auto& m) { std::swap(m.parts[0], m.parts[1]); }),
              "its part 0 is that of rank 1 of 2");
  expect_part(complaint([](auto& m) { m.parts[1].slice.offset = 0; }), "its part 1 begins at byte 0");
  expect_part(complaint([](auto& m) { m.parts[0].slice.bytes = -1; }), "its part 0 has -1 bytes");
  expect_part(complaint([](auto& m) { m.parts[1].checksums.clear(); }), "has 0 checksums for 1 blocks");
  expect_part(complaint([](auto& m) { m.scalars["x"] = std::nan(""); }), "its scalar x is neither a finite");
  expect_part(complaint([](auto& m) { m.scalars["x"] = "\n"; }), "its scalar x is neither a finite");
  expect_part(complaint([](auto& m) { m.job_fingerprint = "\x1b[2J"; }),
              "job_fingerprint is not a plain text");
}

// The checksum is right, as whoever writes a wrong manifest can make it.
TEST(CheckpointManifestText, RulesHoldForTheReader) {
  const std::string whole = render_checkpoint_manifest(some_manifest()).value();
  const std::string json = whole.substr(0, whole.rfind(",\n  \"checksum\"")) + "\n}";
  const auto complaint = [&](const std::string& what, const std::string& by) {
    std::string changed = json;
    const std::size_t at = changed.find(what);
    EXPECT_NE(at, std::string::npos) << what;
    changed.replace(at, what.size(), by);
    const auto manifest = parse_checkpoint_manifest(seal_manifest(changed), "m");
    if (manifest.ok()) return std::string();
    EXPECT_EQ(manifest.error().code, ErrorCode::corrupt);
    return manifest.error().message;
  };
  EXPECT_EQ(complaint("\"f\"", "\"g\""), "");
  EXPECT_EQ(complaint("\"term\"", "\"later\": [[1]], \"term\""), "") << "unknown members are passed over";
  expect_part(complaint("\"format\"", "\"f\""), "m: it has no \"format\"");
  expect_part(complaint("paceline-checkpoint", "other"), "m: it is no checkpoint's manifest");
  for (const char* number : {"-1", "0.5", "1e3", "\"3\"", "9007199254740993", "99999999999999999999"})
    expect_part(complaint("\"step\": 5", concat("\"step\": ", number)),
                "m: its \"step\" is not a whole number from 0 to 2^53");
  expect_part(complaint("\"bytes\": 5000", "\"bytes\": 9007199254740992"), "larger than 2^53 bytes");
  expect_part(complaint("\"bytes\": 5000", "\"bytes\": 9007199254740991"),
              "leave out the last 9007199254735991");
  expect_part(complaint("\"bytes\": 4096", "\"bytes\": 8192"), "m: its part 0 has 8192 bytes, and only 5001");
  expect_part(complaint("\"offset\": 4096", "\"offset\": 4095"), "m: its part 1 begins at byte 4095");
  expect_part(complaint("\"ranks\": 2", "\"ranks\": 3"), "m: its part 0 is that of rank 0 of 3");
  expect_part(complaint("0xfedcba9876543210", "0xFEDCBA9876543210"),
              "m: part 1: its checksum 0 is not 0x and 16 hexadecimal digits");
  expect_part(complaint("\"0xfedcba9876543210\"", ""), "has 0 checksums for 1 blocks");
  expect_part(complaint("{}", "[]"), "m: its \"scalars\" is no JSON object");
  expect_part(complaint("{}", "{\"a\": null}"), "m: its scalar a is neither a number nor a string");
  expect_part(complaint("{}", "{\"a\": 18446744073709551615}"), "m: its scalar a is neither");
  expect_part(complaint("\"name\": \"b\"", "\"name\": \"\\u0007\""), "name that is not a plain text");
  expect_part(complaint("{}", std::string(100'000, '[')), "m: it is not JSON");
  for (const std::string& text : {std::string(), std::string("{}"), json, whole + " ", whole.substr(1)})
    EXPECT_FALSE(parse_checkpoint_manifest(text, "m").ok());
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
