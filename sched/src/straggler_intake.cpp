#include "paceline/sched/straggler_intake.hpp"

#include <cmath>
#include <limits>

namespace paceline {
namespace {

/// A time or a number is below that: ten years in seconds, an exabyte.
constexpr double most_seconds = 3e8, most_bytes = 1e18, most_grains = 1e15;

double grown(double from, double to, double most) {
  const double by = to - from;
  return std::isfinite(by) && by >= 0 && by < most ? by : std::numeric_limits<double>::quiet_NaN();
}

double grown(std::int64_t from, std::int64_t to, double most) {
  return grown(static_cast<double>(from), static_cast<double>(to), most);
}

MeasuredSteps between(const MeasuredSums& from, const MeasuredSums& to) {
  const auto seconds = [&](double MeasuredSums::*sum) { return grown(from.*sum, to.*sum, most_seconds); };
  MeasuredSteps steps;
  steps.steps = static_cast<double>(to.steps) - static_cast<double>(from.steps);
  steps.grains = grown(from.grains, to.grains, most_grains);
  steps.data_s = seconds(&MeasuredSums::data_s);
  steps.compute_s = seconds(&MeasuredSums::forward_s) + seconds(&MeasuredSums::backward_s);
  steps.optimizer_s = seconds(&MeasuredSums::optimizer_s);
  steps.wait_s = seconds(&MeasuredSums::reduce_s) + seconds(&MeasuredSums::commit_s);
  steps.cpu_s = seconds(&MeasuredSums::cpu_s);
  steps.wire_bytes = grown(from.wire_bytes, to.wire_bytes, most_bytes);
  steps.wire_busy_s = seconds(&MeasuredSums::wire_busy_s);
  return steps;
}

}  // namespace

std::optional<MeasuredSteps> SumsIntake::take(const MeasuredSums& sums, double now_s) {
  if (sums.steps < 0) return std::nullopt;
  const bool restarted = fewer_ && last_ && sums.steps < last_->steps && sums.steps >= fewer_->steps;
  if (!last_ || restarted) {
    last_ = sums;
    last_s_ = now_s;
    fewer_.reset();
    return std::nullopt;
  }
  if (sums.steps < last_->steps) {
    fewer_ = sums;
    return std::nullopt;
  }
  fewer_.reset();
  if (sums.steps == last_->steps) return std::nullopt;
  MeasuredSteps steps = between(*last_, sums);
  steps.began_s = last_s_;
  steps.ended_s = now_s;
  last_ = sums;
  last_s_ = now_s;
  const bool skipped = skip_;
  skip_ = false;
  if (skipped) return std::nullopt;
  return steps;
}

}  // namespace paceline
