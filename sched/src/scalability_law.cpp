#include "paceline/sched/scalability_law.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include "paceline/base/text.hpp"
#include "small_matrix.hpp"

namespace paceline {
namespace {

constexpr std::size_t numbers = 3;  ///< that are fitted
using Numbers = Vector<numbers>;

/// n / X(n) is linear in 1, contention and coherence, each over X1: these are what each is multiplied by.
Numbers terms_of(double ranks) noexcept {
  return {1, ranks - 1, ranks * (ranks - 1)};
}

Status check(const std::vector<ScalabilityPoint>& points) {
  std::set<std::int64_t> sizes;
  for (const ScalabilityPoint& point : points) {
    const auto refuse = [&](const auto&... why) {
      return Error(ErrorCode::invalid_argument, concat("the point of ", point.ranks, " ranks has ", why...));
    };
    if (point.ranks < 1) return refuse("less than one rank");
    if (!std::isfinite(point.samples_per_second) || point.samples_per_second <= 0)
      return refuse("a throughput of ", point.samples_per_second, " samples per second");
    if (!std::isfinite(point.relative_error) || point.relative_error < 0)
      return refuse("a relative error of ", point.relative_error);
    sizes.insert(point.ranks);
  }
  if (sizes.size() < numbers)
    return Error(ErrorCode::invalid_argument,
                 concat("the scalability law has three numbers and needs as many sizes, there are ",
                        sizes.size(), ": measure more numbers of ranks"));
  return {};
}

/// Weighted least squares, with the errors of n / X(n) relative to it.
class Fit {
 public:
  explicit Fit(const std::vector<ScalabilityPoint>& points)
      : points_(points), errors_known_(std::all_of(points.begin(), points.end(), [](const auto& point) {
          return point.relative_error > 0;
        })) {}

  /// With the numbers that are not `used` held at 0.
  [[nodiscard]] Result<Numbers> solve_for(const std::array<bool, numbers>& used);
  /// Of relative errors, in standard errors where these are known.
  [[nodiscard]] double squares(const Numbers& x) const noexcept;
  /// Of the last solve: standard errors of contention and coherence. Nothing: no point says how exact it is.
  [[nodiscard]] std::optional<Numbers> standard_errors(const Numbers& x) const noexcept;

 private:
  [[nodiscard]] double weight_of(const ScalabilityPoint& point) const noexcept {
    return errors_known_ ? 1 / point.relative_error : 1;
  }
  const std::vector<ScalabilityPoint>& points_;
  bool errors_known_;
  Matrix<numbers> factor_{};
};

Result<Numbers> Fit::solve_for(const std::array<bool, numbers>& used) {
  factor_ = {};
  Numbers right{};
  for (const ScalabilityPoint& point : points_) {
    const auto ranks = static_cast<double>(point.ranks);
    const double scale = weight_of(point) * point.samples_per_second / ranks;
    const Numbers terms = terms_of(ranks);
    for (std::size_t i = 0; i < numbers; ++i) {
      if (!used[i]) continue;
      right[i] += terms[i] * scale * weight_of(point);
      for (std::size_t j = 0; j <= i; ++j) factor_[i][j] += used[j] ? terms[i] * scale * terms[j] * scale : 0;
    }
  }
  for (std::size_t i = 0; i < numbers; ++i) {
    if (!used[i]) factor_[i][i] = 1;
  }
  if (!factorize(factor_))
    return Error(ErrorCode::invalid_argument, "the points are too much alike, or too far apart, for a fit");
  return solve(factor_, right);
}

double Fit::squares(const Numbers& x) const noexcept {
  double sum = 0;
  for (const ScalabilityPoint& point : points_) {
    const auto ranks = static_cast<double>(point.ranks);
    const Numbers terms = terms_of(ranks);
    double predicted = 0;
    for (std::size_t i = 0; i < numbers; ++i) predicted += x[i] * terms[i];
    const double off = (predicted * point.samples_per_second / ranks - 1) * weight_of(point);
    sum += off * off;
  }
  return sum;
}

std::optional<Numbers> Fit::standard_errors(const Numbers& x) const noexcept {
  const std::size_t spare = points_.size() - numbers;
  if (!errors_known_ && spare == 0) return std::nullopt;
  const double variance = errors_known_ ? 1 : squares(x) / static_cast<double>(spare);
  const double contention = x[1] / x[0], coherence = x[2] / x[0];
  // The slopes of X1 = 1 / x0, contention = x1 / x0 and coherence = x2 / x0.
  const std::array<Numbers, numbers> slopes = {
      {{-1 / (x[0] * x[0]), 0, 0}, {-contention / x[0], 1 / x[0], 0}, {-coherence / x[0], 0, 1 / x[0]}}};
  Numbers errors{};
  for (std::size_t i = 0; i < numbers; ++i) {
    const Numbers spread = solve(factor_, slopes[i]);
    double sum = 0;
    for (std::size_t j = 0; j < numbers; ++j) sum += slopes[i][j] * spread[j];
    errors[i] = std::sqrt(sum * variance);
  }
  return errors;
}

/// The best of the fits whose numbers are all at least 0.
std::optional<Numbers> best_within_bounds(Fit& fit) {
  std::optional<Numbers> best;
  for (const bool contention : {true, false}) {
    for (const bool coherence : {true, false}) {
      const Result<Numbers> found = fit.solve_for({true, contention, coherence});
      if (!found.ok() || (*found)[0] <= 0 || (*found)[1] < 0 || (*found)[2] < 0) continue;
      if (!best || fit.squares(*found) < fit.squares(*best)) best = *found;
    }
  }
  return best;
}

}  // namespace

Result<ScalabilityLaw> fit_scalability_law(const std::vector<ScalabilityPoint>& points) {
  PACELINE_TRY(check(points));
  Fit fit(points);
  const std::optional<Numbers> best = best_within_bounds(fit);
  PACELINE_ASSIGN(const Numbers free, fit.solve_for({true, true, true}));
  if (!best) return Error(ErrorCode::invalid_argument, "no scalability law fits the points");
  const std::optional<Numbers> errors = fit.standard_errors(free);
  const auto error_of = [&](std::size_t i) { return errors ? std::optional((*errors)[i]) : std::nullopt; };

  ScalabilityLaw law;
  law.one_rank = {1 / (*best)[0], error_of(0)};
  law.contention = {(*best)[1] / (*best)[0], error_of(1)};
  law.coherence = {(*best)[2] / (*best)[0], error_of(2)};
  law.points = points.size();
  return law;
}

double ScalabilityLaw::samples_per_second(double ranks) const noexcept {
  return one_rank.value * ranks /
         (1 + contention.value * (ranks - 1) + coherence.value * ranks * (ranks - 1));
}

std::optional<double> ScalabilityLaw::peak_ranks() const noexcept {
  if (coherence.value <= 0) return std::nullopt;
  return std::sqrt(std::max((1 - contention.value) / coherence.value, 1.0));
}

}  // namespace paceline
