#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "manifest.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/result.hpp"
#include "shard.hpp"

namespace paceline {

/// The record of a new chunk, as it will lie in the file.
struct NewRecord {
  std::vector<std::byte> bytes;
  std::int64_t values_bytes = 0;  ///< what of it are values, as they are stored
  bool coded = false;             ///< false: the values are stored as they are
};

/// A whole shard, in a file that exists only in memory.
struct ShardImage {
  UniqueFd file;
  std::int64_t bytes = 0;
  std::int64_t index_offset = 0;
  std::int64_t labels_offset = 0;  ///< only of a shard whose values lie in another file
  std::vector<ChunkEntry> chunks;
};

/// What a shard takes beyond its records and index, at the most.
[[nodiscard]] std::int64_t structure_bytes(std::int64_t chunks) noexcept;

/// Lets the HDF5 library make a shard in memory: not on the disk, because when a file's last flush fails
/// (disk full, quota, file-size limit), HDF5 1.10 crashes the process at its exit. `samples` are those of the
/// shard, and `records` those of its chunks in order; each is let go when it has been written. An error if
/// the library does not put them where the format wants them.
[[nodiscard]] Result<ShardImage> make_shard_image(const Manifest& manifest, std::int64_t samples,
                                                  std::vector<NewRecord>& records);

/// The same for a shard whose values lie in another file: labels and index. The offsets of `chunks` are
/// given.
[[nodiscard]] Result<ShardImage> make_labels_image(std::span<const std::int32_t> labels,
                                                   std::vector<ChunkEntry> chunks,
                                                   std::span<const std::int64_t> raw_bytes);

}  // namespace paceline
