#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "paceline/data/dataset.hpp"
#include "paceline/data/loader.hpp"
#include "paceline/job/plan.hpp"
#include "paceline/train/model.hpp"

namespace paceline {

/// Samples of a dataset as tensors: values in [0, 255] become ((v / 255) - mean) / standard deviation, with
/// the training set's mean and deviation.
class TensorMaker {
 public:
  TensorMaker(const DatasetInfo& samples, double mean, double standard_deviation);
  /// Samples [begin, begin + count) of `batch`.
  [[nodiscard]] Batch make(const SampleBatch& batch, std::int64_t begin, std::int64_t count) const;

 private:
  std::vector<std::int64_t> shape_;
  std::int64_t sample_bytes_;
  float scale_;
  float shift_;
};

/// What every rank of a job cuts steps with.
struct JobPlan {
  StepPlan steps;
  std::int64_t grain;
  Shares shares;
  std::int64_t micro;
  [[nodiscard]] PositionRange part_of(std::int64_t step, std::int64_t rank) const {
    return rank_range(steps.range(step).positions, grain, shares, rank);
  }
  /// Equal on ranks that cut alike.
  [[nodiscard]] std::uint64_t hash() const;
};

/// The plan of `job` over a dataset of so many samples; an error where there are more ranks than grains.
[[nodiscard]] Result<JobPlan> make_plan(const Job& job, std::int64_t samples, std::int64_t ranks);

/// A rank's future, for its loader: its part of every step in order, empty parts left out.
[[nodiscard]] Loader::Source training_source(JobPlan plan, std::int64_t rank);

}  // namespace paceline
