#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace paceline {

/// One sample of a dataset: which chunk, and which sample in it.
struct SampleAddress {
  std::int32_t chunk = 0;
  std::int32_t index = 0;
  friend bool operator==(const SampleAddress&, const SampleAddress&) = default;
};

/// Positions [first, first + count) of an epoch.
struct PositionRange {
  std::int64_t first = 0;
  std::int64_t count = 0;
  friend bool operator==(const PositionRange&, const PositionRange&) = default;
};

/// The order of one epoch: a pure function of (chunk sizes, seed, epoch). The chunks are permuted, then the
/// samples of each window of `window_chunks` consecutive permuted chunks are shuffled together; so a rank
/// reads every chunk once and keeps one or two windows in memory.
class EpochOrder {
 public:
  EpochOrder(std::span<const std::int64_t> chunk_samples, std::uint64_t seed, std::int64_t epoch,
             std::int64_t window_chunks);
  /// The order in which the dataset is stored: for evaluation.
  [[nodiscard]] static EpochOrder sequential(std::span<const std::int64_t> chunk_samples);

  [[nodiscard]] std::int64_t samples() const noexcept;
  /// The window that `position` lies in; who asks for addresses by whole windows shuffles each only once.
  [[nodiscard]] PositionRange window_at(std::int64_t position) const;
  /// Addresses of positions [first, first + count). Costs a shuffle of every window that it touches.
  [[nodiscard]] std::vector<SampleAddress> addresses(std::int64_t first, std::int64_t count) const;

 private:
  EpochOrder() = default;
  [[nodiscard]] std::vector<SampleAddress> window_addresses(std::size_t window) const;

  std::vector<std::int64_t> chunk_samples_;
  std::vector<std::int32_t> permuted_chunks_;
  std::vector<std::int64_t> window_first_;  // first position of each window, and the total at the end
  std::int64_t window_chunks_ = 1;
  std::uint64_t key_ = 0;
  bool shuffled_ = true;
};

}  // namespace paceline
