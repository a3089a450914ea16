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
/// Of the limit: a sum beyond it will most likely be a change soon.
constexpr double likely_change = 0.6;
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

double CostEstimate::beyond(const Side& side, double value) const {
  return std::clamp(side.sign * std::log(value / side.level) / side.sigma, -rules_.outlier_in_sums,
                    rules_.outlier_in_sums) -
         rules_.slack;
}

bool CostEstimate::gather(Side& side, double value) const {
  if (side.sum == 0) side.run = 0;
  if (side.sum == 0 || !side.keeps_reference) {
    side.level = level_;
    side.sigma = sigma();
  }
  side.sum = std::max(0.0, side.sum + beyond(side, value));
  ++side.run;
  return side.sum > side.limit;
}

bool CostEstimate::may_be_slower() const noexcept {
  return slower_.sum > likely_change * slower_.limit;
}

bool CostEstimate::may_be_faster() const noexcept {
  return faster_.sum > likely_change * faster_.limit;
}

/// The fewest of the run's last values that would be a change by themselves: where it is a clear one, those
/// from before it, which began the run by chance, stay out.
std::size_t CostEstimate::decisive(const Side& side) const {
  double sum = 0;
  std::size_t count = 0;
  while (count < std::min(side.run, recent_.count()) && sum <= side.limit)
    sum += beyond(side, recent_.last(count++));
  return count;
}

void CostEstimate::restart_from(std::size_t values) {
  level_ = std::clamp(recent_.median(values), level_ / most_change, level_ * most_change);
  count_ = static_cast<std::int64_t>(values);
  variance_ = 1 / static_cast<double>(values);
  deviation_ = std::min(deviation_, rules_.most_deviation_then);
  slower_.sum = faster_.sum = 0;
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
  const bool slower = gather(slower_, value);
  const bool faster = gather(faster_, value);
  if (slower || faster) return restart_from(decisive(slower ? slower_ : faster_));
  const double noise = sigma();
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
  slower_.level *= factor;
  faster_.level *= factor;
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

double RecentMedian::last(std::size_t before) const {
  PACELINE_ASSERT(before < count_, "it was observed, and is kept");
  return values_[(next_ + kept - 1 - before) % kept];
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
