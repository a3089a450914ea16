#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "paceline/base/hash.hpp"
#include "paceline/base/result.hpp"
#include "paceline/data/dataset.hpp"

namespace paceline {

/// What a sample is known by: XXH3-64 of its bytes as the dataset holds them (before augmentation and
/// normalisation; of JPEG storage the encoded file, of tokens the window with the token after it), with its
/// label mixed in. Equal samples have equal checksums: to train on one or on the other is the same.
[[nodiscard]] std::uint64_t sample_checksum(std::span<const std::byte> sample, std::int32_t label) noexcept;

/// Which samples were used at which positions, in 64 bits: the sum modulo 2^64 of one well-mixed term for
/// each (epoch, position, checksum of the sample there), keyed by a number drawn for the run. So parts of a
/// step can be added up in any order, by any ranks.
///
/// Two sums that should be equal and are not: a sample was left out, used twice, used at another's place,
/// changed, or taken in another epoch's order. By accident it stays unseen once in 2^64. The sum doesn't say
/// which sample it was, and doesn't see samples that were exchanged for equal ones. It is no signature:
/// whoever knows the key, and it stands in the journal, can make data up that gives the same sums.
class ConsumedHash {
 public:
  explicit constexpr ConsumedHash(std::uint64_t key) noexcept : key_(key) {}

  /// `epoch` from 1, as the journal counts; `position` from 0, in the epoch's order.
  constexpr void add(std::int64_t epoch, std::int64_t position, std::uint64_t checksum) noexcept {
    value_ += mix64(key_, epoch, position, checksum);
  }
  [[nodiscard]] constexpr std::uint64_t value() const noexcept { return value_; }

 private:
  std::uint64_t key_;
  std::uint64_t value_ = 0;
};

struct SampleChecksumOptions {
  int threads = 1;  ///< each holds one chunk in memory
  /// Called after each chunk, by one thread at a time; false gives the work up (aborted).
  std::function<bool(std::int64_t chunks_done)> progress;
};

/// The checksums of all samples in the order in which the dataset is stored: 8 bytes each, while the samples
/// themselves pass through memory chunk by chunk. An error names the chunk that could not be read.
[[nodiscard]] Result<std::vector<std::uint64_t>> all_sample_checksums(const Dataset& dataset,
                                                                      const SampleChecksumOptions& options);

/// XXH3-64 of the dataset's manifest. The manifest holds the checksums of the shards' indexes, and those the
/// checksums of the chunks, so that two datasets with the same value hold the same samples.
[[nodiscard]] Result<std::uint64_t> manifest_checksum(const std::string& dataset_path);

}  // namespace paceline
