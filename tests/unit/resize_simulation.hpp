#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <random>
#include <vector>

#include "paceline/sched/resize_policy.hpp"

// A job under a ResizePolicy, in simulated time: a scaling law with noise, and forecasts from what was
// measured at the sizes that the job has had.

namespace paceline::resizing {

/// What a step takes, and its part that computes.
struct StepTime {
  double compute_ms = 0;
  double step_ms = 0;
};
using ScalingLaw = std::function<StepTime(std::int64_t ranks)>;

/// Forecasts by an ensemble of simple laws, each weighted by how well it explains what was measured. Jobs are
/// simulated with other laws than these.
class Forecaster {
 public:
  explicit Forecaster(std::int64_t most_ranks) {
    for (const double fixed : {0.0, 0.05, 0.15, 0.4})
      for (double sync = 0.001; sync < 3; sync *= 1.2)
        for (const double linear : {0.0, 0.03, 0.1, 0.25, 0.5, 1.0})
          for (const double gamma : {1.0, 1.5, 2.0, 4.0}) add(most_ranks, fixed, sync, linear, gamma);
  }

  /// The means of `steps` more steps.
  void measure(std::int64_t ranks, const StepTime& mean, std::int64_t steps) {
    Visit& visit = visits_[ranks];
    visit.steps += steps;
    const double part = static_cast<double>(steps) / static_cast<double>(visit.steps);
    visit.mean.compute_ms += (mean.compute_ms - visit.mean.compute_ms) * part;
    visit.mean.step_ms += (mean.step_ms - visit.mean.step_ms) * part;
  }

  [[nodiscard]] std::vector<SizeForecast> forecast(const std::vector<std::int64_t>& sizes) const {
    std::vector<SizeForecast> forecasts;
    if (visits_.empty()) return forecasts;
    const std::vector<Weighted> laws = fit();
    for (const std::int64_t ranks : sizes) {
      if (const auto visit = visits_.find(ranks); visit != visits_.end()) {
        const double ms = visit->second.mean.step_ms, error = 1.645 * error_of(visit->second);
        forecasts.push_back({ranks, ms, ms * (1 - error), ms * (1 + error), true});
        continue;
      }
      std::vector<std::pair<double, double>> values;  // ms, weight
      for (const Weighted& law : laws)
        values.emplace_back(std::exp(law.log_scale + (*law.curve)[static_cast<std::size_t>(ranks)].log_step),
                            law.weight);
      std::ranges::sort(values);
      forecasts.push_back({ranks, quantile(values, 0.5), quantile(values, 0.05) * 0.98,
                           quantile(values, 0.95) * 1.02, false});
    }
    return forecasts;
  }

 private:
  struct Point {
    double log_compute = 0, log_step = 0;
  };
  using Curve = std::vector<Point>;  // by ranks
  struct Weighted {
    const Curve* curve;
    double log_scale, weight;
  };
  struct Visit {
    StepTime mean;
    std::int64_t steps = 0;
  };

  /// One rank alone takes 1. Of its synchronisation the part `linear` grows with the ranks, the rest is a
  /// ring's.
  void add(std::int64_t most_ranks, double fixed, double sync, double linear, double gamma) {
    Curve curve(static_cast<std::size_t>(most_ranks) + 1);
    for (std::int64_t ranks = 1; ranks <= most_ranks; ++ranks) {
      const auto count = static_cast<double>(ranks);
      const double compute = fixed + (1 - fixed) / count;
      const double waits = sync * ((1 - linear) * 2 * (count - 1) / count + linear * (count - 1));
      const double step = std::pow(std::pow(compute, gamma) + std::pow(waits, gamma), 1 / gamma);
      curve[static_cast<std::size_t>(ranks)] = {std::log(compute), std::log(step)};
    }
    curves_.push_back(std::move(curve));
  }

  static double error_of(const Visit& visit) {
    return std::hypot(0.01, 0.06 / std::sqrt(static_cast<double>(visit.steps)));
  }

  /// The laws that explain what was measured not much worse than the best one.
  [[nodiscard]] std::vector<Weighted> fit() const {
    constexpr double least_weight = 1e-4, law_error = 0.02;
    std::vector<Weighted> laws;
    double least_misfit = 1e300;
    for (const Curve& curve : curves_) {
      double sum = 0, squares = 0, weights = 0;
      for (const auto& [ranks, visit] : visits_) {
        const Point& point = curve[static_cast<std::size_t>(ranks)];
        const double weight = 1 / (law_error * law_error + std::pow(error_of(visit), 2));
        for (const double residual : {std::log(visit.mean.step_ms) - point.log_step,
                                      std::log(visit.mean.compute_ms) - point.log_compute}) {
          sum += weight * residual;
          squares += weight * residual * residual;
          weights += weight;
        }
      }
      const double misfit = squares - sum * sum / weights;
      least_misfit = std::min(least_misfit, misfit);
      laws.push_back({&curve, sum / weights, misfit});
    }
    for (Weighted& law : laws) law.weight = std::exp((least_misfit - law.weight) / 2);
    std::erase_if(laws, [](const Weighted& law) { return law.weight < least_weight; });
    return laws;
  }

