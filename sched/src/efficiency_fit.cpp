#include "efficiency_fit.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "paceline/base/hash.hpp"
#include "small_matrix.hpp"

namespace paceline {
namespace {

/// Pairs of laws: with opposite disturbances, so that their middle is where it would be without.
constexpr int pairs = 60;
constexpr double exposed_error = 1.5;  ///< times that of the step: it has no waiting for votes in it, or some
constexpr int most_iterations = 40;

enum Coefficient : std::size_t {
  fixed,
  slope,
  rest,
  alpha_local,
  beta_local,
  alpha_node,
  beta_node,
  moving,
  hiding
};
constexpr std::size_t coefficients = 9;
using Coefficients = Vector<coefficients>;

/// Of the logarithms: of times in ms, of betas over their alpha, of alpha_node over alpha_local; the last two
/// are no logarithms, but arguments of the logistic function that gives `moving` and 1 / gamma.
struct Prior {
  Coefficients mean{}, deviation{};
};

constexpr double least_inverse_gamma = 0.1;

double logistic(double x) noexcept {
  return 1 / (1 + std::exp(-x));
}

Prior prior_of(const std::vector<FitPoint>& points, std::int64_t grain_samples) {
  const FitPoint& least = *std::min_element(points.begin(), points.end(),
                                            [](const auto& a, const auto& b) { return a.size < b.size; });
  const double per_sample = least.compute_ms / slowest_share(least.size, grain_samples);
  const double one_rank = per_sample * static_cast<double>(least.size.samples_per_step);
  const double left = std::max(least.step_ms - least.compute_ms - least.exposed_ms, 1e-3 * least.step_ms);
  Prior prior;
  const auto set = [&](Coefficient which, double median, double deviation) {
    prior.mean[which] = std::log(median);
    prior.deviation[which] = deviation;
  };
  set(fixed, 0.02 * one_rank, 1.5);
  set(slope, per_sample, 2);
  set(rest, left, 1.5);
  set(alpha_local, 0.05 * one_rank, 1.5);
  set(beta_local, 0.05, 1.5);
  set(alpha_node, 3, 1.2);
  set(beta_node, 0.05, 1.5);
  prior.mean[moving] = 0;
  prior.deviation[moving] = 1.5;
  prior.mean[hiding] = 2.3;
  prior.deviation[hiding] = 1.5;
  return prior;
}

StepLaw law_of(const Coefficients& x) {
  StepLaw law;
  law.fixed_ms = std::exp(x[fixed]);
  law.ms_per_sample = std::exp(x[slope]);
  law.rest_ms = std::exp(x[rest]);
  law.alpha_local_ms = std::exp(x[alpha_local]);
  law.beta_local_ms = law.alpha_local_ms * std::exp(x[beta_local]);
  law.alpha_node_ms = law.alpha_local_ms * std::exp(x[alpha_node]);
  law.beta_node_ms = law.alpha_node_ms * std::exp(x[beta_node]);
  law.moving = logistic(x[moving]);
  law.gamma = 1 / (least_inverse_gamma + (1 - least_inverse_gamma) * logistic(x[hiding]));
  return law;
}

/// What a law says of a size, and the derivatives.
struct Parts {
  double compute_ms = 0, combined_ms = 0;
  Coefficients compute_slope{}, combined_slope{};
};

Parts parts_of(const StepLaw& law, const JobSize& size, std::int64_t grain_samples) {
  Parts parts;
  const double compute = parts.compute_ms = law.compute_ms(size, grain_samples);
  const double sync = law.sync_ms(size);
  const double combined = parts.combined_ms = combined_ms(compute, sync, law.gamma);
  parts.compute_slope[fixed] = law.fixed_ms;
  parts.compute_slope[slope] = compute - law.fixed_ms;
  const double by_compute = std::pow(compute / combined, law.gamma - 1);
  for (const Coefficient c : {fixed, slope}) parts.combined_slope[c] = by_compute * parts.compute_slope[c];
  if (sync <= 0) return parts;

  const double by_sync = std::pow(sync / combined, law.gamma - 1);
  const std::int64_t local = ranks_per_node(size);
  const auto beyond_two = [](std::int64_t n) { return n > 2 ? static_cast<double>(n - 2) : 0; };
  const auto moved = [](std::int64_t n, double alpha) {
    return n > 2 ? alpha * (1 - 2 / static_cast<double>(n)) : 0;
  };
  const double between = sync - law.sync_ms({local, 1, size.samples_per_step});
  parts.combined_slope[alpha_local] = by_sync * sync;
  parts.combined_slope[beta_local] = by_sync * law.beta_local_ms * beyond_two(local);
  parts.combined_slope[alpha_node] = by_sync * between;
  parts.combined_slope[beta_node] = by_sync * law.beta_node_ms * beyond_two(size.nodes);
  parts.combined_slope[moving] = by_sync *
                                 (moved(local, law.alpha_local_ms) + moved(size.nodes, law.alpha_node_ms)) *
                                 law.moving * (1 - law.moving);

  const double of_compute = std::pow(compute / combined, law.gamma);
  const double by_gamma =
      combined / law.gamma *
      (of_compute * std::log(compute / combined) + (1 - of_compute) * std::log(sync / combined));
  const double hidden = (1 / law.gamma - least_inverse_gamma) / (1 - least_inverse_gamma);
  parts.combined_slope[hiding] =
      -by_gamma * law.gamma * law.gamma * (1 - least_inverse_gamma) * hidden * (1 - hidden);
  return parts;
}

/// Standard normal, and the same for the same key.
double normal_of(std::uint64_t key) noexcept {
  SplitMix64 random(key);
  const auto uniform = [&] { return (static_cast<double>(random.next() >> 11) + 0.5) * 0x1p-53; };
  const double radius = std::sqrt(-2 * std::log(uniform()));
  return radius * std::cos(2 * std::numbers::pi * uniform());
}

/// Of a point: what the fit compares.
enum Part : std::size_t { compute_part, step_part, exposed_part };
constexpr std::size_t parts_measured = 3;

/// How far, in standard errors, a law's prior means and measurements are off.
struct Disturbance {
  Coefficients prior{};
  std::vector<Vector<parts_measured>> measured;  ///< of each point
  double form = 0;
};

Disturbance no_disturbance(const std::vector<FitPoint>& points) {
  return {{}, std::vector<Vector<parts_measured>>(points.size()), 0};
}

/// That of a size is the same whatever other sizes there are.
Disturbance disturbance_of(const std::vector<FitPoint>& points, std::uint64_t pair, double sign) {
  Disturbance off = no_disturbance(points);
  for (std::size_t i = 0; i < coefficients; ++i) off.prior[i] = sign * normal_of(mix64(pair, i));
  off.form = sign * normal_of(mix64(pair, coefficients));
  for (std::size_t i = 0; i < points.size(); ++i) {
    const JobSize& size = points[i].size;
    for (std::size_t part = 0; part < parts_measured; ++part)
      off.measured[i][part] =
          sign * normal_of(mix64(pair, size.ranks, size.nodes, size.samples_per_step, part));
  }
  return off;
}

/// Half the sum of squares, its gradient, and its second derivatives without those of the law.
struct Misfit {
  double value = 0;
  Coefficients gradient{};
  Matrix<coefficients> curvature{};

