#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "paceline/base/result.hpp"

namespace paceline {

struct ScalabilityPoint {
  std::int64_t ranks = 1;
  double samples_per_second = 0;
  double relative_error = 0;  ///< standard error; 0: not known
};

/// A fitted number. No standard error: there are as many points as numbers to fit, and none says how exact it
/// is.
struct FittedValue {
  double value = 0;
  std::optional<double> standard_error{};
};

/// The universal scalability law, X(N) = X1 N / (1 + contention (N - 1) + coherence N (N - 1)): N. J.
/// Gunther, "Guerrilla Capacity Planning", Springer 2007, chapter 4.
struct ScalabilityLaw {
  FittedValue one_rank;    ///< X1, samples per second
  FittedValue contention;  ///< sigma, at least 0: the part of the work that only one rank at a time can do
  FittedValue coherence;   ///< kappa, at least 0: what each pair of ranks costs
  std::size_t sizes = 0;   ///< that it was fitted to

  [[nodiscard]] double samples_per_second(double ranks) const noexcept;
  /// Ranks with the greatest throughput, at least 1. Nothing: more ranks are always faster.
  [[nodiscard]] std::optional<double> peak_ranks() const noexcept;
};

/// Least squares of relative errors. An error names too few points (three different sizes are needed), or the
/// point that makes no sense.
[[nodiscard]] Result<ScalabilityLaw> fit_scalability_law(const std::vector<ScalabilityPoint>& points);

}  // namespace paceline
