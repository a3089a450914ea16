#pragma once

#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "paceline/base/hash.hpp"
#include "paceline/base/text.hpp"
#include "paceline/data/import.hpp"
#include "shard_builder.hpp"
#include "support/temporary_folder.hpp"

/// What the tests of data/ share: IDX files and datasets whose every byte is
/// known in closed form.
namespace paceline::data_testing {

inline constexpr std::int64_t image_bytes = 28 * 28;

/// Byte `at` of image `sample`; the first four bytes are the sample's number, so that none is like another.
inline std::uint8_t pixel(std::int64_t sample, std::int64_t at) {
  if (at < 4) return static_cast<std::uint8_t>(sample >> (8 * at));
  return static_cast<std::uint8_t>(sample * 31 + at * 7);
}
inline std::int64_t label_of(std::int64_t sample) {
  return sample % 10;
}
/// Which sample an image's bytes say it is.
inline std::int64_t sample_of(const std::byte* image) {
  std::int64_t sample = 0;
  for (int i = 3; i >= 0; --i) sample = sample << 8 | std::to_integer<std::int64_t>(image[i]);
  return sample;
}

inline std::string big_endian(std::uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8),
          static_cast<char>(value)};
}

inline std::string idx_images(std::int64_t count) {
  std::string bytes =
      big_endian(0x803) + big_endian(static_cast<std::uint32_t>(count)) + big_endian(28) + big_endian(28);
  for (std::int64_t sample = 0; sample < count; ++sample)
    for (std::int64_t at = 0; at < image_bytes; ++at) bytes += static_cast<char>(pixel(sample, at));
  return bytes;
}

inline std::string idx_labels(std::int64_t count) {
  std::string bytes = big_endian(0x801) + big_endian(static_cast<std::uint32_t>(count));
  for (std::int64_t sample = 0; sample < count; ++sample) bytes += static_cast<char>(label_of(sample));
  return bytes;
}

inline void write_bytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}
inline std::string read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}
inline void write_gzip(const std::string& path, const std::string& bytes) {
  gzFile file = ::gzopen(path.c_str(), "wb1");
  ASSERT_NE(file, nullptr);
  ASSERT_EQ(::gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size())),
            static_cast<int>(bytes.size()));
  ASSERT_EQ(::gzclose(file), Z_OK);
}

/// The four files of a small MNIST-like set, uncompressed.
inline void write_source(const std::string& folder, std::int64_t train, std::int64_t test) {
  std::filesystem::create_directories(folder);
  write_bytes(folder + "/train-images-idx3-ubyte", idx_images(train));
  write_bytes(folder + "/train-labels-idx1-ubyte", idx_labels(train));
  write_bytes(folder + "/t10k-images-idx3-ubyte", idx_images(test));
  write_bytes(folder + "/t10k-labels-idx1-ubyte", idx_labels(test));
}

inline ImportOptions small_import(const std::string& source, const std::string& out) {
  ImportOptions options;
  options.kind = "fashion-mnist";
  options.sources = {source};
  options.out = out;
  options.chunk_samples = 16;
  options.shard_samples = 100;
  return options;
}

/// Makes `folder`/set/train with `samples` samples, and a test set of 10. Chunks of 16 and shards of 100
/// divide neither each other nor most sample counts.
inline std::string make_dataset(const TemporaryFolder& folder, std::int64_t samples) {
  write_source(folder / "source", samples, 10);
  const Status imported = import_dataset(small_import(folder / "source", folder / "set"));
  EXPECT_TRUE(imported.ok()) << (imported.ok() ? "" : imported.error().message);
  return folder / "set/train";
}

inline std::string shard_name(std::size_t number) {
  std::string name = concat(number);
  name.insert(0, 5 - name.size(), '0');
  return concat("shard-", name, ".h5");
}

inline void finish_dataset(const std::string& folder, const Manifest& manifest) {
  const Status written = write_new_file({folder, 0}, folder + "/manifest.json", render_manifest(manifest));
  ASSERT_TRUE(written.ok()) << written.error().message;
}

inline void expect_added(const Status& added) {
  EXPECT_TRUE(added.ok()) << (added.ok() ? "" : added.error().message);
}

inline void expect_shard(Result<ShardEntry> entry, Manifest& manifest) {
  ASSERT_TRUE(entry.ok()) << entry.error().message;
  manifest.shards.push_back(std::move(entry).value());
}

/// What a sample of a dataset that is made here looks like.
enum class Content {
  even,   ///< pixel(): can be compressed
  noise,  ///< cannot
  mixed,  ///< one chunk of 16 so, one so
};

struct ImageSet {
  Storage storage = Storage::raw;
  std::int64_t samples = 250;
  std::int64_t chunk_samples = 16;
  std::int64_t shard_samples = 100;
  Content content = Content::even;
};

