#pragma once

#include <cstdint>
#include <vector>

#include "paceline/sched/step_law.hpp"

namespace paceline {

/// What was measured at one size, and its standard error relative to the step.
struct FitPoint {
  JobSize size;
  double compute_ms = 0;
  double exposed_ms = 0;
  double step_ms = 0;
  double error = 0;
};

/// Step laws that explain `points` (one at least), as likely one as the other; the first is the most probable.
/// The same points give the same laws, and a little different ones laws that differ little.
///
/// Logarithms of the coefficients have normal priors around what is typical, relative to what one rank would
/// compute. Each law minimises the squares of what it is off, in standard errors, from measurements and prior
/// means that are disturbed as much as their errors say: randomised maximum likelihood (Oliver, He, Reynolds,
/// "Conditioning permeability fields to pressure data", ECMOR 1996), exact where the law is linear.
[[nodiscard]] std::vector<LikelyLaw> fit_step_laws(const std::vector<FitPoint>& points,
                                                 std::int64_t grain_samples);

}  // namespace paceline
