#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "checksum.hpp"
#include "data_fixture.hpp"
#include "hdf5_shard.hpp"
#include "manifest.hpp"
#include "paceline/base/hash.hpp"
#include "paceline/base/log.hpp"
#include "paceline/data/dataset.hpp"

namespace paceline {
namespace {

namespace fs = std::filesystem;
using namespace data_testing;

std::string open_error(const std::string& path) {
  const Result<Dataset> dataset = Dataset::open(path);
  return dataset.ok() ? "opened" : dataset.error().message;
}

/// What open or verify says about a dataset; empty if both are content.
std::string fault_of(const std::string& path) {
  const Result<Dataset> dataset = Dataset::open(path);
  if (!dataset.ok()) return dataset.error().message;
  const Result<std::vector<std::string>> faults = verify_dataset(path);
  if (!faults.ok()) return faults.error().message;
  return faults->empty() ? "" : faults->front();
}

void expect_part(const std::string& whole, const std::string& part) {
  EXPECT_NE(whole.find(part), std::string::npos) << whole;
}

void flip(const std::string& path, std::size_t at, int bit) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekg(static_cast<std::streamoff>(at));
  const auto byte = static_cast<char>(file.get() ^ (1 << bit));
  file.seekp(static_cast<std::streamoff>(at));
  file.put(byte);
}

/// The text with a checksum that is right for it: what a hostile or careless writer makes.
std::string sign(std::string text) {
  const std::string key = "\"manifest_checksum\": \"0x";
  const std::size_t digits = text.find(key) + key.size();
  text.replace(digits, 16, 16, '0');
  const std::string checksum = checksum_text(checksum_of(std::as_bytes(std::span(text))));
  return text.replace(digits, 16, checksum.substr(2));
}

Result<Manifest> manifest_of(const std::string& path) {
  return parse_manifest(read_bytes(path + "/manifest.json"), path);
}

/// Where chunk 0 of a shard begins; its other chunks follow without gaps.
std::size_t values_offset(const std::string& path, std::size_t shard = 0) {
  const Result<Manifest> manifest = manifest_of(path);
  const std::string bytes = read_bytes(concat(path, "/", manifest->shards[shard].file));
  IndexRow row;
  std::memcpy(&row, bytes.data() + manifest->shards[shard].index_offset, sizeof row);
  return row.offset;
}

/// Gives each shard's changed metadata the checksum that is right for it.
void sign_shards(const std::string& path) {
  Result<Manifest> manifest = manifest_of(path);
  ASSERT_TRUE(manifest.ok());
  for (ShardEntry& entry : manifest->shards) {
    const std::string bytes = read_bytes(concat(path, "/", entry.file));
    std::vector<ChunkEntry> chunks(static_cast<std::size_t>(chunks_in(*manifest, entry)));
    for (std::size_t i = 0; i < chunks.size(); ++i) {
      IndexRow row;
      std::memcpy(&row, bytes.data() + entry.index_offset + static_cast<std::int64_t>(i * sizeof row),
                  sizeof row);
      chunks[i].offset = static_cast<std::int64_t>(row.offset);
      chunks[i].stored_bytes = static_cast<std::int64_t>(row.stored_bytes);
    }
    const UniqueFd fd(::open(concat(path, "/", entry.file).c_str(), O_RDONLY));
    entry.metadata_checksum = checksum_metadata(fd.get(), path, chunks, entry.bytes).value();
  }
  write_bytes(path + "/manifest.json", render_manifest(*manifest));
}

TEST(Dataset, SaysWhatAFolderIsInstead) {
  const TemporaryFolder folder;
  const std::string train = make_dataset(folder, 20);
  expect_part(open_error(folder / "set"), concat(folder / "set", " is a folder of datasets: use ",
                                                 folder / "set/test", " or ", folder / "set/train"));
  expect_part(open_error(folder / "source"),
              "source is not a dataset folder: it has no manifest.json; make one with "
              "`paceline data import`");
  expect_part(open_error(train + "/manifest.json"), "manifest.json is not a dataset folder");
  expect_part(open_error(folder / "nowhere"), "there is no dataset at ");
  EXPECT_EQ(Dataset::open(folder / "nowhere").error().code, ErrorCode::not_found);
  EXPECT_TRUE(Dataset::open(train + "//").ok());
}

TEST(Dataset, NamesAMissingATruncatedAndAGrownShard) {
  const TemporaryFolder folder;
  const std::string train = make_dataset(folder, 250);
  const std::string shard = train + "/shard-00001.h5";
  const std::string whole = read_bytes(shard);
  SplitMix64 random(5);
  for (int i = 0; i < 50; ++i) {
    const std::size_t left = random.below(whole.size());
    write_bytes(shard, whole.substr(0, left));
    expect_part(open_error(train), concat("shard-00001.h5: it has ", left, " bytes, and the manifest says ",
                                          whole.size(), ": it was truncated; restore the file or import"));
  }
  write_bytes(shard, whole + "x");
  expect_part(open_error(train), "it was written to since");
  fs::remove(shard);
  expect_part(open_error(train), "shard-00001.h5 is missing");
  fs::create_directory(shard);
  expect_part(open_error(train), "it is not a regular file");
  EXPECT_EQ(Dataset::open(train).error().code, ErrorCode::corrupt);
}

TEST(Dataset, EveryFlippedBitOfTheManifestIsFound) {
  const TemporaryFolder folder;
  const std::string train = make_dataset(folder, 120);
  const std::string good = read_bytes(train + "/manifest.json");
  for (std::size_t at = 0; at < good.size(); ++at)
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
      ASSERT_FALSE(parse_manifest(bad, "m").ok()) << "byte " << at << " bit " << bit << ": " << bad;
    }
  EXPECT_TRUE(parse_manifest(good, "m").ok());
  for (std::size_t left = 0; left < good.size(); ++left)
    ASSERT_FALSE(parse_manifest(good.substr(0, left), "m").ok());
}

