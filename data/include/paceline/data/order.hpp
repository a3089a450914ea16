#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace paceline {

struct DatasetInfo;

/// One sample of a dataset: which chunk, and which sample in it.
struct SampleAddress {
  std::int32_t chunk = 0;
  std::int32_t index = 0;
  friend bool operator==(const SampleAddress&, const SampleAddress&) = default;
};

/// What the order of every epoch depends on, beside the sizes of the chunks. The same on every rank.
struct OrderSpec {
  std::uint64_t seed = 1;
  bool shuffle = true;           ///< false: the order in which the dataset is stored, for evaluation
  std::int64_t row = 1;          ///< positions that are used together: the job's global batch
  std::int64_t lanes = 1;        ///< at most so many; an epoch has fewer where its chunks do not give as many
  std::int64_t lane_chunks = 1;  ///< chunks of one lane whose samples are shuffled together
  friend bool operator==(const OrderSpec&, const OrderSpec&) = default;
};

/// A shuffling order for training: about 64 chunks are drawn from at any time, or as many as let twice their
/// number fit `budget_bytes`. `global_batch` is at least 1.
[[nodiscard]] OrderSpec shuffled_order(const DatasetInfo& info, std::uint64_t seed, std::int64_t global_batch,
                                       std::int64_t budget_bytes);

/// The order of one epoch: a pure function of (chunk sizes, spec, epoch).
///
/// The chunks are permuted and dealt to *lanes*, whole chunks each. Every *row* of positions (one step's)
/// takes from each lane a number of samples in proportion to the lane's length, lane after lane. So whoever
/// needs the same part of every row, as a rank does with its share, needs the chunks of a few lanes only,
/// whatever the number of ranks; and still every step draws from chunks all over the dataset. Within a lane
/// the samples of `lane_chunks` consecutive chunks at a time are shuffled.
class EpochOrder {
 public:
  /// `chunk_samples` must outlive the order; at least one of them is positive.
  EpochOrder(std::span<const std::int32_t> chunk_samples, const OrderSpec& spec, std::int64_t epoch);

  [[nodiscard]] std::int64_t samples() const noexcept { return samples_; }
  [[nodiscard]] std::int64_t lanes() const noexcept {
    return static_cast<std::int64_t>(lane_first_.size()) - 1;
  }

  /// Appends the addresses of positions [first, first + count) to `addresses`. Remembers the lanes' windows
  /// that it has shuffled last, so asking in ascending order is cheap. Not thread-safe.
  void append(std::int64_t first, std::int64_t count, std::vector<SampleAddress>& addresses);
  [[nodiscard]] std::vector<SampleAddress> addresses(std::int64_t first, std::int64_t count);

 private:
  /// The shuffled samples of a few consecutive chunks of a lane.
  struct Window {
    std::int64_t first = 0;  // place in the lane of its first sample
    std::size_t end = 0;     // in chunks_, of what follows it
    std::vector<SampleAddress> samples;
  };

  [[nodiscard]] bool deal(std::int64_t lanes);
  [[nodiscard]] std::int64_t before(std::int64_t position, std::size_t lane) const;
  void append_of_row(std::int64_t row_first, std::int64_t first, std::int64_t last,
                     std::vector<SampleAddress>& addresses);
  void append_of_lane(std::size_t lane, std::int64_t first, std::int64_t count,
                      std::vector<SampleAddress>& addresses);
  void load_window(std::size_t lane, std::int64_t place);

  std::span<const std::int32_t> chunk_samples_;
  OrderSpec spec_;
  std::uint64_t key_ = 0;
  std::int64_t samples_ = 0;
  std::vector<std::int32_t> chunks_;      // permuted
  std::vector<std::size_t> lane_chunk_;   // first chunk of each lane in chunks_, and their number at the end
  std::vector<std::int64_t> lane_first_;  // samples in the lanes before each, and in all at the end
  std::vector<Window> windows_;           // by lane: the one that was used last
};

}  // namespace paceline