  static double quantile(const std::vector<std::pair<double, double>>& values, double part) {
    double total = 0, sum = 0;
    for (const auto& [ms, weight] : values) total += weight;
    for (const auto& [ms, weight] : values)
      if ((sum += weight) >= part * total) return ms;
    return values.back().first;
  }

  std::vector<Curve> curves_;
  std::map<std::int64_t, Visit> visits_;
};

struct Setting {
  ScalingLaw law{};
  ResizeRules rules{};
  std::int64_t ranks = 1, min_ranks = 1, max_ranks = 8, places = 8;
  bool can_ask = false;
  double hours = 2;
  std::int64_t steps = 1'000'000'000;
  double step_noise = 0.05;  ///< standard deviation of one step
  double slow_noise = 0;     ///< of what all steps of a minute or so have in common
  double pause_s = 0.3, lead_s = 20;
  std::uint64_t seed = 1;
  std::vector<NodeKind> kinds{};
};

struct Outcome {
  std::vector<std::int64_t> sizes;  ///< that the job had, in order
  std::int64_t ranks = 0;           ///< at the end
  double last_resize_s = 0;
  double end_s = 0;
  bool finished = false;
  std::vector<ResizeDecision> news{};  ///< what a journal would have
  [[nodiscard]] std::int64_t resizes() const { return static_cast<std::int64_t>(sizes.size()) - 1; }
};

/// May change what the policy is told in a second.
using Meddle = std::function<void(double now_s, ResizeFacts& facts)>;
/// Sees every decision.
using Watch = std::function<void(const ResizeDecision& decision)>;

template <class AnyForecaster = Forecaster>
Outcome simulate(const Setting& setting, const Meddle& meddle = {}, const Watch& watch = {}) {
  AnyForecaster forecaster(setting.max_ranks);
  ResizePolicy policy(setting.rules);
  std::mt19937_64 random(setting.seed);
  std::normal_distribution<double> normal;
  Outcome outcome{.sizes = {setting.ranks}, .ranks = setting.ranks};
  std::int64_t wish = setting.ranks, step = 0;
  double switch_at_s = -1, busy_until_s = 2, drift = 0, begun = 0;
  std::vector<SizeForecast> forecasts;
  for (double now_s = 0; now_s < setting.hours * 3600; now_s += 1) {
    drift = 0.98 * drift + std::sqrt(1 - 0.98 * 0.98) * setting.slow_noise * normal(random);
    if (switch_at_s >= 0 && now_s >= switch_at_s) {
      outcome.ranks = std::min(wish, setting.can_ask ? setting.max_ranks : setting.places);
      outcome.sizes.push_back(outcome.ranks);
      outcome.last_resize_s = now_s;
      switch_at_s = -1;
      busy_until_s = now_s + 2;
    }
    if (now_s >= busy_until_s) {
      StepTime mean = setting.law(outcome.ranks);
      begun += 1e3 / (mean.step_ms * std::exp(drift));
      const auto steps = static_cast<std::int64_t>(begun);
      begun -= static_cast<double>(steps);
      if (steps > 0) {
        const double noise = setting.step_noise / std::sqrt(static_cast<double>(steps)) * normal(random);
        mean.step_ms *= std::exp(drift) * (1 + noise);
        mean.compute_ms *= std::exp(drift) * (1 + noise);
        forecaster.measure(outcome.ranks, mean, steps);
      }
      step += steps;
      if (step >= setting.steps) {
        outcome.finished = true;
        outcome.end_s = now_s;
        return outcome;
      }
    }
    const bool young = now_s - outcome.last_resize_s < 120;
    const bool fresh = std::fmod(now_s, young ? 5 : 60) == 0;
    if (fresh)
      forecasts = forecaster.forecast(candidate_sizes(setting.min_ranks, setting.max_ranks, outcome.ranks));
    ResizeFacts facts{.ranks = outcome.ranks,
                      .wish = wish,
                      .min_ranks = setting.min_ranks,
                      .max_ranks = setting.max_ranks,
                      .places = setting.places,
                      .can_ask = setting.can_ask,
                      .rank_lead_s = setting.lead_s,
                      .pause_s = setting.pause_s,
                      .step = step,
                      .steps_left = setting.steps - step,
                      .elapsed_s = now_s,
                      .changing = switch_at_s >= 0,
                      .forecasts = forecasts,
                      .kinds = setting.kinds};
    if (meddle) meddle(now_s, facts);
    const ResizeDecision decision = policy.decide(Instant(std::chrono::seconds(std::int64_t(now_s))), facts);
    if (watch) watch(decision);
    if (outcome.news.empty() || is_news(outcome.news.back(), decision)) outcome.news.push_back(decision);
    if (decision.verdict == ResizeVerdict::hold) continue;
    wish = decision.target;
    switch_at_s = now_s + (decision.target > setting.places ? setting.lead_s : 1);
  }
  outcome.end_s = setting.hours * 3600;
  return outcome;
}

}  // namespace paceline::resizing
