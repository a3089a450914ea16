#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "hdf5_shard.hpp"
#include "manifest.hpp"
#include "paceline/base/fd.hpp"

namespace paceline {

/// Turns failed writes of one import into errors: a full disk or quota is said as such, with what is needed.
struct SpaceReport {
  std::string out;  ///< what the user is importing into
  std::int64_t needed_bytes = 0;

  [[nodiscard]] Error error(std::string_view what, int error_number) const;
};

/// Writes one shard, chunk by chunk. The HDF5 library makes the file's structures; the data goes to the
/// places that it allocated with our own writes, whose failures are told at once and exactly.
class ShardWriter {
 public:
  /// `manifest` gives shape, classes and chunk size; `file` is a name within `folder`.
  [[nodiscard]] static Result<ShardWriter> create(const SpaceReport& report, const std::string& folder,
                                                  const std::string& file, const Manifest& manifest,
                                                  std::int64_t samples);

  /// The next chunk: full, but for the shard's last.
  [[nodiscard]] Status append(std::span<const std::byte> values, std::span<const std::int32_t> labels);
  /// Writes labels and index and syncs the file. Every sample has been appended.
  [[nodiscard]] Result<ShardEntry> finish();

 private:
  ShardWriter(const SpaceReport& report, std::string path) : report_(report), path_(std::move(path)) {}
  [[nodiscard]] Status make_room();
  [[nodiscard]] Status copy_structures(const ShardSkeleton& skeleton) const;
  [[nodiscard]] Status write_at(std::span<const std::byte> bytes, std::int64_t offset) const;

  SpaceReport report_;
  std::string path_;
  UniqueFd fd_;
  ShardEntry entry_;
  ShardShape shape_;
  ShardLayout layout_;
  std::vector<ChunkEntry> chunks_;
  std::vector<std::int32_t> labels_;
};

/// Makes a file or folder's content durable.
[[nodiscard]] Status sync_path(const SpaceReport& report, const std::string& path);

/// Writes and syncs a new small file.
[[nodiscard]] Status write_new_file(const SpaceReport& report, const std::string& path,
                                    std::string_view content);

}  // namespace paceline