TEST(Dataset, AnyFlippedBitOfAShardIsFound) {
  const TemporaryFolder folder;
  const std::string train = make_dataset(folder, 37);  // one shard, 3 chunks, the last padded
  const std::string shard = train + "/shard-00000.h5";
  const std::size_t bytes = fs::file_size(shard);
  const std::size_t values = values_offset(train);
  const auto chunk_bytes = static_cast<std::size_t>(3 * 16 * image_bytes);
  ASSERT_EQ(fault_of(train), "");
  SplitMix64 random(11);
  for (int i = 0; i < 800; ++i) {
    // Half of the flips anywhere, half outside of the values, which are most of the file.
    std::size_t at = random.below(bytes);
    while (i % 2 == 0 && at >= values && at < values + chunk_bytes) at = random.below(bytes);
    const int bit = static_cast<int>(random.below(8));
    flip(shard, at, bit);
    ASSERT_NE(fault_of(train), "") << "byte " << at << " bit " << bit;
    flip(shard, at, bit);
  }
  EXPECT_EQ(fault_of(train), "");
}

TEST(Dataset, ACorruptChunkIsNamedWithBothChecksumsAndNoOtherIsTouched) {
  const TemporaryFolder folder;
  const std::string train = make_dataset(folder, 250);
  const Result<Dataset> dataset = Dataset::open(train);
  ASSERT_TRUE(dataset.ok());
  ASSERT_EQ(dataset->info().chunks, 7 + 7 + 4);
  // Chunk 9 is the third of the second shard.
  const std::size_t offset = values_offset(train, 1) + 2 * 16 * image_bytes;
  flip(train + "/shard-00001.h5", offset + 99, 3);
  for (std::int64_t chunk = 0; chunk < dataset->info().chunks; ++chunk)
    EXPECT_EQ(dataset->read_chunk(chunk).ok(), chunk != 9) << chunk;
  const Result<Chunk> bad = dataset->read_chunk(9);
  ASSERT_FALSE(bad.ok());
  EXPECT_EQ(bad.error().code, ErrorCode::corrupt);
  const std::string stored = read_bytes(train + "/shard-00001.h5").substr(offset, 16 * image_bytes);
  const std::string actual = checksum_text(checksum_of(std::as_bytes(std::span(stored))));
  expect_part(bad.error().message, concat(train, "/shard-00001.h5: chunk 2 at byte ", offset,
                                          ": its checksum is ", actual, ", the index says 0x"));
  expect_part(bad.error().message, "; restore the file or import the dataset again");
  EXPECT_FALSE(dataset->read_chunk(-1).ok());
  EXPECT_FALSE(dataset->read_chunk(18).ok());
}

std::string last_log;  // of the one test that follows
void keep_log(LogLevel, std::string_view message) {
  last_log = message;
}

