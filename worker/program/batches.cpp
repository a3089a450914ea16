#include "batches.hpp"

#include "paceline/base/hash.hpp"

namespace paceline {

TensorMaker::TensorMaker(const DatasetInfo& samples, double mean, double standard_deviation)
    : shape_(samples.sample_shape),
      sample_bytes_(samples.sample_bytes),
      scale_(static_cast<float>(1.0 / 255.0 / standard_deviation)),
      shift_(static_cast<float>(-mean / standard_deviation)) {
  shape_.insert(shape_.begin(), 0);
}

Batch TensorMaker::make(const SampleBatch& batch, std::int64_t begin, std::int64_t count) const {
  std::vector<std::int64_t> shape = shape_;
  shape[0] = count;
  Batch made{torch::empty(shape, torch::kFloat), torch::empty({count}, torch::kLong)};
  const std::byte* from = batch.values.data() + begin * sample_bytes_;
  float* to = made.inputs.data_ptr<float>();
  for (std::int64_t i = 0; i < count * sample_bytes_; ++i)
    to[i] = static_cast<float>(std::to_integer<int>(from[i])) * scale_ + shift_;
  std::copy_n(batch.labels.begin() + begin, count, made.targets.data_ptr<std::int64_t>());
  return made;
}

std::uint64_t JobPlan::hash() const {
  std::uint64_t state = mix64(static_cast<std::uint64_t>(grain), static_cast<std::uint64_t>(steps.steps()),
                              static_cast<std::uint64_t>(steps.range(0).positions.count));
  for (const std::int64_t share : shares) state = mix64(state, static_cast<std::uint64_t>(share));
  return state;
}

Result<JobPlan> make_plan(const Job& job, std::int64_t samples, std::int64_t ranks) {
  const std::int64_t grain = job_grain(job, ranks);
  PACELINE_ASSIGN(Shares shares, equal_shares(grain_count(job.batch.global, grain), ranks));
  return JobPlan{StepPlan(samples, job.batch.global, job.epochs), grain, std::move(shares), job.batch.micro};
}

Loader::Source training_source(JobPlan plan, std::int64_t rank) {
  return [plan = std::move(plan), rank, step = std::int64_t{0}]() mutable -> std::optional<LoadRequest> {
    while (step < plan.steps.steps()) {
      const std::int64_t epoch = plan.steps.range(step).epoch;
      const PositionRange part = plan.part_of(step++, rank);
      if (part.count > 0) return LoadRequest{epoch, part.first, part.count};
    }
    return std::nullopt;
  };
}

}  // namespace paceline