/// Byte `at` of image `sample`; its first four bytes are always its number.
inline std::uint8_t byte_of(Content content, std::int64_t sample, std::int64_t at) {
  const bool even = content == Content::even || (content == Content::mixed && sample / 16 % 2 == 0);
  if (even || at < 4) return pixel(sample, at);
  return static_cast<std::uint8_t>(mix64(static_cast<std::uint64_t>(sample * image_bytes + at)));
}

/// Any bytes stand for a JPEG file, since nothing here looks into them. No two have the same length in a
/// chunk.
inline std::string jpeg_of(std::int64_t sample) {
  std::string file(static_cast<std::size_t>(40 + sample % 97), '\0');
  for (std::size_t at = 0; at < file.size(); ++at)
    file[at] = static_cast<char>(pixel(sample, static_cast<std::int64_t>(at)));
  return file;
}

/// The bytes that a sample is stored from, and that a chunk gives back.
inline std::string sample_bytes_of(const ImageSet& set, std::int64_t sample) {
  if (set.storage == Storage::jpeg) return jpeg_of(sample);
  std::string bytes(image_bytes, '\0');
  for (std::int64_t at = 0; at < image_bytes; ++at)
    bytes[static_cast<std::size_t>(at)] = static_cast<char>(byte_of(set.content, sample, at));
  return bytes;
}

/// Makes a dataset of 28x28 images in the new folder `path`, with label_of() as labels.
inline void write_images(const std::string& path, const ImageSet& set) {
  std::filesystem::create_directories(path);
  Manifest manifest;
  manifest.name = "generated/train";
  manifest.storage = set.storage;
  manifest.sample_shape = {1, 28, 28};
  manifest.classes = 10;
  manifest.samples = set.samples;
  manifest.chunk_samples = set.chunk_samples;
  manifest.mean = {0.5};
  manifest.standard_deviation = {0.25};
  ShardBuilder builder(manifest);
  for (std::int64_t sample = 0; sample < set.samples; ++sample) {
    const std::string bytes = sample_bytes_of(set, sample);
    expect_added(builder.add(std::as_bytes(std::span(bytes)), static_cast<std::int32_t>(label_of(sample))));
    if (builder.samples() == set.shard_samples || sample + 1 == set.samples)
      expect_shard(builder.write({path, 0}, path, shard_name(manifest.shards.size())), manifest);
  }
  manifest.largest_record_bytes = builder.largest_record_bytes();
  finish_dataset(path, manifest);
}

struct TokenSet {
  ElementType type = ElementType::u16;
  Storage storage = Storage::raw;
  std::int64_t tokens = 1000;
  std::int64_t chunk_tokens = 64;
  std::int64_t shard_tokens = 256;
  std::int64_t vocabulary = 251;
};

/// Token `at` of the stream.
inline std::int64_t token_of(const TokenSet& set, std::int64_t at) {
  return static_cast<std::int64_t>(mix64(static_cast<std::uint64_t>(at)) %
                                   static_cast<std::uint64_t>(set.vocabulary));
}

inline std::string token_bytes_of(const TokenSet& set, std::int64_t first, std::int64_t count) {
  std::string bytes;
  for (std::int64_t at = first; at < first + count; ++at) {
    const auto token = static_cast<std::uint32_t>(token_of(set, at));
    bytes.append(reinterpret_cast<const char*>(&token), static_cast<std::size_t>(bytes_of(set.type)));
  }
  return bytes;
}

/// Makes a dataset of tokens in the new folder `path`. They are added in pieces that fit no chunk.
inline void write_tokens(const std::string& path, const TokenSet& set) {
  std::filesystem::create_directories(path);
  Manifest manifest;
  manifest.name = "generated/tokens";
  manifest.kind = SampleKind::tokens;
  manifest.type = set.type;
  manifest.storage = set.storage;
  manifest.vocabulary = set.vocabulary;
  manifest.tokenizer = "bytes";
  manifest.samples = set.tokens;
  manifest.chunk_samples = set.chunk_tokens;
  ShardBuilder builder(manifest);
  for (std::int64_t at = 0; at < set.tokens;) {
    const std::int64_t left = std::min(set.tokens - at, set.shard_tokens - builder.samples());
    const std::int64_t count = std::min<std::int64_t>(left, 1 + at % 150);
    const std::string bytes = token_bytes_of(set, at, count);
    expect_added(builder.add_tokens(std::as_bytes(std::span(bytes))));
    at += count;
    if (builder.samples() < set.shard_tokens && at < set.tokens) continue;
    const auto following = at < set.tokens ? static_cast<std::uint32_t>(token_of(set, at)) : 0;
    expect_shard(builder.write({path, 0}, path, shard_name(manifest.shards.size()), following), manifest);
  }
  finish_dataset(path, manifest);
}

inline std::vector<std::string> entries_of(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace paceline::data_testing