  void add(double residual, const Coefficients& slope) noexcept {
    value += residual * residual / 2;
    for (std::size_t i = 0; i < coefficients; ++i) {
      gradient[i] += residual * slope[i];
      for (std::size_t j = 0; j <= i; ++j) curvature[i][j] += slope[i] * slope[j];
    }
  }
};

class Fit {
 public:
  Fit(const std::vector<FitPoint>& points, std::int64_t grain_samples)
      : points_(points), grain_samples_(grain_samples), prior_(prior_of(points, grain_samples)) {}

  [[nodiscard]] const Coefficients& start() const noexcept { return prior_.mean; }
  /// The best coefficients near `x`: Levenberg and Marquardt.
  [[nodiscard]] Coefficients best_from(Coefficients x, const Disturbance& disturbance) const;

 private:
  [[nodiscard]] Misfit misfit(const Coefficients& x, const Disturbance& disturbance) const;
  void add_point(const FitPoint& point, const StepLaw& law, const Vector<parts_measured>& off,
                 Misfit& sum) const;

  const std::vector<FitPoint>& points_;
  std::int64_t grain_samples_;
  Prior prior_;
};

void Fit::add_point(const FitPoint& point, const StepLaw& law, const Vector<parts_measured>& off,
                    Misfit& sum) const {
  const Parts parts = parts_of(law, point.size, grain_samples_);
  const double step_error = point.error * point.step_ms;
  const auto add = [&](double predicted, double measured, double error, Coefficients slope, Part part) {
    for (double& each : slope) each /= error;
    sum.add((predicted - measured) / error - off[part], slope);
  };
  add(parts.compute_ms, point.compute_ms, step_error, parts.compute_slope, compute_part);

  Coefficients slope = parts.combined_slope;
  slope[rest] = law.rest_ms;
  add(law.rest_ms + parts.combined_ms, point.step_ms, step_error, slope, step_part);

  if (point.size.ranks == 1) return;  // nothing is exposed, whatever the coefficients
  slope = parts.combined_slope;
  for (std::size_t i = 0; i < coefficients; ++i) slope[i] -= parts.compute_slope[i];
  add(parts.combined_ms - parts.compute_ms, point.exposed_ms, exposed_error * step_error, slope,
      exposed_part);
}

Misfit Fit::misfit(const Coefficients& x, const Disturbance& disturbance) const {
  Misfit sum;
  for (std::size_t i = 0; i < coefficients; ++i) {
    Coefficients slope{};
    slope[i] = 1 / prior_.deviation[i];
    sum.add((x[i] - prior_.mean[i]) / prior_.deviation[i] - disturbance.prior[i], slope);
  }
  const StepLaw law = law_of(x);
  for (std::size_t i = 0; i < points_.size(); ++i) add_point(points_[i], law, disturbance.measured[i], sum);
  return sum;
}

Coefficients Fit::best_from(Coefficients x, const Disturbance& disturbance) const {
  constexpr double most_change = 2;  // in one iteration: a logarithm beyond that is a guess
  constexpr double least_gain = 1e-4;
  double damping = 1e-3;
  Misfit here = misfit(x, disturbance);
  for (int iteration = 0; iteration < most_iterations; ++iteration) {
    Matrix<coefficients> factor = here.curvature;
    for (std::size_t i = 0; i < coefficients; ++i) factor[i][i] *= 1 + damping;
    if (!factorize(factor)) break;
    const Coefficients change = solve(factor, here.gradient);
    Coefficients next = x;
    for (std::size_t i = 0; i < coefficients; ++i)
      next[i] -= std::clamp(change[i], -most_change, most_change);
    const Misfit there = misfit(next, disturbance);
    if (!(there.value < here.value)) {
      damping *= 8;
      if (damping > 1e9) break;
      continue;
    }
    const bool done = here.value - there.value < least_gain * (1 + here.value);
    x = next;
    here = there;
    damping = std::max(damping / 8, 1e-9);
    if (done) break;
  }
  return x;
}

}  // namespace

std::vector<LikelyLaw> fit_step_laws(const std::vector<FitPoint>& points, std::int64_t grain_samples) {
  const Fit fit(points, grain_samples);
  const Coefficients best = fit.best_from(fit.start(), no_disturbance(points));
  std::vector<LikelyLaw> laws{{law_of(best), 0}};
  for (std::uint64_t pair = 1; pair <= pairs; ++pair) {
    for (const double sign : {1.0, -1.0}) {
      const Disturbance disturbance = disturbance_of(points, pair, sign);
      laws.push_back({law_of(fit.best_from(best, disturbance)), disturbance.form});
    }
  }
  return laws;
}

}  // namespace paceline
