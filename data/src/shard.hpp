#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "manifest.hpp"
#include "paceline/base/result.hpp"

namespace paceline {

/// One row of a shard's index, and how many real samples the chunk has (the last may be padded).
struct ChunkEntry {
  std::int64_t offset = 0;
  std::int64_t stored_bytes = 0;
  std::uint64_t checksum = 0;  ///< of the stored bytes
  std::int64_t samples = 0;
};

/// A shard whose index and labels have been read and checked. The chunks have not been read.
struct Shard {
  std::string path;
  ShardEntry entry;
  std::vector<ChunkEntry> chunks;
  std::vector<std::int32_t> labels;
};

/// The four columns of an index row as they are stored: little-endian u64.
struct IndexRow {
  std::uint64_t offset = 0;
  std::uint64_t stored_bytes = 0;
  std::uint64_t raw_bytes = 0;
  std::uint64_t checksum = 0;
};
static_assert(sizeof(IndexRow) == 32);

/// Exactly `into.size()` bytes at `offset`; corrupt if the file ends before. `path` is for messages.
[[nodiscard]] Status read_exactly(int fd, std::span<std::byte> into, std::int64_t offset,
                                  const std::string& path);

/// Asks the kernel to forget what it has cached of a range, so that the next read goes to the storage, where
/// another replica may be right.
void forget_cached(int fd, std::int64_t offset, std::int64_t bytes) noexcept;

/// Reads and checks size, index, metadata checksum and labels; a second time if something does not fit.
[[nodiscard]] Result<Shard> load_shard(const std::string& folder, const Manifest& manifest,
                                       const ShardEntry& entry);

/// A chunk's stored bytes, checked once.
[[nodiscard]] Result<std::vector<std::byte>> read_stored_chunk(int fd, const Shard& shard, std::size_t chunk);

/// The checksum of everything in the file but the chunks, in file order.
[[nodiscard]] Result<std::uint64_t> checksum_metadata(int fd, const std::string& path,
                                                      std::span<const ChunkEntry> chunks,
                                                      std::int64_t file_bytes);

}  // namespace paceline
