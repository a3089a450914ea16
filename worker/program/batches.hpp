#pragma once

#include <cstdint>

#include "paceline/data/loader.hpp"
#include "paceline/job/plan.hpp"

namespace paceline {

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
