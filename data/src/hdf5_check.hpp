#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "manifest.hpp"
#include "paceline/base/result.hpp"
#include "shard.hpp"

namespace paceline {

/// Whether the HDF5 library sees in a shard what our own index says: shapes, types, filters, every chunk's
/// bytes and the index. Only for shards whose checksums are all right: this version of the library can't be
/// trusted with damaged ones.
[[nodiscard]] Status check_with_hdf5(const std::string& folder, const Manifest& manifest,
                                     const ShardEntry& entry, std::span<const ChunkEntry> chunks);

}  // namespace paceline
