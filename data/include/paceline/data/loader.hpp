#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "paceline/base/clock.hpp"
#include "paceline/base/result.hpp"
#include "paceline/data/dataset.hpp"

namespace paceline {

/// What the loader is asked for: positions [first, first + count) of one epoch's order.
struct LoadRequest {
  std::int64_t epoch = 0;
  std::int64_t first = 0;
  std::int64_t count = 0;
};

/// Samples in the order of their positions.
struct SampleBatch {
  LoadRequest request;
  std::vector<std::byte> values;     ///< count * sample_bytes
  std::vector<std::int64_t> labels;  ///< count
};

struct LoaderOptions {
  std::uint64_t seed = 1;
  bool shuffle = true;                                  ///< false: stored order, for evaluation
  std::int64_t budget_bytes = std::int64_t{256} << 20;  ///< cached chunks plus prefetched batches
  std::int64_t window_chunks = 64;  ///< shuffle window; lowered so that two windows fit the budget
  int threads = 1;                  ///< readers; one keeps far ahead of a CPU worker
  int prefetch = 4;                 ///< batches made ahead of next(): a slow read must outlast a few steps
};

/// How many chunks the shuffle window has: `window_chunks`, or as many as let two windows fit three quarters
/// of the budget. What EpochOrder needs to know the loader's order.
[[nodiscard]] std::int64_t shuffle_window_chunks(const DatasetInfo& info, const LoaderOptions& options);

/// Streams batches: requests come from `source` in order, are made ahead on the loader's own threads, and
/// leave through next() in the same order. The window is a function of the dataset and the options alone,
/// so that every rank with the same options sees the same order. One thread calls next().
class Loader {
 public:
  /// `source` gives the future, request by request, and nothing at its end. It is called from a loader
  /// thread, one call at a time. The destructor waits for a call in progress, so it must not block for long.
  using Source = std::function<std::optional<LoadRequest>()>;

  /// `dataset` must outlive the loader.
  Loader(const Dataset& dataset, LoaderOptions options, Source source);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  /// The next batch; nothing once the source has ended. A read error is given here, once, in its place in
  /// the order; the loader is dead from then on. `deadline` is the longest to wait: timeout after it, and the
  /// next call waits for the same batch again.
  [[nodiscard]] Result<std::optional<SampleBatch>> next(Duration deadline = std::chrono::minutes(5));

  /// How long next() has blocked, in all.
  [[nodiscard]] Duration waited() const noexcept;
  /// How many chunks were read from the shards: more than the dataset has per epoch means that the budget is
  /// too small.
  [[nodiscard]] std::int64_t chunks_read() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace paceline
