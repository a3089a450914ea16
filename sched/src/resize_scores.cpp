// What each size would bring.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numbers>

#include "paceline/base/assert.hpp"
#include "paceline/base/text.hpp"
#include "resize_ground.hpp"

namespace paceline {
namespace {

/// Of a normal distribution: so many standard errors on each side hold nine of ten values.
constexpr double nine_of_ten = 1.645;

/// By first places: N ranks use the first N, and of the last kind there can be more.
template <class Value>
double sum_over_ranks(const std::vector<NodeKind>& kinds, std::int64_t ranks, Value value) {
  double sum = 0;
  for (const NodeKind& kind : kinds) {
    const bool last = &kind == &kinds.back();
    const std::int64_t of_kind = last ? ranks : std::min(ranks, kind.places);
    if (of_kind > 0) sum += static_cast<double>(of_kind) * value(kind);
    ranks -= of_kind;
  }
  return sum;
}

double price_per_hour(const ResizeGround& ground, std::int64_t ranks) {
  return sum_over_ranks(ground.facts.kinds, ranks,
                        [&](const NodeKind& kind) { return ground.rules.prices.at(kind.name); });
}

double power_w(const ResizeGround& ground, std::int64_t ranks) {
  return sum_over_ranks(ground.facts.kinds, ranks, [&](const NodeKind& kind) {
    return kind.power_w ? *kind.power_w : ground.rules.power_w.at(kind.name);
  });
}

/// Until the job's end from now on, with `step_ms` at another size and the present one until places are
/// there.
double finish_s(const ResizeGround& ground, std::int64_t ranks, double step_ms) {
  const ResizeFacts& facts = ground.facts;
  const auto left = static_cast<double>(facts.steps_left);
  if (ranks == facts.ranks) return left * step_ms / 1e3;
  const double lead_s = ground.lead_s(ranks);
  const double meanwhile = std::min(left, lead_s * 1e3 / ground.present->step_ms);
  if (meanwhile >= left) return ground.time_left_s;
  return lead_s + facts.pause_s + (left - meanwhile) * step_ms / 1e3;
}

double score_of(const ResizeGround& ground, const ScoredSize& size) {
  const double step_ms = size.forecast->step_ms;
  const std::int64_t ranks = size.forecast->ranks;
  switch (ground.rules.objective) {
    case ResizeObjective::efficiency:
      return 1e3 / step_ms / (static_cast<double>(ranks) * ground.one_rank_per_s);
    case ResizeObjective::deadline:
      return (ground.rules.deadline_s - ground.elapsed_s) / std::max(size.finish_s, 1e-3);
    case ResizeObjective::cost: return 3.6e6 / (price_per_hour(ground, ranks) * step_ms);
    case ResizeObjective::energy: return 1e6 / (power_w(ground, ranks) * step_ms);
    case ResizeObjective::throughput:
    case ResizeObjective::none: break;
  }
  return 1e3 / step_ms;
}

/// E[max(0, g)] of a normally distributed gain: expected improvement, as in Jones, Schonlau and Welch,
/// "Efficient global optimization of expensive black-box functions" (1998), section 4.
double expected_improvement(double mean, double deviation) {
  if (deviation <= 0) return std::max(0.0, mean);
  const double z = mean / deviation;
  const double density = std::exp(-z * z / 2) / std::sqrt(2 * std::numbers::pi);
  return mean * std::erfc(-z / std::numbers::sqrt2) / 2 + deviation * density;
}

/// What the ranks between the two sizes bring each, over one rank alone.
double marginal_efficiency(const ResizeGround& ground, std::int64_t ranks, double speed_gain) {
  const double present_per_s = 1e3 / ground.present->step_ms;
  return speed_gain * present_per_s / ground.one_rank_per_s / static_cast<double>(ranks - ground.facts.ranks);
}

/// Gains as parts of the present size's score. The errors of both forecasts count, and are taken for
/// independent.
void compare_with_present(const ResizeGround& ground, double present_score, ScoredSize& size) {
  const SizeForecast& there = *size.forecast;
  const SizeForecast& here = *ground.present;
  ResizeCandidate& shown = size.shown;
  if (there.ranks == here.ranks) return;
  const bool by_speed = ground.rules.objective == ResizeObjective::efficiency ||
                        ground.rules.objective == ResizeObjective::deadline;
  const double ratio = by_speed ? here.step_ms / there.step_ms : shown.score / present_score;
  const double worse =
      std::hypot(std::log(there.high_ms / there.step_ms), std::log(here.step_ms / here.low_ms));
  const double better =
      std::hypot(std::log(there.step_ms / there.low_ms), std::log(here.high_ms / here.step_ms));
  shown.gain = ratio - 1;
  shown.gain_low = ratio * std::exp(-worse) - 1;
  shown.gain_high = ratio * std::exp(better) - 1;
  const double speed_ratio = here.step_ms / there.step_ms;
  // At the bound that decides: that ranks which are added bring enough, and those given back too little.
  shown.marginal_efficiency = marginal_efficiency(ground, there.ranks, speed_ratio * std::exp(-worse) - 1);
  const double ranks_cost = ground.rules.objective == ResizeObjective::throughput
                                ? ground.rules.least_marginal_efficiency *
                                      static_cast<double>(there.ranks - here.ranks) * ground.one_rank_per_s *
                                      here.step_ms / 1e3
                                : 0;
  size.net_gain = shown.gain - ranks_cost;
  size.deviation = (shown.gain_high - shown.gain_low) / (2 * nine_of_ten);
  const double counted_s =
      std::clamp(ground.time_left_s - ground.lead_s(there.ranks), 0.0, ground.rules.horizon_s);
  shown.saves_s = counted_s * std::max(0.0, shown.gain_low) / (1 + std::max(0.0, shown.gain_low));
}

std::string formatted(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

}  // namespace

std::string ranks_text(std::int64_t ranks) {
  return concat(ranks, ranks == 1 ? " rank" : " ranks");
}

std::string percent(double part) {
  return formatted(std::abs(part) < 0.0995 ? "%.2g%%" : "%.0f%%", 100 * part);
}

std::string seconds_text(double seconds) {
  return formatted(seconds < 99.5 ? "%.2g s" : "%.0f s", seconds);
}

std::string ms_text(double ms) {
  return formatted(ms < 999.5 ? "%.3g ms" : "%.0f ms", ms);
}

const ScoredSize& best_known(const std::vector<ScoredSize>& sizes) {
  const ScoredSize* best = nullptr;
  for (const ScoredSize& size : sizes)
    if (size.forecast->visited && (best == nullptr || size.net_gain > best->net_gain)) best = &size;
  PACELINE_ASSERT(best != nullptr, "sizes are compared once the present one was measured");
  return *best;
}

std::vector<ScoredSize> score_sizes(const ResizeGround& ground) {
  std::vector<ScoredSize> sizes;
  const ResizeFacts& facts = ground.facts;
  double present_score = 1;
  for (const SizeForecast& forecast : facts.forecasts) {
    const bool in_range = forecast.ranks >= facts.min_ranks && forecast.ranks <= facts.max_ranks;
    if (!in_range && forecast.ranks != facts.ranks) continue;
    ScoredSize size;
    size.forecast = &forecast;
    size.shown.ranks = forecast.ranks;
    size.shown.step_ms = forecast.step_ms;
    size.finish_s = finish_s(ground, forecast.ranks, forecast.high_ms);
    size.mean_finish_s = finish_s(ground, forecast.ranks, forecast.step_ms);
    size.shown.score = score_of(ground, size);
    if (forecast.ranks == facts.ranks) present_score = size.shown.score;
    sizes.push_back(size);
  }
  for (ScoredSize& size : sizes) compare_with_present(ground, present_score, size);
  const ScoredSize& known = best_known(sizes);
  for (ScoredSize& size : sizes)
    size.shown.expected_improvement =
        size.forecast->visited ? 0 : expected_improvement(size.net_gain - known.net_gain, size.deviation);
  return sizes;
}

bool is_reversal(const ResizeState& state, std::int64_t ranks) {
  return std::ranges::any_of(state.resizes, [&](const ResizeState::Departure& departure) {
    return departure.from == ranks && departure.to != ranks && !departure.exploring;
  });
}

double needed_gain(const ResizeGround& ground, std::int64_t ranks) {
  constexpr std::int64_t most_doublings = 4;
  const std::int64_t doublings =
      is_reversal(ground.state, ranks) ? std::min(ground.state.reversals + 1, most_doublings) : 0;
  const bool late = ground.state.made >= ground.rules.most_resizes;
  const double least = late ? ground.rules.late_gain : ground.rules.least_gain;
  return std::max(least, ground.rules.least_gain * static_cast<double>(std::int64_t{1} << doublings));
}

}  // namespace paceline
