#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "hdf5_shard.hpp"
#include "manifest.hpp"
#include "paceline/base/result.hpp"
#include "shard_writer.hpp"

namespace paceline {

/// Collects one shard in memory and codes each chunk when it is full. For one thread; several builders may be
/// used by several threads at once.
class ShardBuilder {
 public:
  /// `manifest` gives kind, type, shape, storage, chunk size and classes.
  explicit ShardBuilder(const Manifest& manifest);

  /// One image: its values, or with storage "jpeg" its JPEG file.
  [[nodiscard]] Status add(std::span<const std::byte> sample, std::int32_t label);
  /// Any number of whole tokens.
  [[nodiscard]] Status add_tokens(std::span<const std::byte> tokens);

  /// Images or tokens.
  [[nodiscard]] std::int64_t samples() const noexcept { return samples_; }
  /// Of the records; what the chunk in the making will take is counted as if it could not be coded.
  [[nodiscard]] std::int64_t stored_bytes() const noexcept;
  /// The largest record; known after write().
  [[nodiscard]] std::int64_t largest_record_bytes() const noexcept { return largest_record_bytes_; }

  /// Writes all that was added, at least one sample, as `folder`/`file`, and syncs it; the builder is then
  /// empty again. `following`: of tokens, the first of the next shard, 0 where there is none.
  [[nodiscard]] Result<ShardEntry> write(const SpaceReport& report, const std::string& folder,
                                         const std::string& file, std::uint32_t following = 0);

 private:
  void finish_chunk();
  void follow_with(std::uint32_t token);

  Manifest manifest_;
  std::int64_t sample_bytes_;
  std::vector<NewRecord> records_;
  std::vector<std::byte> values_;  // of the chunk in the making
  std::vector<std::uint32_t> lengths_;
  std::vector<std::int32_t> labels_;
  std::int64_t in_chunk_ = 0;  // samples in the making
  std::int64_t samples_ = 0;
  std::int64_t records_bytes_ = 0;
  std::int64_t largest_record_bytes_ = 0;
  bool follower_missing_ = false;  // the last record waits for the token that follows it
};

}  // namespace paceline
