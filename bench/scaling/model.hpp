#pragma once

#include <optional>
#include <string>
#include <vector>

#include "paceline/sched/efficiency_model.hpp"
#include "paceline/sched/scalability_law.hpp"
#include "scaling/figures.hpp"

namespace paceline::bench {

/// What was fitted to the rows.
struct ScalingModel {
  std::optional<StepCoefficients> step{};  ///< docs/efficiency.md
  std::string no_step{};                   ///< else why not
  std::optional<ScalabilityLaw> law{};     ///< of the throughput at strong scaling
  std::string no_law{};
};

struct ModelSettings {
  std::int64_t steps = 1;          ///< of each training
  std::int64_t grain_samples = 1;  ///< shares are whole grains
  std::int64_t simulate = 0;       ///< up to so many ranks; 0: nothing beyond what was measured
};

/// Fits both laws to all sizes that were measured, fills in what they say of each row, and adds the simulated
/// rows of each mode behind its measured ones: twice the ranks each time, up to `simulate`.
[[nodiscard]] ScalingModel fit_model(std::vector<ScalingRow>& rows, const Measurements& measurements,
                                     const ModelSettings& settings);

/// What the model gets to see of a size.
[[nodiscard]] SizeObservation observation_of(const TrainingSize& size,
                                             const std::vector<RoundFigures>& rounds, std::int64_t steps);

}  // namespace paceline::bench
