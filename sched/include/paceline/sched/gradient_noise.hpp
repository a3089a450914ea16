#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "paceline/base/result.hpp"

namespace paceline {

/// A rank's gradient in one step, before the reduction.
struct RankGradient {
  std::int64_t samples = 0;
  double squared_norm = 0;  ///< of the mean gradient over these samples
};

/// Follows the gradient noise scale of a job, from gradients that it has anyway: McCandlish et al., "An
/// Empirical Model of Large-Batch Training", 2018, appendix A.1, for shares that may differ.
///
/// Samples have gradients with mean G and covariance Sigma. With b_i of B samples on rank i of n, g_i its
/// mean gradient and g that of all,
///
///   E |g_i|^2 = |G|^2 + tr(Sigma) / b_i        E |g|^2 = |G|^2 + tr(Sigma) / B
///
/// so that, whatever the shares,
///
///   tr(Sigma) = B / (n - 1) (sum_i b_i / B |g_i|^2 - |g|^2)        |G|^2 = |g|^2 - tr(Sigma) / B
///
/// are unbiased. Both are smoothed for themselves, and divided afterwards: the mean of a ratio is another
/// thing. Not thread-safe; no clock, no randomness.
class GradientNoise {
 public:
  /// `smoothing_steps`: what a step says is forgotten by a factor of e after so many; at least 1.
  explicit GradientNoise(double smoothing_steps = 100) noexcept;

  /// One step's gradients: of each rank, and `squared_norm` of the mean over all samples. An error, which
  /// changes nothing: one rank only, a rank without samples, norms that aren't finite or that contradict each
  /// other (a mean is never longer than its parts).
  Status observe(const std::vector<RankGradient>& ranks, double squared_norm);

  /// The same of ranks (that have samples) whose sum_i b_i / B |g_i|^2 is known, with B = `batch` samples.
  Status observe(std::int64_t ranks, std::int64_t batch, double mean_squared_norm, double squared_norm);

  [[nodiscard]] std::int64_t steps() const noexcept { return steps_; }  ///< observed
  [[nodiscard]] double variance() const noexcept;  ///< tr(Sigma), of one sample; 0 before the first step
  [[nodiscard]] double squared_gradient() const noexcept;  ///< |G|^2; can be below 0, where noise hides it
  /// B_noise = tr(Sigma) / |G|^2, in samples. Nothing: no step yet, or the gradient can't be told from noise.
  [[nodiscard]] std::optional<double> noise_scale() const noexcept;
  /// Progress per sample with a batch, over that with `base_batch`: Pollux (OSDI 2021), section 3.1. Nothing
  /// where there is no noise scale.
  [[nodiscard]] std::optional<double> efficiency(std::int64_t batch, std::int64_t base_batch) const noexcept;

 private:
  double keep_;  ///< of what is known, in each step
  double weight_ = 0, variance_ = 0, squared_gradient_ = 0;
  std::int64_t steps_ = 0;
};

}  // namespace paceline
