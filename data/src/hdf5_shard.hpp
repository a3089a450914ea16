#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "manifest.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/result.hpp"
#include "shard.hpp"

namespace paceline {

/// Where the HDF5 library has put a new shard's datasets; offsets are from the file's first byte.
struct ShardLayout {
  std::int64_t values_offset = 0;  ///< of chunk 0; the others follow without gaps
  std::int64_t labels_offset = 0;
  std::int64_t index_offset = 0;
};

/// What a new shard is to hold.
struct ShardShape {
  std::vector<std::int64_t> sample_shape;
  std::int64_t samples = 0;
  std::int64_t chunk_samples = 0;  ///< at most `samples`
  std::int64_t chunks = 0;
  std::int64_t chunk_bytes = 0;
};

/// A shard's HDF5 structures, in a file that exists only in memory, with holes where the data goes.
struct ShardSkeleton {
  UniqueFd fd;
  std::int64_t bytes = 0;  ///< of the whole file, holes included
  ShardLayout layout;
};

/// What a shard takes beyond its data and tables, and more: 2 KiB were seen.
inline constexpr std::int64_t skeleton_most_bytes = std::int64_t{64} << 10;

/// Lets the HDF5 library make the structures in memory. Not on the disk, because when a file's last flush
/// fails (disk full, quota, file-size limit), HDF5 1.10 crashes the process at its exit.
[[nodiscard]] Result<ShardSkeleton> make_skeleton(const ShardShape& shape);

/// Whether the HDF5 library sees in a shard what our own index says: dataset shapes and types, unfiltered
/// chunks with the same bytes, labels and index. Only for files whose metadata checksum is right: this
/// version of the library can't be trusted with damaged ones.
[[nodiscard]] Status check_with_hdf5(const Shard& shard, const Manifest& manifest);

}  // namespace paceline
