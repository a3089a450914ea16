#pragma once

#include <cstdint>
#include <vector>

#include "paceline/base/result.hpp"
#include "paceline/job/job.hpp"

namespace paceline {

/// A half-open run of positions of one epoch. Positions are places in the epoch's order, not sample numbers.
struct PositionRange {
  std::int64_t first = 0;
  std::int64_t count = 0;
  friend bool operator==(const PositionRange&, const PositionRange&) = default;
};

/// One step's part of the data.
struct StepRange {
  std::int64_t step = 0;   ///< from 0, over the whole job
  std::int64_t epoch = 0;  ///< from 0
  PositionRange positions;
};

/// Cuts the job's epochs into steps. The last step of an epoch is short where the batch does not divide it,
/// and the last epoch where the job ends earlier.
class StepPlan {
 public:
  /// The first three positive. `most_steps`: the job ends after so many; 0: after its epochs.
  StepPlan(std::int64_t samples_per_epoch, std::int64_t global_batch, std::int64_t epochs,
           std::int64_t most_steps = 0);
  /// Of a whole epoch.
  [[nodiscard]] std::int64_t steps_per_epoch() const noexcept { return steps_per_epoch_; }
  [[nodiscard]] std::int64_t steps() const noexcept { return steps_; }
  /// Epochs that are begun.
  [[nodiscard]] std::int64_t epochs() const noexcept;
  /// Steps of `epoch` (from 0) that belong to the job.
  [[nodiscard]] std::int64_t steps_of_epoch(std::int64_t epoch) const noexcept;
  /// Whether `step` is the last of its epoch, or of the job.
  [[nodiscard]] bool ends_epoch(std::int64_t step) const noexcept;
  /// `step` in [0, steps()).
  [[nodiscard]] StepRange range(std::int64_t step) const;

 private:
  std::int64_t samples_per_epoch_;
  std::int64_t global_batch_;
  std::int64_t steps_per_epoch_;
  std::int64_t steps_;
};

/// Grains per full step for each rank; the list of all shares.
using Shares = std::vector<std::int64_t>;

/// `grains` dealt as evenly as they go, the first ranks taking one more. An error where grains < ranks.
[[nodiscard]] Result<Shares> equal_shares(std::int64_t grains, std::int64_t ranks);

/// `batch.grain`, or the default: ranks.max ranks have at least 16 grains each where the batch allows it.
[[nodiscard]] std::int64_t grain_samples(const BatchSpec& batch, std::int64_t most_ranks);

/// The grain that `job` has at `ranks` ranks: the same at any where it is given, as it always is in a
/// reproducible job. Else it is planned for four ranks at least, so that small jobs of
/// different sizes cut their steps the same way.
[[nodiscard]] std::int64_t job_grain(const Job& job, std::int64_t ranks);

[[nodiscard]] std::int64_t grain_count(std::int64_t samples, std::int64_t grain);

/// The contiguous run of `range` that `rank` works on. In a step with fewer grains than the shares add up
/// to, every rank's run shrinks in proportion; together the runs of all ranks are always exactly `range`.
[[nodiscard]] PositionRange rank_range(const PositionRange& range, std::int64_t grain, const Shares& shares,
                                       std::int64_t rank);

/// `range` in passes of at most `micro` samples (0: one pass), as equal as they go.
[[nodiscard]] std::vector<PositionRange> passes(const PositionRange& range, std::int64_t micro);

/// `range`, which begins where a grain does, in passes of one grain each: whoever has a grain cuts it alike.
[[nodiscard]] std::vector<PositionRange> grain_passes(const PositionRange& range, std::int64_t grain);

}  // namespace paceline