TEST(Dataset, AChunkThatIsRightAtTheSecondReadIsUsedAndReported) {
  const TemporaryFolder folder;
  const std::string train = make_dataset(folder, 40);
  const std::string shard = train + "/shard-00000.h5";
  const std::string good = read_bytes(shard);
  const Result<Dataset> dataset = Dataset::open(train);
  ASSERT_TRUE(dataset->read_chunk(0).ok());  // the file is open from here on
  flip(shard, values_offset(train) + 5, 0);
  write_bytes(train + "/restored", good);
  fs::rename(train + "/restored", shard);
  last_log.clear();
  set_log_sink(keep_log);
  const Result<Chunk> chunk = dataset->read_chunk(0);
  set_log_sink(nullptr);
  ASSERT_TRUE(chunk.ok()) << chunk.error().message;
  EXPECT_EQ(std::to_integer<int>(chunk->values[5]), pixel(0, 5));
  expect_part(last_log, "read again, and then it was right");
}

TEST(Dataset, ManyShardsDoNotNeedManyDescriptors) {
  const TemporaryFolder folder;
  write_source(folder / "source", 300, 1);
  ImportOptions options = small_import(folder / "source", folder / "set");
  options.shard_samples = 1;
  ASSERT_TRUE(import_dataset(options).ok());
  const auto open_files = [] { return entries_of("/proc/self/fd").size(); };
  const std::size_t before = open_files();
  const Result<Dataset> dataset = Dataset::open(folder / "set/train");
  ASSERT_TRUE(dataset.ok());
  for (int round = 0; round < 2; ++round)
    for (std::int64_t chunk = 0; chunk < 300; ++chunk)
      ASSERT_EQ(sample_of(dataset->read_chunk(chunk)->values.data()), chunk);
  EXPECT_LE(open_files(), before + 128);
}

TEST(Verify, ListsFaultsOfAllShardsAndAtMostTen) {
  const TemporaryFolder folder;
  const std::string train = make_dataset(folder, 450);
  const std::size_t values = values_offset(train);  // shards 0 to 3 have the same shape
  flip(train + "/shard-00000.h5", values, 0);
  flip(train + "/shard-00000.h5", values + 3 * 16 * image_bytes, 0);
  fs::resize_file(train + "/shard-00002.h5", 5000);
  const Result<std::vector<std::string>> faults = verify_dataset(train);
  ASSERT_TRUE(faults.ok());
  ASSERT_EQ(faults->size(), 3U);
  expect_part((*faults)[0], concat("shard-00000.h5: chunk 0 at byte ", values, ": its checksum is"));
  expect_part((*faults)[1], "shard-00000.h5: chunk 3 at byte");
  expect_part((*faults)[2], "shard-00002.h5: it has 5000 bytes");
  for (const char* shard : {"/shard-00001.h5", "/shard-00003.h5"})
    for (std::size_t chunk = 0; chunk < 7; ++chunk) flip(train + shard, values + chunk * 16 * image_bytes, 0);
  EXPECT_EQ(verify_dataset(train)->size(), 10U);
  EXPECT_FALSE(verify_dataset(folder / "set").ok());
}

TEST(Verify, FindsWhatOnlyTheHdf5LibrarySees) {
  const TemporaryFolder folder;
  const std::string train = make_dataset(folder, 37);
  flip(train + "/shard-00000.h5", 1, 0);  // of the signature "\x89HDF"
  expect_part(open_error(train), "the checksum of its index, labels and HDF5 structures is");
  sign_shards(train);
  EXPECT_EQ(open_error(train), "opened");  // our own reading is untouched
  expect_part(fault_of(train), "shard-00000.h5 cannot be opened (HDF5: ");
  flip(train + "/shard-00000.h5", 1, 0);
  sign_shards(train);
  EXPECT_EQ(fault_of(train), "");
}

TEST(Verify, FindsLabelsOutsideOfTheClasses) {
  const TemporaryFolder folder;
  const std::string train = make_dataset(folder, 37);
  const auto labels = static_cast<std::size_t>(manifest_of(train)->shards[0].labels_offset);
  flip(train + "/shard-00000.h5", labels + 4 * 5, 7);  // 5 becomes 133
  sign_shards(train);
  expect_part(open_error(train), "sample 5 has the label 133 where there are 10 classes");
}

