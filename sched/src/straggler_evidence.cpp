#include "paceline/sched/straggler_evidence.hpp"

#include <algorithm>
#include <cmath>

#include "paceline/base/assert.hpp"

namespace paceline {
namespace {

/// The standard deviation of normal noise over its mean absolute deviation, and over the mean absolute
/// difference of two values.
constexpr double sigma_over_deviation = 1.2533;
constexpr double sigma_over_jump = 0.8862;
/// Until values tell: noise, and as if it had been seen so often.
constexpr double first_sigma = 0.2;
constexpr double first_counts = 5;
constexpr double noise_weight = 0.03;
constexpr double mean_weight = 0.05;
/// What is usual is a mean of some 200 values: slow beside what is sought, and quick beside a run.
constexpr double level_weight = 0.005;
/// One value moves what is learnt by no more than so many standard deviations.
constexpr double most_sigmas_learnt = 3;
constexpr double least_learnt = 0.02;      ///< of that
constexpr double first_most_learnt = 0.5;  ///< until there is a level
/// Once held, a sum goes back to 0 only if values are below this part of the middle.
constexpr double middle_held = 0.6;

}  // namespace

void DeviationSum::add(const DeviationRule& rule, double evidence, double at_s) {
  const double most = rule.limit / (rule.least_values - 0.5);
  if (run_ == 0) since_s_ = at_s;
  sum_ = std::clamp(sum_ + std::clamp(evidence, -most, most), 0.0, rule.limit);
  run_ = sum_ == 0 ? 0 : run_ + 1;
}

void DeviationSum::observe(const DeviationRule& rule, double value, double sigma, double at_s) {
  PACELINE_ASSERT(std::isfinite(value) && sigma > 0, "a deviation is a number, and so is its noise");
  const double middle = (rule.acceptable + rule.rejectable) / 2 * (held_ ? middle_held : 1);
  add(rule, (rule.rejectable - rule.acceptable) / (sigma * sigma) * (value - middle), at_s);
}

void DeviationSum::refute(const DeviationRule& rule) {
  add(rule, -rule.limit, since_s_);
}

double DeviationSeries::jumping_sigma(double least) const noexcept {
  return std::max(least, sigma_over_jump * jump_);
}

double DeviationSeries::wandering_sigma(double least) const noexcept {
  return std::max(jumping_sigma(least), sigma_over_deviation * wander_);
}

void DeviationSeries::learn_noise(double off) {
  if (count_ == 0) {
    mean_off_ = last_off_ = off;
    jump_ = first_sigma / sigma_over_jump;
  }
  ++count_;
  const double counted = static_cast<double>(count_),
               most = most_sigmas_learnt * wandering_sigma(least_learnt);
  const double weight = std::max(noise_weight, 1 / (counted + first_counts));
  jump_ += weight * (std::min(std::abs(off - last_off_), most) - jump_);
  wander_ += weight * (std::min(std::abs(off - mean_off_), most) - wander_);
  mean_off_ += std::max(mean_weight, 1 / counted) * (off - mean_off_);
  last_off_ = off;
}

void DeviationSeries::learn(double value) {
  values_.observe(value);
  if (frozen_) return;
  ++level_count_;
  const double most =
      level_count_ < least_history ? first_most_learnt : most_sigmas_learnt * jumping_sigma(least_learnt);
  const double off = level_count_ == 1 ? value - level_ : std::clamp(value - level_, -most, most);
  level_ += std::max(level_weight, 1 / static_cast<double>(level_count_)) * off;
}

void DeviationSeries::observe(const DeviationRule& sudden_rule, const DeviationRule& lasting_rule,
                              double least_sigma, double value, double off, double at_s) {
  const double jumping = jumping_sigma(least_sigma), wandering = wandering_sigma(least_sigma);
  learn_noise(off);
  offs_.observe(off);
  sudden.observe(sudden_rule, off, jumping, at_s);
  lasting.observe(lasting_rule, off, wandering, at_s);
  const bool frozen = frozen_;
  frozen_ = frozen || sudden.sum() > sudden_rule.limit / 4 || lasting.sum() > lasting_rule.limit / 2;
  learn(value);
  frozen_ = frozen;
}

void DeviationSeries::accept() {
  level_ = values_.median(16);
}

void DeviationSeries::hold(bool held) noexcept {
  sudden.hold(held);
  lasting.hold(held);
}

}  // namespace paceline
