#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "hdf5_shard.hpp"
#include "manifest.hpp"
#include "paceline/base/result.hpp"

namespace paceline {

/// Turns failed writes of one import into errors: a full disk or quota is said as such, with what is needed.
struct SpaceReport {
  std::string out;  ///< what the user is importing into
  std::int64_t needed_bytes = 0;

  [[nodiscard]] Error error(std::string_view what, int error_number) const;
};

/// A new file for a shard. It is made as large as the shard can become, because a file-size limit holds for
/// files in memory too: so this tells before the HDF5 library meets it.
[[nodiscard]] Result<UniqueFd> create_shard_file(const SpaceReport& report, const std::string& path,
                                                 std::int64_t most_bytes);
/// Writes `image` into the file that was created for it and syncs it; fills in all of `entry` that the image
/// tells: size, offsets and metadata checksum.
[[nodiscard]] Status write_shard(const SpaceReport& report, const std::string& path, const UniqueFd& fd,
                                 const ShardImage& image, ShardEntry& entry);

/// Makes a file or folder's content durable.
[[nodiscard]] Status sync_path(const SpaceReport& report, const std::string& path);

/// Writes and syncs a new small file.
[[nodiscard]] Status write_new_file(const SpaceReport& report, const std::string& path,
                                    std::string_view content);

}  // namespace paceline