TEST(Index, HostileRowsAreErrors) {
  const TemporaryFolder folder;
  const std::string train = make_dataset(folder, 37);
  const Result<Manifest> manifest = manifest_of(train);
  const ShardEntry& entry = manifest->shards[0];
  const std::string shard = train + "/shard-00000.h5";
  const std::string good = read_bytes(shard);
  const std::uint64_t first_offset = values_offset(train);
  const auto open_with = [&](std::size_t row, std::size_t column, std::uint64_t value) {
    std::string bad = good;
    std::memcpy(bad.data() + entry.index_offset + static_cast<std::int64_t>(row * 32 + column * 8), &value,
                8);
    write_bytes(shard, bad);
    return open_error(train);
  };
  for (const std::uint64_t offset : std::vector<std::uint64_t>{~0ULL, 1ULL << 63, 1ULL << 62, good.size()})
    expect_part(open_with(1, 0, offset), "chunk 1: the index puts it at byte ");
  expect_part(open_with(1, 0, first_offset), "before the end of the chunk before it");
  expect_part(open_with(0, 0, static_cast<std::uint64_t>(entry.labels_offset) - 12544 + 10),
              "chunk 0: it overlaps");
  expect_part(open_with(2, 1, 0), "chunk 2: the index says 0 stored and 12544 raw bytes");
  expect_part(open_with(2, 2, ~0ULL), "the index says 12544 stored and 18446744073709551615 raw bytes");
  expect_part(open_with(2, 3, 0), "the checksum of its index, labels");
}

TEST(Manifest, RoundTrips) {
  const TemporaryFolder folder;
  const std::string train = make_dataset(folder, 250);
  const std::string text = read_bytes(train + "/manifest.json");
  EXPECT_EQ(render_manifest(manifest_of(train).value()), text);
}

struct Change {
  const char* where;  // JSON pointer
  const char* value;  // JSON; empty removes
  const char* message;
};

TEST(Manifest, EachWrongValueIsNamed) {
  const TemporaryFolder folder;
  const std::string good = read_bytes(make_dataset(folder, 250) + "/manifest.json");
  const std::vector<Change> changes = {
      {"/format/version", "2", "format version 2 and this Paceline reads 1"},
      {"/format/name", "\"other\\u001b\"", "`name` is \"other\\u001b\", and this Paceline reads only"},
      {"/format", "3", "`format`: it is not a JSON object"},
      {"/name", "\"\"", "`name` is not a text"},
      {"/dtype", "\"f32\"", "`dtype` is \"f32\", and this Paceline reads only \"u8\""},
      {"/storage", "\"zstd\"", "reads only \"raw\""},
      {"/samples", "", "`samples` is missing"},
      {"/samples", "251", "its shards have 250 together"},
      {"/samples", "0", "`samples` is not a whole number from 1 to 2147483647"},
      {"/samples", "-1", "`samples` is not a whole number"},
      {"/samples", "1.5", "`samples` is not a whole number"},
      {"/samples", "18446744073709551615", "`samples` is not a whole number"},
      {"/samples", "1e300", "`samples` is not a whole number"},
      {"/chunk_samples", "67108864", "which makes chunks larger than 1.0 GiB"},
      {"/chunk_samples", "17", "`chunks` is not a whole number from 6 to 6"},
      {"/classes", "null", "`classes` is not a whole number"},
      {"/mean", "\"x\"", "`mean` is not a number from 0 to 1"},
      {"/standard_deviation", "0", "`standard_deviation` is not a number"},
      {"/sample_shape", "[]", "`sample_shape` is not a list of 1 to 8 sizes"},
      {"/sample_shape", "[0]", "`sample_shape` has a size that is not"},
      {"/sample_shape", "[1073741824,1073741824,1073741824]", "makes samples of more than 1.0 GiB"},
      {"/shards", "[]", "`shards` is not a list of at least one"},
      {"/shards/1/file", "\"../../etc/passwd\"", "shard 1: `file` is not a plain file name"},
      {"/shards/1/file", "\".hidden\"", "`file` is not a plain file name"},
      {"/shards/1/file", "\"shard-00000.h5\"", "two shards have the file shard-00000.h5"},
      {"/shards/1/samples", "9223372036854775807", "shard 1: `samples` is not a whole number"},
      {"/shards/1/bytes", "-5", "`bytes` is not a whole number"},
      {"/shards/1/index_offset", "99999999", "`index_offset` is not a whole number"},
      {"/shards/1/metadata_checksum", "\"0xABCDEF0123456789\"", "is not 0x and 16 hexadecimal digits"},
  };
  for (const Change& change : changes) {
    auto document = nlohmann::ordered_json::parse(good);
    const nlohmann::ordered_json::json_pointer where(change.where);
    if (*change.value == '\0')
      document.erase(std::string(change.where + 1));
    else
      document[where] = nlohmann::ordered_json::parse(change.value);
    const Result<Manifest> parsed = parse_manifest(sign(document.dump(2)), "folder/manifest.json");
    ASSERT_FALSE(parsed.ok()) << change.where << " " << change.value;
    expect_part(parsed.error().message, change.message);
    expect_part(parsed.error().message, "folder/manifest.json");
  }
  EXPECT_TRUE(parse_manifest(sign(nlohmann::ordered_json::parse(good).dump(1)), "m").ok());
}

