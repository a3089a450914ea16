#include "batches.hpp"

#include "paceline/base/hash.hpp"

namespace paceline {

void JobPlan::change(std::int64_t step, Shares to) {
  shares = shares_at(step - 1);
  change_step = step;
  next_shares = std::move(to);
}

std::uint64_t JobPlan::hash(std::int64_t step) const {
  std::uint64_t state = mix64(static_cast<std::uint64_t>(grain), static_cast<std::uint64_t>(steps.steps()),
                              static_cast<std::uint64_t>(steps.range(0).positions.count));
  for (const std::int64_t share : shares_at(step)) state = mix64(state, static_cast<std::uint64_t>(share));
  return state;
}

Result<JobPlan> make_plan(const Job& job, std::int64_t samples, std::int64_t ranks) {
  const std::int64_t grain = job_grain(job, ranks);
  PACELINE_ASSIGN(Shares shares, equal_shares(grain_count(job.batch.global, grain), ranks));
  return JobPlan{StepPlan(samples, job.batch.global, job.epochs, job.steps), grain, std::move(shares),
                 job.batch.micro, job.reproducible};
}

Loader::Source training_source(JobPlan plan, std::int64_t rank, std::int64_t first_step) {
  return [plan = std::move(plan), rank, step = first_step]() mutable -> std::optional<LoadRequest> {
    while (step < plan.steps.steps()) {
      const std::int64_t epoch = plan.steps.range(step).epoch;
      const PositionRange part = plan.part_of(step++, rank);
      if (part.count > 0) return LoadRequest{epoch, part.first, part.count};
    }
    return std::nullopt;
  };
}

}  // namespace paceline
