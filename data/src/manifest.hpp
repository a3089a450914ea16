#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "paceline/base/result.hpp"

namespace paceline {

/// One shard, as the manifest describes it. Offsets are from the file's first byte.
struct ShardEntry {
  std::string file;                     ///< a plain name within the dataset's folder
  std::int64_t samples = 0;             ///< at least 1
  std::int64_t bytes = 0;               ///< the file's size
  std::int64_t labels_offset = 0;       ///< of `labels`: i32[samples]
  std::int64_t index_offset = 0;        ///< of `index`: u64[chunks][4]
  std::uint64_t metadata_checksum = 0;  ///< of all bytes of the file that belong to no chunk
};

/// manifest.json; docs/dataset-format.md specifies it.
struct Manifest {
  std::string name;
  std::string task;
  std::vector<std::int64_t> sample_shape;
  std::int64_t sample_bytes = 0;  ///< product of the shape; not in the file
  std::int64_t classes = 0;
  std::int64_t samples = 0;
  std::int64_t chunk_samples = 0;
  double mean = 0;
  double standard_deviation = 1;
  std::vector<ShardEntry> shards;
};

/// HDF5 has no chunk larger than its fixed-size dataset, so a small shard has smaller chunks.
[[nodiscard]] std::int64_t samples_per_chunk(const Manifest& manifest, const ShardEntry& shard) noexcept;
[[nodiscard]] std::int64_t chunks_in(const Manifest& manifest, const ShardEntry& shard) noexcept;

inline constexpr std::int64_t manifest_limit_bytes = std::int64_t{16} << 20;
inline constexpr std::int64_t shard_samples_limit = std::int64_t{1} << 26;  ///< labels are kept in memory
inline constexpr std::int64_t chunk_limit_bytes = std::int64_t{1} << 30;
inline constexpr std::int64_t sample_count_limit = 0x7fffffff;  ///< positions and addresses stay small

/// Checks everything that can be checked without the shards. `path` is the file's, for messages.
[[nodiscard]] Result<Manifest> parse_manifest(std::string text, const std::string& path);
[[nodiscard]] std::string render_manifest(const Manifest& manifest);

}  // namespace paceline
