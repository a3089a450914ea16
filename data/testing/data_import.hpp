#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "data_fixture.hpp"
#include "import/picture.hpp"
#include "paceline/data/dataset.hpp"
#include "paceline/data/import.hpp"

/// What the tests of importers share: sources of images and of text, and a dataset read back whole.
namespace paceline::data_testing {

struct WholeDataset {
  DatasetInfo info;
  std::vector<std::string> samples;
  std::vector<std::int32_t> labels;
};

inline WholeDataset read_all(const std::string& path, DatasetOptions options = {}) {
  WholeDataset read;
  const Result<Dataset> dataset = Dataset::open(path, options);
  EXPECT_TRUE(dataset.ok()) << (dataset.ok() ? "" : dataset.error().message);
  if (!dataset.ok()) return read;
  read.info = dataset->info();
  for (std::int64_t number = 0; number < read.info.chunks; ++number) {
    const Result<Chunk> chunk = dataset->read_chunk(number);
    EXPECT_TRUE(chunk.ok()) << (chunk.ok() ? "" : chunk.error().message);
    if (!chunk.ok()) return read;
    for (std::int64_t i = 0; i < chunk->samples(); ++i) {
      const std::span<const std::byte> bytes = chunk->sample(i);
      read.samples.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      read.labels.push_back(chunk->label(i));
    }
  }
  return read;
}

/// All bytes of all shards, by file: for comparing datasets.
inline std::map<std::string, std::string> files_below(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    if (entry.is_regular_file())
      files[std::filesystem::relative(entry.path(), folder)] = read_bytes(entry.path());
  return files;
}

inline ImportOptions options_for(const std::string& kind, std::vector<std::string> sources,
                                 const std::string& out) {
  ImportOptions options;
  options.kind = kind;
  options.sources = std::move(sources);
  options.out = out;
  options.threads = 2;
  return options;
}

inline std::string message_of(const ImportOptions& options) {
  const Status imported = import_dataset(options);
  return imported.ok() ? std::string("imported") : imported.error().message;
}

/// Noise, so that no two are alike; the first pixel is the number.
inline Picture picture_of(int number, std::int64_t rows = 12, std::int64_t columns = 10,
                          std::int64_t channels = 3) {
  Picture picture{rows, columns, channels, {}};
  SplitMix64 random(static_cast<std::uint64_t>(number));
  for (std::int64_t i = 0; i < rows * columns * channels; ++i)
    picture.values.push_back(static_cast<std::byte>(random.next()));
  picture.values[0] = static_cast<std::byte>(number);
  return picture;
}

inline void write_picture(const std::string& path, const Picture& picture) {
  const bool jpeg = path.ends_with(".jpg") || path.ends_with(".JPEG");
  const Result<std::vector<std::byte>> file = jpeg ? encode_jpeg(picture, 90) : encode_png(picture);
  ASSERT_TRUE(file.ok());
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  write_bytes(path, {reinterpret_cast<const char*>(file->data()), file->size()});
}

/// `count` images in two classes.
inline void write_folder(const std::string& source, int count, const std::string& ending = ".png") {
  for (int i = 0; i < count; ++i)
    write_picture(concat(source, i % 2 == 0 ? "/cats/" : "/dogs/", i, ending), picture_of(i));
}

inline std::string sentence(int number) {
  std::string text = concat("Document ", number, " says:\n");
  for (int i = 0; i < 40; ++i)
    text +=
        concat("  line ", i, " of the text, which tells of ", number * 31 % 17, " sheep and a shepherd.\n");
  return text;
}

}  // namespace paceline::data_testing