TEST(Manifest, RandomBytesNeverCrash) {
  constexpr std::string_view alphabet = "{}[]\",:0123456789.eE-+ntful\\ \"format\"samples";
  for (std::uint64_t seed = 0; seed < 20000; ++seed) {
    SplitMix64 random(seed);
    std::string text(random.below(200), ' ');
    for (char& c : text)
      c = seed % 2 == 0 ? static_cast<char>(random.next()) : alphabet[random.below(alphabet.size())];
    ASSERT_FALSE(parse_manifest(text, "m").ok()) << "seed " << seed;
  }
  ASSERT_FALSE(parse_manifest(std::string(1 << 20, '['), "m").ok());
}

/// Hostile numbers under a right checksum, so that they reach every check behind it, through to the shards.
TEST(Manifest, SignedHostileValuesNeverCrash) {
  const TemporaryFolder folder;
  const std::string train = make_dataset(folder, 120);
  const std::string good = read_bytes(train + "/manifest.json");
  const std::vector<std::string> values = {"0",
                                           "1",
                                           "-1",
                                           "2147483647",
                                           "4294967296",
                                           "9223372036854775807",
                                           "18446744073709551615",
                                           "1e308",
                                           "0.5",
                                           "null",
                                           "\"\"",
                                           "[]",
                                           "{}",
                                           "[[[1]]]",
                                           "true",
                                           "67108864",
                                           "1073741824",
                                           "17592186044416"};
  const auto flat = nlohmann::ordered_json::parse(good).flatten();
  int opened = 0;
  for (std::uint64_t seed = 0; seed < 1500; ++seed) {
    SplitMix64 random(seed);
    auto document = flat;
    for (std::uint64_t i = 0; i <= seed % 3; ++i) {
      auto member = document.begin();
      std::advance(member,
                   static_cast<std::ptrdiff_t>(random.below(document.size() - 1)));  // not the checksum
      const std::string& value = values[random.below(values.size())];
      if (value[0] != '[' && value[0] != '{') member.value() = nlohmann::ordered_json::parse(value);
    }
    write_bytes(train + "/manifest.json", sign(document.unflatten().dump(2)));
    opened += Dataset::open(train).ok() ? 1 : 0;
  }
  EXPECT_GT(opened, 0);    // some changes are harmless: another mean, more classes
  EXPECT_LT(opened, 750);  // most are not
}

TEST(Skeleton, HoldsShardsOfManyGigabytes) {
  ShardShape shape;
  shape.sample_shape = {3, 224, 224};
  shape.samples = 50000;
  shape.chunk_samples = 64;
  shape.chunks = 782;
  shape.chunk_bytes = 64 * 3 * 224 * 224;
  const Result<ShardSkeleton> skeleton = make_skeleton(shape);
  ASSERT_TRUE(skeleton.ok()) << skeleton.error().message;
  const std::int64_t data = shape.chunks * shape.chunk_bytes + 50000 * 4 + 782 * 32;  // 7.5 GB
  EXPECT_GT(skeleton->bytes, data);
  EXPECT_LT(skeleton->bytes, data + skeleton_most_bytes);
  struct stat status {};
  ASSERT_EQ(::fstat(skeleton->fd.get(), &status), 0);
  EXPECT_LT(status.st_blocks * 512, skeleton_most_bytes);  // and takes next to no memory
}

}  // namespace
}  // namespace paceline
