#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "data_damage.hpp"
#include "paceline/base/hash.hpp"
#include "paceline/base/log.hpp"

// Folders and shards that are missing, cut, damaged or lying, and that each is found and named.

namespace paceline {
namespace {

namespace fs = std::filesystem;
using namespace data_testing;

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

TEST(Dataset, DescribesItself) {
  const TemporaryFolder folder;
  write_images(folder / "set", {Storage::lz4});
  const Result<Dataset> dataset = Dataset::open(folder / "set");
  ASSERT_TRUE(dataset.ok()) << dataset.error().message;
  const DatasetInfo& info = dataset->info();
  EXPECT_EQ(info.task, "image-classification");
  EXPECT_EQ(info.dtype, "u8");
  EXPECT_EQ(info.storage, "lz4");
  EXPECT_EQ(info.layout, "chw");
  EXPECT_EQ(info.sample_bytes, image_bytes);
  EXPECT_EQ(info.shards, 3);
  EXPECT_EQ(info.chunks, 7 + 7 + 4);
  EXPECT_EQ(info.chunk_bytes, BufferPool::capacity_for(16 * (image_bytes + 4)));
  EXPECT_EQ(info.mean, std::vector<double>{0.5});
  EXPECT_EQ(dataset->describe(8), concat(folder / "set", "/shard-00001.h5: chunk 1"));
  const std::int64_t offset = dataset->place(8)->extents[0].offset;
  EXPECT_EQ(dataset->describe(8), concat(folder / "set", "/shard-00001.h5: chunk 1 at byte ", offset));
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

TEST(Dataset, AShardThatIsCutWhileItIsOpenIsAnError) {
  const TemporaryFolder folder;
  write_images(folder / "set", {});
  const Result<Dataset> dataset = Dataset::open(folder / "set");
  const std::string shard = folder / "set/shard-00000.h5";
  fs::resize_file(shard, rows_of(folder / "set")[3].offset + 5);
  expect_part(dataset->read_chunk(3).error().message, "shard-00000.h5: it ends at byte");
  EXPECT_TRUE(dataset->read_chunk(8).ok());
}

TEST(Dataset, AnyFlippedBitOfAShardIsFoundInEveryStorage) {
  const TemporaryFolder folder;
  for (const Storage storage : {Storage::raw, Storage::zstd, Storage::lz4, Storage::jpeg}) {
    const std::string set = folder / std::string(to_string(storage));
    write_images(set, {storage, 37, 16, 100});  // one shard, 3 chunks, the last padded
    const std::string shard = set + "/shard-00000.h5";
    const std::size_t bytes = fs::file_size(shard);
    const std::vector<IndexRow> rows = rows_of(set);
    const std::size_t begin = rows.front().offset;
    const std::size_t end = rows.back().offset + rows.back().stored_bytes;
    ASSERT_EQ(read_error(set), "");
    ASSERT_EQ(fault_of(set), "");
    SplitMix64 random(11);
    for (int i = 0; i < 400; ++i) {
      // Half of the flips anywhere, half outside of the records, which are most of the file.
      std::size_t at = random.below(bytes);
      while (i % 2 == 0 && at >= begin && at < end) at = random.below(bytes);
      const int bit = static_cast<int>(random.below(8));
      flip(shard, at, bit);
      ASSERT_NE(read_error(set), "") << "byte " << at << " bit " << bit;
      ASSERT_NE(fault_of(set), "") << "byte " << at << " bit " << bit;
      flip(shard, at, bit);
    }
    EXPECT_EQ(fault_of(set), "");
  }
}

TEST(Dataset, AnyFlippedBitOfAShardOfTokensIsFound) {
  const TemporaryFolder folder;
  const std::string set = folder / "set";
  write_tokens(set, {ElementType::u16, Storage::zstd, 1000, 64, 2000, 2});
  const std::size_t bytes = fs::file_size(set + "/shard-00000.h5");
  for (std::size_t at = 0; at < bytes; at += 7) {
    flip(set + "/shard-00000.h5", at, static_cast<int>(at % 8));
    ASSERT_NE(read_error(set), "") << "byte " << at;
    flip(set + "/shard-00000.h5", at, static_cast<int>(at % 8));
  }
  EXPECT_EQ(fault_of(set), "");
}

TEST(Dataset, ACorruptChunkIsNamedWithBothChecksumsAndNoOtherIsTouched) {
  const TemporaryFolder folder;
  const std::string train = make_dataset(folder, 250);
  const Result<Dataset> dataset = Dataset::open(train);
  ASSERT_TRUE(dataset.ok());
  ASSERT_EQ(dataset->info().chunks, 7 + 7 + 4);
  const IndexRow row = rows_of(train, 1)[2];  // chunk 9
  flip(train + "/shard-00001.h5", row.offset + 99, 3);
  for (std::int64_t chunk = 0; chunk < dataset->info().chunks; ++chunk)
    EXPECT_EQ(dataset->read_chunk(chunk).ok(), chunk != 9) << chunk;
  const Result<Chunk> bad = dataset->read_chunk(9);
  ASSERT_FALSE(bad.ok());
  EXPECT_EQ(bad.error().code, ErrorCode::corrupt);
  const std::string stored = read_bytes(train + "/shard-00001.h5").substr(row.offset, row.stored_bytes);
  const std::string actual = checksum_text(checksum_of(std::as_bytes(std::span(stored))));
  expect_part(bad.error().message,
              concat(train, "/shard-00001.h5: chunk 2 at byte ", row.offset, ": its checksum is ", actual,
                     ", the index says ", checksum_text(row.checksum), "; restore the file or import"));
  EXPECT_FALSE(dataset->read_chunk(-1).ok());
  EXPECT_FALSE(dataset->place(18).ok());
  expect_part(dataset->describe(18), "has chunks 0 to 17, not 18");
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
  flip(shard, rows_of(train)[0].offset + 5, 0);
  write_bytes(train + "/restored", good);
  fs::rename(train + "/restored", shard);
  last_log.clear();
  set_log_sink(keep_log);
  const Result<Chunk> chunk = dataset->read_chunk(0);
  set_log_sink(nullptr);
  ASSERT_TRUE(chunk.ok()) << chunk.error().message;
  EXPECT_EQ(std::to_integer<int>(chunk->sample(0)[5]), pixel(0, 5));
  expect_part(last_log, "read again, and then it was right");
}

TEST(Dataset, IndexesAreReadOnlyWhenTheirShardIsWanted) {
  const TemporaryFolder folder;
  write_images(folder / "set", {});
  const std::string shard = folder / "set/shard-00001.h5";
  flip(shard, 1, 0);
  const Result<Dataset> dataset = Dataset::open(folder / "set");
  ASSERT_TRUE(dataset.ok()) << dataset.error().message;
  EXPECT_TRUE(dataset->read_chunk(0).ok());
  const Result<ChunkPlace> bad = dataset->place(7);
  ASSERT_FALSE(bad.ok());
  expect_part(bad.error().message, "shard-00001.h5: the checksum of its index and HDF5 structures is 0x");
  flip(shard, 1, 0);  // an error is not kept
  EXPECT_TRUE(dataset->place(7).ok());
  flip(shard, 1, 0);  // and from here on it is not read again
  EXPECT_TRUE(dataset->read_chunk(7).ok());
}

TEST(Dataset, ThreadsMayBeTheFirstToUseAShardTogether) {
  const TemporaryFolder folder;
  write_images(folder / "set", {Storage::zstd, 250, 16, 20});
  for (int round = 0; round < 20; ++round) {
    const Result<Dataset> dataset = Dataset::open(folder / "set");
    ASSERT_TRUE(dataset.ok());
    std::atomic<std::int64_t> sum = 0;
    std::vector<std::thread> threads;
    for (int thread = 0; thread < 4; ++thread)
      threads.emplace_back([&] {
        for (std::int64_t chunk = 0; chunk < dataset->info().chunks; ++chunk) {
          const Result<Chunk> read = dataset->read_chunk(chunk);
          for (std::int64_t i = 0; read.ok() && i < read->samples(); ++i)
            sum += sample_of(read->sample(i).data());
        }
      });
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(sum, 4 * 250 * 249 / 2);
  }
}

TEST(Dataset, ManyShardsDoNotNeedManyDescriptors) {
  const TemporaryFolder folder;
  write_images(folder / "set", {Storage::raw, 300, 16, 1});
  const auto open_files = [] { return entries_of("/proc/self/fd").size(); };
  const std::size_t before = open_files();
  const Result<Dataset> dataset = Dataset::open(folder / "set");
  ASSERT_TRUE(dataset.ok());
  EXPECT_LE(open_files(), before + 1);
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit few = {before + 140, limit.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  for (int round = 0; round < 2; ++round)
    for (std::int64_t chunk = 0; chunk < 300; ++chunk)
      ASSERT_EQ(sample_of(dataset->read_chunk(chunk)->sample(0).data()), chunk);
  EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_LE(open_files(), before + 128);
}

TEST(BufferPool, MemoryIsUsedAgain) {
  BufferPool pool(1 << 20);
  const std::byte* before = nullptr;
  for (int round = 0; round < 3; ++round) {
    const ByteBuffer buffer = pool.take(100000);
    EXPECT_TRUE(round == 0 || buffer.data() == before);
    before = buffer.data();
    EXPECT_EQ(pool.kept_bytes(), 0);
  }
  EXPECT_GE(pool.kept_bytes(), 100000);
  EXPECT_LE(pool.kept_bytes(), 125000);
  EXPECT_NE(pool.take(50000).data(), before);  // too large a buffer for it
  std::vector<ByteBuffer> many;
  for (int i = 0; i < 30; ++i) many.push_back(pool.take(100000));
  many.clear();
  EXPECT_LE(pool.kept_bytes(), 1 << 20);
  { const ByteBuffer other = pool.take(500000); }  // what is wanted now stays, what was wanted gives way
  EXPECT_GE(pool.kept_bytes(), 500000);
  EXPECT_LE(pool.kept_bytes(), 1 << 20);
  ByteBuffer survivor = BufferPool(1000).take(10);  // outlives its pool
  survivor = ByteBuffer();
  EXPECT_EQ(survivor.size(), 0);
}

TEST(BufferPool, UnusedBuffersTakeOnlyWhatTheLimitLeaves) {
  constexpr std::int64_t limit = 10 * 4096;
  BufferPool pool(limit);
  std::vector<ByteBuffer> used;
  for (int i = 0; i < 8; ++i) used.push_back(pool.take(4096));
  std::vector<ByteBuffer> returned;
  for (int i = 0; i < 5; ++i) returned.push_back(pool.take(4096));  // beyond the limit, and not refused
  returned.clear();
  EXPECT_EQ(pool.kept_bytes(), limit - 8 * 4096);
  used.push_back(pool.take(4096));
  EXPECT_EQ(pool.kept_bytes(), limit - 9 * 4096) << "a kept buffer was handed out";
  used.push_back(pool.take(2 * 4096));
  EXPECT_EQ(pool.kept_bytes(), 0) << "a kept buffer of another size gave way";
  used.clear();
  EXPECT_EQ(pool.kept_bytes(), limit);
  ByteBuffer large = pool.take(limit - 2 * 4096);
  EXPECT_EQ(pool.kept_bytes(), 2 * 4096);
  ByteBuffer moved = std::move(large);
  large = ByteBuffer();
  EXPECT_EQ(pool.kept_bytes(), 2 * 4096) << "moving a buffer gives nothing back";
  moved = ByteBuffer();
  EXPECT_EQ(pool.kept_bytes(), limit);
}

TEST(Verify, ListsFaultsOfAllShardsAndAtMostTen) {
  const TemporaryFolder folder;
  const std::string train = make_dataset(folder, 450);
  const std::size_t first = rows_of(train)[0].offset;  // shards 0 to 3 have the same shape
  const std::size_t record = 16 * (image_bytes + 4);
  flip(train + "/shard-00000.h5", first, 0);
  flip(train + "/shard-00000.h5", first + 3 * record, 0);
  fs::resize_file(train + "/shard-00002.h5", 5000);
  const Result<std::vector<std::string>> faults = verify_dataset(train);
  ASSERT_TRUE(faults.ok());
  ASSERT_EQ(faults->size(), 3U);
  expect_part((*faults)[0], concat("shard-00000.h5: chunk 0 at byte ", first, ": its checksum is"));
  expect_part((*faults)[1], "shard-00000.h5: chunk 3 at byte");
  expect_part((*faults)[2], "shard-00002.h5: it has 5000 bytes");
  for (const char* shard : {"/shard-00001.h5", "/shard-00003.h5"})
    for (std::size_t chunk = 0; chunk < 7; ++chunk) flip(train + shard, first + chunk * record, 0);
  EXPECT_EQ(verify_dataset(train)->size(), 10U);
  EXPECT_FALSE(verify_dataset(folder / "set").ok());
}

TEST(Verify, FindsWhatOnlyTheHdf5LibrarySees) {
  const TemporaryFolder folder;
  const std::string train = make_dataset(folder, 37);
  const std::string shard = train + "/shard-00000.h5";
  // Of the signature "\x89HDF", and the superblock's mark of a file that is still being written.
  for (const auto& [at, bit] : std::vector<std::pair<std::size_t, int>>{{1, 0}, {11, 0}}) {
    flip(shard, at, bit);
    expect_part(read_error(train), "the checksum of its index and HDF5 structures is");
    sign_shards(train);
    EXPECT_EQ(read_error(train), "");  // our own reading is untouched
    expect_part(fault_of(train), "shard-00000.h5 cannot be opened (HDF5: ");
    flip(shard, at, bit);
    sign_shards(train);
    EXPECT_EQ(fault_of(train), "");
  }
  // A chunk that the index puts elsewhere than the library: a copy of it at the file's end.
  const std::string bytes = read_bytes(shard);
  IndexRow row = rows_of(train)[2];
  write_bytes(shard, bytes + bytes.substr(row.offset, row.stored_bytes));
  Manifest manifest = manifest_of(train);
  manifest.shards[0].bytes += static_cast<std::int64_t>(row.stored_bytes);
  write_bytes(train + "/manifest.json", render_manifest(manifest));
  row.offset = bytes.size();
  write_row(train, 2, row);
  sign_shards(train);
  EXPECT_EQ(read_error(train), "");
  EXPECT_EQ(fault_of(train), "");  // the same bytes, so nobody is told something wrong
  flip(shard, bytes.size() + 5, 1);
  const std::string changed = read_bytes(shard).substr(bytes.size());
  row.checksum = checksum_of(std::as_bytes(std::span(changed)));
  write_row(train, 2, row);
  sign_shards(train);
  EXPECT_EQ(read_error(train), "");
  expect_part(fault_of(train), "through the HDF5 library chunk 2 has other bytes than at the index's offset");
}

TEST(Verify, FindsLabelsOutsideOfTheClasses) {
  const TemporaryFolder folder;
  for (const Storage storage : {Storage::raw, Storage::zstd, Storage::jpeg}) {
    const std::string set = folder / std::string(to_string(storage));
    write_images(set, {storage, 37, 16, 100});
    const auto labels = static_cast<std::int64_t>(rows_of(set)[1].stored_bytes) - 16 * 4;
    write_in_record(set, 1, labels + 4 * 5, "\x85");
    expect_part(fault_of(set), "its sample 5 has the label 133 where there are 10 classes");
    expect_part(read_error(set), "shard-00000.h5: chunk 1 at byte");
    write_in_record(set, 1, labels + 4 * 5, std::string(4, '\xff'));
    expect_part(fault_of(set), "has the label -1");
  }
}

TEST(Verify, FindsTokensOutsideOfTheVocabulary) {
  const TemporaryFolder folder;
  const std::string set = folder / "set";
  write_tokens(set, {ElementType::u16, Storage::raw, 1000, 64, 2000});
  write_in_record(set, 2, 2 * 7, std::string("\xfb\0", 2));
  EXPECT_EQ(read_error(set), "");
  expect_part(fault_of(set), "its token 7 is 251 where there are 251 different ones");
  write_tokens(folder / "wide", {ElementType::i32, Storage::raw, 100, 64, 2000});
  write_in_record(folder / "wide", 0, 0, std::string(4, '\xff'));
  expect_part(fault_of(folder / "wide"), "its token 0 is -1 where");
}

TEST(Verify, FindsChunksThatDoNotFollowEachOther) {
  const TemporaryFolder folder;
  const std::string set = folder / "set";
  write_tokens(set, {ElementType::u8, Storage::raw, 500, 64, 128});
  const std::int64_t wrong = (token_of({ElementType::u8}, 128) + 1) % 251;
  write_in_record(set, 1, 64, std::string(1, static_cast<char>(wrong)));  // the last of the first shard
  expect_part(fault_of(set), concat("shard-00001.h5: chunk 0 at byte"));
  expect_part(fault_of(set), concat("and the chunk before it says that ", wrong, " follows it"));
}

TEST(Index, HostileRowsAreErrors) {
  const TemporaryFolder folder;
  const std::string train = make_dataset(folder, 37);
  const std::vector<IndexRow> good = rows_of(train);
  const std::uint64_t file_bytes = fs::file_size(train + "/shard-00000.h5");
  const auto read_with = [&](std::size_t chunk, std::uint64_t IndexRow::*column, std::uint64_t value) {
    IndexRow row = good[chunk];
    row.*column = value;
    write_row(train, chunk, row);
    const std::string error = read_error(train);
    write_row(train, chunk, good[chunk]);
    return error;
  };
  for (const std::uint64_t offset : {~0ULL, 1ULL << 63, 1ULL << 62, 0ULL + file_bytes})
    expect_part(read_with(1, &IndexRow::offset, offset), "chunk 1: the index puts it at byte ");
  expect_part(read_with(1, &IndexRow::offset, good[0].offset), "before the end of the chunk before it");
  const auto index = static_cast<std::uint64_t>(manifest_of(train).shards[0].index_offset);
  expect_part(read_with(2, &IndexRow::offset, index - good[2].stored_bytes + 1),
              "chunk 2: it overlaps the index");
  expect_part(read_with(2, &IndexRow::stored_bytes, 0),
              "chunk 2: the index says 0 stored and 12608 raw bytes");
  expect_part(
      read_with(2, &IndexRow::raw_bytes, ~0ULL),
      "the index says 12608 stored and 18446744073709551615 raw bytes, and raw chunks decode to 12608");
  expect_part(read_with(2, &IndexRow::checksum, 0), "the checksum of its index and");
}

/// Each lying length of a coded or cut record, under right checksums.
TEST(Index, LengthsThatLieAreErrorsInEveryStorage) {
  const TemporaryFolder folder;
  for (const Storage storage : {Storage::raw, Storage::zstd, Storage::lz4, Storage::jpeg}) {
    const std::string set = folder / std::string(to_string(storage));
    write_images(set, {storage, 37, 16, 100});
    const std::vector<IndexRow> good = rows_of(set);
    for (const std::uint64_t stored : std::vector<std::uint64_t>{
             0, 64, 65, good[1].stored_bytes - 1, good[1].stored_bytes + 1, 12607, 12608, ~0ULL}) {
      if (stored == good[1].stored_bytes) continue;
      IndexRow row = good[1];
      row.stored_bytes = stored;
      if (storage == Storage::jpeg) row.raw_bytes = stored;
      const std::string bytes = read_bytes(set + "/shard-00000.h5");
      if (stored < bytes.size() - row.offset)
        row.checksum = checksum_of(std::as_bytes(std::span(bytes).subspan(row.offset, stored)));
      write_row(set, 1, row);
      // Only the rows that remain in order can be signed.
      if (row.offset + stored <= good[2].offset) sign_shards(set);
      EXPECT_NE(read_error(set), "") << to_string(storage) << " " << stored;
      write_row(set, 1, good[1]);
      sign_shards(set);
      ASSERT_EQ(read_error(set), "");
    }
  }
}

TEST(Index, LengthsOfJpegFilesThatLieAreErrors) {
  const TemporaryFolder folder;
  const std::string set = folder / "set";
  write_images(set, {Storage::jpeg, 37, 16, 100});
  const std::string good = read_bytes(set + "/shard-00000.h5");
  const std::string manifest = read_bytes(set + "/manifest.json");
  // Of the last chunk, with 5 files and 11 that pad it.
  const auto lengths = static_cast<std::int64_t>(rows_of(set)[2].stored_bytes) - 16 * 8;
  for (const auto& [file, length, message] : std::vector<std::tuple<int, std::string, std::string>>{
           {0, std::string(4, '\xff'), "its sample 0 has a JPEG file of 4294967295 bytes"},
           {1, std::string(4, '\0'), "its sample 1 has a JPEG file of 0 bytes"},
           {4, std::string("\x01\0\0\0", 4), "its JPEG files have "},
           {5, std::string("\x01\0\0\0", 4), "its sample 5 has a JPEG file of 1 bytes"}}) {
    write_in_record(set, 2, lengths + 4 * file, length);
    expect_part(read_error(set), message);
    write_bytes(set + "/shard-00000.h5", good);
    write_bytes(set + "/manifest.json", manifest);
    ASSERT_EQ(read_error(set), "");
  }
}

/// The manifest says more than the shards hold, and is signed.
TEST(Index, AManifestThatPromisesMoreIsFound) {
  const TemporaryFolder folder;
  for (const std::int64_t more : {16, 1000, 100000}) {
    const std::string set = folder / concat("set", more);
    write_images(set, {Storage::raw, 37, 16, 100});
    Manifest manifest = manifest_of(set);
    manifest.samples += more;
    manifest.shards[0].samples += more;
    write_bytes(set + "/manifest.json", render_manifest(manifest));
    EXPECT_NE(read_error(set), "");
    EXPECT_NE(fault_of(set), "");
  }
  // Fewer bytes than promised, in the same number of chunks: samples of another shape.
  const std::string set = folder / "shape";
  write_images(set, {Storage::raw, 37, 16, 100});
  Manifest manifest = manifest_of(set);
  manifest.sample_shape = {1, 28, 29};
  write_bytes(set + "/manifest.json", render_manifest(manifest));
  expect_part(read_error(set),
              "the index says 12608 stored and 12608 raw bytes, and raw chunks decode to 13056");
}

}  // namespace
}  // namespace paceline
