#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "manifest.hpp"
#include "paceline/base/result.hpp"

namespace paceline {

/// One row of a shard's index. The offset is in the file that holds the values.
struct ChunkEntry {
  std::int64_t offset = 0;
  std::int64_t stored_bytes = 0;  ///< of the record
  std::uint64_t checksum = 0;     ///< of the record
};

/// The four columns of an index row as they are stored: little-endian u64.
struct IndexRow {
  std::uint64_t offset = 0;
  std::uint64_t stored_bytes = 0;
  std::uint64_t raw_bytes = 0;
  std::uint64_t checksum = 0;
};
static_assert(sizeof(IndexRow) == 32);

/// A corrupt error: "`path`: `what`", and what to do about it.
[[nodiscard]] Error bad_shard(const std::string& path, std::string_view what);

/// The path of a shard's own file, and of the file that holds its values.
[[nodiscard]] std::string shard_path(const std::string& folder, const ShardEntry& entry);
[[nodiscard]] std::string values_path(const std::string& folder, const ShardEntry& entry);

/// Whether the files of a shard are there and as long as the manifest says. Opens none.
[[nodiscard]] Status check_files(const std::string& folder, const ShardEntry& entry);

/// Exactly `into.size()` bytes at `offset`; corrupt if the file ends before. `path` is for messages.
[[nodiscard]] Status read_exactly(int fd, std::span<std::byte> into, std::int64_t offset,
                                  const std::string& path);

/// Asks the kernel to forget what it has cached of a range, so that the next read goes to the storage, where
/// another replica may be right.
void forget_cached(int fd, std::int64_t offset, std::int64_t bytes) noexcept;

/// Reads and checks the index and the metadata checksum of a shard, whose own file is `fd`.
[[nodiscard]] Result<std::vector<ChunkEntry>> load_index(int fd, const std::string& path,
                                                         const Manifest& manifest, const ShardEntry& entry);

/// A range of a file that belongs to records.
struct FileRange {
  std::int64_t offset = 0;
  std::int64_t bytes = 0;
};
/// What of a shard's own file belongs to records, in ascending order.
[[nodiscard]] std::vector<FileRange> record_ranges(const ShardEntry& entry,
                                                   std::span<const ChunkEntry> chunks);

/// The checksum of everything in the file but `records`, in file order.
[[nodiscard]] Result<std::uint64_t> checksum_metadata(int fd, const std::string& path,
                                                      std::span<const FileRange> records,
                                                      std::int64_t file_bytes);

}  // namespace paceline
