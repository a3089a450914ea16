#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "data_fixture.hpp"
#include "manifest.hpp"
#include "open_files.hpp"
#include "paceline/data/checksum.hpp"
#include "paceline/data/dataset.hpp"
#include "shard.hpp"

/// What tests damage datasets with, and what they ask about them afterwards.
namespace paceline::data_testing {

inline void expect_part(const std::string& whole, const std::string& part) {
  EXPECT_NE(whole.find(part), std::string::npos) << whole << "\n  should contain: " << part;
}

inline std::string open_error(const std::string& path) {
  const Result<Dataset> dataset = Dataset::open(path);
  return dataset.ok() ? "opened" : dataset.error().message;
}

/// What opening a dataset and reading all its chunks says; empty if all is well.
inline std::string read_error(const std::string& path) {
  const Result<Dataset> dataset = Dataset::open(path);
  if (!dataset.ok()) return dataset.error().message;
  for (std::int64_t chunk = 0; chunk < dataset->info().chunks; ++chunk) {
    const Result<Chunk> read = dataset->read_chunk(chunk);
    if (!read.ok()) return read.error().message;
  }
  return {};
}

/// The first fault that verification finds; empty if there is none.
inline std::string fault_of(const std::string& path) {
  const Result<std::vector<std::string>> faults = verify_dataset(path);
  if (!faults.ok()) return faults.error().message;
  return faults->empty() ? "" : faults->front();
}

/// There are `samples` samples, each pixel() and label_of() its number, and verification finds nothing wrong.
inline void expect_samples(const std::string& path, std::int64_t samples) {
  const Result<Dataset> dataset = Dataset::open(path);
  ASSERT_TRUE(dataset.ok()) << dataset.error().message;
  ASSERT_EQ(dataset->info().samples, samples);
  std::int64_t sample = 0;
  for (std::int64_t number = 0; number < dataset->info().chunks; ++number) {
    const Result<Chunk> chunk = dataset->read_chunk(number);
    ASSERT_TRUE(chunk.ok()) << chunk.error().message;
    ASSERT_EQ(chunk->samples(), dataset->chunk_samples()[static_cast<std::size_t>(number)]);
    for (std::int64_t i = 0; i < chunk->samples(); ++i, ++sample) {
      ASSERT_EQ(chunk->label(i), label_of(sample));
      ASSERT_EQ(static_cast<std::int64_t>(chunk->sample(i).size()), dataset->info().sample_bytes);
      for (std::int64_t at = 0; at < dataset->info().sample_bytes; ++at)
        ASSERT_EQ(std::to_integer<int>(chunk->sample(i)[static_cast<std::size_t>(at)]), pixel(sample, at))
            << sample << ", " << at;
    }
  }
  EXPECT_EQ(sample, samples);
  EXPECT_EQ(fault_of(path), "");
}

inline void flip(const std::string& path, std::size_t at, int bit) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekg(static_cast<std::streamoff>(at));
  const auto byte = static_cast<char>(file.get() ^ (1 << bit));
  file.seekp(static_cast<std::streamoff>(at));
  file.put(byte);
}

inline void overwrite(const std::string& path, std::int64_t at, const void* bytes, std::size_t count) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(at);
  file.write(static_cast<const char*>(bytes), static_cast<std::streamsize>(count));
}

/// The text with a checksum that is right for it: what a hostile or careless writer makes.
inline std::string sign(std::string text) {
  const std::string key = "\"manifest_checksum\": \"0x";
  const std::size_t digits = text.find(key) + key.size();
  text.replace(digits, 16, 16, '0');
  const std::string checksum = checksum_text(checksum_of(std::as_bytes(std::span(text))));
  return text.replace(digits, 16, checksum.substr(2));
}

inline Manifest manifest_of(const std::string& path) {
  return parse_manifest(read_bytes(path + "/manifest.json"), path).value();
}

/// The index of a shard as it stands in the file.
inline std::vector<IndexRow> rows_of(const std::string& path, std::size_t shard = 0) {
  const Manifest manifest = manifest_of(path);
  const ShardEntry& entry = manifest.shards.at(shard);
  std::vector<IndexRow> rows(static_cast<std::size_t>(chunks_in(manifest, entry)));
  const std::string bytes = read_bytes(concat(path, "/", entry.file));
  std::memcpy(rows.data(), bytes.data() + entry.index_offset, rows.size() * sizeof(IndexRow));
  return rows;
}

inline void write_row(const std::string& path, std::size_t chunk, const IndexRow& row,
                      std::size_t shard = 0) {
  const ShardEntry entry = manifest_of(path).shards.at(shard);
  overwrite(concat(path, "/", entry.file), entry.index_offset + static_cast<std::int64_t>(chunk * sizeof row),
            &row, sizeof row);
}

/// Gives each shard's changed index and structures the checksum that is right for them.
inline void sign_shards(const std::string& path) {
  Manifest manifest = manifest_of(path);
  for (std::size_t shard = 0; shard < manifest.shards.size(); ++shard) {
    ShardEntry& entry = manifest.shards[shard];
    std::vector<ChunkEntry> chunks;
    for (const IndexRow& row : rows_of(path, shard))
      chunks.push_back(
          {static_cast<std::int64_t>(row.offset), static_cast<std::int64_t>(row.stored_bytes), row.checksum});
    const std::string file = concat(path, "/", entry.file);
    const Result<UniqueFd> fd = open_for_reading(file);
    ASSERT_TRUE(fd.ok());
    entry.metadata_checksum =
        checksum_metadata(fd->get(), file, record_ranges(entry, chunks), entry.bytes).value();
  }
  write_bytes(path + "/manifest.json", render_manifest(manifest));
}

/// Changes bytes of a record, at an offset in it, under right checksums.
inline void write_in_record(const std::string& path, std::size_t chunk, std::int64_t at,
                            const std::string& bytes) {
  const std::string file = concat(path, "/", manifest_of(path).shards[0].file);
  IndexRow row = rows_of(path)[chunk];
  overwrite(file, static_cast<std::int64_t>(row.offset) + at, bytes.data(), bytes.size());
  const std::string record = read_bytes(file).substr(row.offset, row.stored_bytes);
  row.checksum = checksum_of(std::as_bytes(std::span(record)));
  write_row(path, chunk, row);
  sign_shards(path);
}

}  // namespace paceline::data_testing
