#include "paceline/sched/cost_estimate.hpp"

#include <algorithm>
#include <cmath>

#include "paceline/base/assert.hpp"

namespace paceline {
namespace {

/// The standard deviation of normal noise over its mean absolute deviation.
constexpr double sigma_over_deviation = 1.25;
/// A deviation is clipped at so many standard deviations before it is learnt: a change is none.
constexpr double most_sigmas_learnt = 3;
/// Values weigh as if the first deviation had been seen so often.
constexpr std::int64_t first_deviation_counts = 5;
/// A change is believed to be no greater: what no rank can have taken must not stay for long.
constexpr double most_change = 16;

template <std::size_t most>
double middle_of(std::array<double, most> values, std::size_t count) {
  if (count == 0) return 0;
  const auto begin = values.begin(), middle = begin + static_cast<std::ptrdiff_t>((count - 1) / 2);
  std::nth_element(begin, middle, begin + static_cast<std::ptrdiff_t>(count));
  return *middle;
}

}  // namespace

CostEstimate CostEstimate::assumed(const CostRules& rules, double level, double deviation) {
  CostEstimate estimate(rules);
  estimate.level_ = level;
  estimate.deviation_ = std::max(deviation, rules.first_deviation);
  return estimate;
}

double CostEstimate::sigma() const noexcept {
  return std::max(sigma_over_deviation * deviation_, rules_.least_sigma);
}

double CostEstimate::error() const noexcept {
  return sigma() * std::sqrt(variance_);
}

double CostEstimate::error_of(std::int64_t values) const noexcept {
  return sigma() / std::sqrt(static_cast<double>(values));
}

bool CostEstimate::gather(Side& side, double beyond, double limit) const {
  side.sum = std::max(0.0, side.sum + beyond - rules_.slack);
  side.run = side.sum == 0 ? 0 : side.run + 1;
  return side.sum > limit;
}

void CostEstimate::restart_from(std::size_t run) {
  level_ = std::clamp(recent_.median(run), level_ / most_change, level_ * most_change);
  count_ = static_cast<std::int64_t>(run);
  variance_ = 1 / static_cast<double>(run);
  deviation_ = std::min(deviation_, rules_.most_deviation_then);
  slower_ = faster_ = {};
  ++changes_;
}

void CostEstimate::observe(double value) {
  PACELINE_ASSERT(std::isfinite(value) && value > 0, "a cost is a positive number");
  recent_.observe(value);
  if (count_ == 0) {
    count_ = 1;
    level_ = value;
    return;
  }
  const double noise = sigma();
  const double sigmas =
      std::clamp(std::log(value / level_) / noise, -rules_.outlier_in_sums, rules_.outlier_in_sums);
  const bool slower = gather(slower_, sigmas, rules_.slower_after);
  const bool faster = gather(faster_, -sigmas, rules_.faster_after);
  if (slower || faster) {
    restart_from(slower ? slower_.run : faster_.run);
    return;
  }
  ++count_;
  const double off = value / level_ - 1;
  const double weight = std::max(rules_.weight, 1 / static_cast<double>(count_));
  level_ *= 1 + weight * std::clamp(off, -rules_.outlier * noise, rules_.outlier * noise);
  variance_ = (1 - weight) * (1 - weight) * variance_ + weight * weight;
  const double learn =
      std::max(rules_.deviation_weight, 1 / static_cast<double>(count_ + first_deviation_counts));
  deviation_ += learn * (std::min(std::abs(off), most_sigmas_learnt * noise) - deviation_);
}

void CostEstimate::rescale(double factor) {
  PACELINE_ASSERT(std::isfinite(factor) && factor > 0, "a unit is a positive number");
  level_ *= factor;
  recent_.rescale(factor);
}

void RecentMedian::observe(double value) {
  values_[next_] = value;
  next_ = (next_ + 1) % kept;
  count_ = std::min(count_ + 1, kept);
}

void RecentMedian::rescale(double factor) {
  for (double& value : values_) value *= factor;
}

double RecentMedian::median(std::size_t most) const {
  std::array<double, kept> last{};
  const std::size_t count = std::min(most, count_);
  for (std::size_t i = 0; i < count; ++i) last[i] = values_[(next_ + kept - 1 - i) % kept];
  return middle_of(last, count);
}

double RecentMedian::scatter(std::size_t most) const {
  std::array<double, kept> distances{};
  const std::size_t count = std::min(most, count_);
  const double centre = median(most);
  for (std::size_t i = 0; i < count; ++i)
    distances[i] = std::abs(values_[(next_ + kept - 1 - i) % kept] - centre);
  return middle_of(distances, count);
}

}  // namespace paceline
