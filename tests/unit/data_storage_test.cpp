#include <gtest/gtest.h>

#include <cstring>
#include <tuple>

#include "data_fixture.hpp"
#include "paceline/data/dataset.hpp"
#include "stored_dataset.hpp"

// Datasets of every storage, chunk and shard size: what was added comes back.

namespace paceline {
namespace {

using namespace data_testing;

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void expect_no_faults(const std::string& path) {
  const Result<std::vector<std::string>> faults = verify_dataset(path);
  ASSERT_TRUE(faults.ok()) << faults.error().message;
  ASSERT_TRUE(faults->empty()) << faults->front();
}

void expect_images(const std::string& path, const ImageSet& set) {
  const Result<Dataset> dataset = Dataset::open(path);
  ASSERT_TRUE(dataset.ok()) << dataset.error().message;
  ASSERT_EQ(dataset->info().samples, set.samples);
  std::int64_t sample = 0;
  for (std::int64_t number = 0; number < dataset->info().chunks; ++number) {
    const Result<Chunk> chunk = dataset->read_chunk(number);
    ASSERT_TRUE(chunk.ok()) << chunk.error().message;
    ASSERT_EQ(chunk->samples(), dataset->chunk_samples()[static_cast<std::size_t>(number)]);
    ASSERT_LE(chunk->bytes(), dataset->info().chunk_bytes);
    for (std::int64_t i = 0; i < chunk->samples(); ++i, ++sample) {
      ASSERT_EQ(chunk->label(i), label_of(sample));
      ASSERT_EQ(text_of(chunk->sample(i)), sample_bytes_of(set, sample)) << sample;
    }
  }
  EXPECT_EQ(sample, set.samples);
}

TEST(Storage, EveryImageComesBackFromAnyChunkAndShard) {
  const TemporaryFolder folder;
  int number = 0;
  for (const Storage storage : {Storage::raw, Storage::zstd, Storage::lz4, Storage::jpeg})
    for (const Content content : {Content::even, Content::noise, Content::mixed})
      for (const auto& [samples, chunk, shard] : std::vector<std::tuple<int, int, int>>{{1, 1, 1},
                                                                                        {1, 16, 100},
                                                                                        {15, 16, 100},
                                                                                        {16, 16, 16},
                                                                                        {17, 16, 100},
                                                                                        {250, 16, 100},
                                                                                        {61, 7, 20},
                                                                                        {40, 1, 33}}) {
        const ImageSet set = {storage, samples, chunk, shard, content};
        const std::string path = folder / concat("set", number++);
        SCOPED_TRACE(concat(to_string(storage), " ", static_cast<int>(content), ": ", samples, ", ", chunk,
                            ", ", shard));
        write_images(path, set);
        expect_images(path, set);
        expect_no_faults(path);
      }
}

TEST(Storage, WhatCodingDoesNotShortenIsStoredAsItIs) {
  const TemporaryFolder folder;
  for (const Storage storage : {Storage::zstd, Storage::lz4}) {
    const std::string path = folder / std::string(to_string(storage));
    write_images(path, {storage, 64, 16, 100, Content::mixed});
    const Result<Dataset> dataset = Dataset::open(path);
    ASSERT_TRUE(dataset.ok()) << dataset.error().message;
    const std::int64_t raw_bytes = 16 * image_bytes + 16 * 4;
    for (const std::int64_t noise : {1, 3}) EXPECT_EQ(dataset->place(noise)->bytes, raw_bytes);
    for (const std::int64_t even : {0, 2}) EXPECT_LT(dataset->place(even)->bytes, raw_bytes / 2);
    for (const std::int64_t any : {0, 1})
      EXPECT_EQ(dataset->info().chunk_bytes, dataset->read_chunk(any)->bytes());
  }
}

/// The tokens of a window, the one after it included.
std::string window_bytes(const TokenSet& set, std::int64_t first, std::int64_t window) {
  return token_bytes_of(set, first, window + 1);
}

void expect_windows(const std::string& path, const TokenSet& set, std::int64_t window) {
  const Result<Dataset> dataset = Dataset::open(path, {window});
  ASSERT_TRUE(dataset.ok()) << dataset.error().message;
  const DatasetInfo& info = dataset->info();
  EXPECT_EQ(info.sample_bytes, (window + 1) * bytes_of(set.type));
  EXPECT_EQ(info.sample_shape, std::vector<std::int64_t>{window});
  std::int64_t samples = 0;
  std::int64_t first = 0;  // token of the chunk
  for (std::int64_t number = 0; number < info.chunks; ++number) {
    const std::int64_t to_shard_end = set.shard_tokens - first % set.shard_tokens;
    const std::int64_t here = std::min({set.chunk_tokens, to_shard_end, set.tokens - first});
    const std::int64_t windows = (first + here == set.tokens ? here - 1 : here) / window;
    const Result<Chunk> chunk = dataset->read_chunk(number);
    ASSERT_TRUE(chunk.ok()) << chunk.error().message;
    ASSERT_EQ(chunk->samples(), windows);
    ASSERT_EQ(dataset->chunk_samples()[static_cast<std::size_t>(number)], windows);
    for (std::int64_t i = 0; i < windows; ++i) {
      ASSERT_EQ(text_of(chunk->sample(i)), window_bytes(set, first + i * window, window))
          << number << ", " << i;
      ASSERT_EQ(chunk->label(i), 0);
    }
    samples += windows;
    first += here;
  }
  EXPECT_EQ(first, set.tokens);
  EXPECT_EQ(samples, info.samples);
}

TEST(Storage, WindowsGoOverTheEndsOfChunksAndShards) {
  const TemporaryFolder folder;
  int number = 0;
  for (const ElementType type : {ElementType::u8, ElementType::u16, ElementType::i32})
    for (const Storage storage : {Storage::raw, Storage::zstd, Storage::lz4})
      for (const auto& [tokens, chunk, shard] : std::vector<std::tuple<int, int, int>>{{2, 64, 256},
                                                                                       {63, 64, 256},
                                                                                       {64, 64, 256},
                                                                                       {65, 64, 256},
                                                                                       {1000, 64, 256},
                                                                                       {1024, 64, 256},
                                                                                       {700, 50, 170}}) {
        TokenSet set = {type, storage, tokens, chunk, shard};
        if (number % 2 == 0) set.vocabulary = 2;  // can be compressed
        const std::string path = folder / concat("set", number++);
        SCOPED_TRACE(
            concat(to_string(type), " ", to_string(storage), ": ", tokens, ", ", chunk, ", ", shard));
        write_tokens(path, set);
        for (const std::int64_t window : {1, 7, 32, chunk})
          if (tokens > window) expect_windows(path, set, window);
        expect_no_faults(path);
      }
}

TEST(Storage, AWindowThatFitsNoChunkIsRefused) {
  const TemporaryFolder folder;
  const std::string path = folder / "set";
  write_tokens(path, {ElementType::u16, Storage::raw, 40, 64, 256});
  EXPECT_EQ(
      Dataset::open(path, {65}).error().message,
      concat(path,
             ": windows of 65 tokens: use 1 to 64, as many as a chunk has, or import it with larger chunks"));
  EXPECT_EQ(Dataset::open(path, {40}).error().message,
            concat(path, ": its 40 tokens make 0 windows of 40 tokens: use shorter ones"));
  EXPECT_FALSE(Dataset::open(path, {-1}).ok());
  EXPECT_EQ(Dataset::open(path, {39})->info().samples, 1);
  const Result<Dataset> whole = Dataset::open(path);  // only to look at it
  ASSERT_TRUE(whole.ok());
  EXPECT_EQ(whole->info().samples, 0);
  EXPECT_EQ(whole->info().tokens, 40);
  EXPECT_EQ(whole->info().tokenizer, "bytes");
}

}  // namespace
}  // namespace paceline
