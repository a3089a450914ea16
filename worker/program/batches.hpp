#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "paceline/data/loader.hpp"
#include "paceline/job/plan.hpp"

namespace paceline {

/// What every rank of a job cuts steps with.
struct JobPlan {
  StepPlan steps;
  std::int64_t grain;
  Shares shares;
  std::int64_t micro;
  bool reproducible;
  std::int64_t change_step = std::numeric_limits<std::int64_t>::max();  ///< from which on next_shares hold
  Shares next_shares = {};

  [[nodiscard]] const Shares& shares_at(std::int64_t step) const {
    return step >= change_step ? next_shares : shares;
  }
  /// From `step` on the shares are these. A change before that must be in force by then.
  void change(std::int64_t step, Shares to);
  [[nodiscard]] PositionRange part_of(std::int64_t step, std::int64_t rank) const {
    return rank_range(steps.range(step).positions, grain, shares_at(step), rank);
  }
  /// Whether all ranks have all of their grains in it.
  [[nodiscard]] bool is_whole(std::int64_t step) const {
    return steps.range(step).positions.count == steps.range(0).positions.count;
  }
  /// A rank's part, cut.
  [[nodiscard]] std::vector<PositionRange> passes_of(const PositionRange& part) const {
    return reproducible ? grain_passes(part, grain) : passes(part, micro);
  }
  /// Of all ranks in a step of so many samples, where a grain is a pass.
  [[nodiscard]] std::int64_t passes_in(std::int64_t samples) const {
    return reproducible ? grain_count(samples, grain) : 0;
  }
  /// Equal on ranks that cut `step` alike.
  [[nodiscard]] std::uint64_t hash(std::int64_t step) const;
};

/// The plan of `job` over a dataset of so many samples; an error where there are more ranks than grains.
[[nodiscard]] Result<JobPlan> make_plan(const Job& job, std::int64_t samples, std::int64_t ranks);

/// A rank's future, for its loader: its part of every step from `first_step` on, empty parts left out.
[[nodiscard]] Loader::Source training_source(JobPlan plan, std::int64_t rank, std::int64_t first_step);

}  // namespace paceline
