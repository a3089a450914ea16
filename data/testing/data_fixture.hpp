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

#include "paceline/base/text.hpp"
#include "paceline/data/import.hpp"

/// What the tests of data/ share: a folder that disappears, and IDX files whose every byte is known in closed
/// form.
namespace paceline::data_testing {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string path = (std::filesystem::temp_directory_path() / "paceline-data-XXXXXX").string();
    path_ = ::mkdtemp(path.data()) == nullptr ? std::string() : path;
    EXPECT_FALSE(path_.empty()) << "cannot make a temporary folder";
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  [[nodiscard]] std::string operator/(const std::string& name) const { return concat(path_, "/", name); }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

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
  options.source = source;
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

inline std::vector<std::string> entries_of(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace paceline::data_testing
