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

/// What a step really takes, by ranks.
using ScalingLaw = std::function<double(std::int64_t ranks)>;

/// Forecasts by an ensemble of simple laws, each weighted by how well it explains what was measured. They
/// are not the laws that jobs are simulated with.
class Forecaster {
 public:
  Forecaster() {
    for (const double fixed : {0.0, 0.03, 0.1, 0.25, 0.5})
      for (double sync = 0.001; sync < 1.5; sync *= 1.7)
        for (const double power : {0.0, 0.5, 1.0})
          for (const double gamma : {1.0, 3.0}) shapes_.push_back({fixed, sync, power, gamma});
  }

  /// The mean of `steps` more steps.
  void measure(std::int64_t ranks, double mean_ms, std::int64_t steps) {
    Visit& visit = visits_[ranks];
    visit.steps += steps;
    visit.mean_ms +=
        (mean_ms - visit.mean_ms) * static_cast<double>(steps) / static_cast<double>(visit.steps);
  }

  [[nodiscard]] std::vector<SizeForecast> forecast(const std::vector<std::int64_t>& sizes) const {
    std::vector<SizeForecast> forecasts;
    if (visits_.empty()) return forecasts;
    const std::vector<Weighted> laws = fit();
    for (const std::int64_t ranks : sizes) {
      if (const auto visit = visits_.find(ranks); visit != visits_.end()) {
        const double ms = visit->second.mean_ms, error = 1.645 * error_of(visit->second);
        forecasts.push_back({ranks, ms, ms * (1 - error), ms * (1 + error), true});
        continue;
      }
      std::vector<std::pair<double, double>> values;  // ms, weight
      for (const Weighted& law : laws) values.emplace_back(law.scale * law.shape->at(ranks), law.weight);
      std::ranges::sort(values);
      forecasts.push_back({ranks, quantile(values, 0.5), quantile(values, 0.05) * 0.98,
                           quantile(values, 0.95) * 1.02, false});
    }
    return forecasts;
  }

 private:
  struct Shape {
    double fixed, sync, power, gamma;
    [[nodiscard]] double at(std::int64_t ranks) const {
      const auto count = static_cast<double>(ranks);
      const double compute = fixed + (1 - fixed) / count;
      if (ranks == 1) return compute;
      return std::pow(std::pow(compute, gamma) + std::pow(sync * std::pow(count - 1, power), gamma),
                      1 / gamma);
    }
  };
  struct Weighted {
    const Shape* shape;
    double scale, weight;
  };
  struct Visit {
    double mean_ms = 0;
    std::int64_t steps = 0;
  };

  static double error_of(const Visit& visit) {
    return std::hypot(0.005, 0.06 / std::sqrt(static_cast<double>(visit.steps)));
  }

  [[nodiscard]] std::vector<Weighted> fit() const {
    std::vector<Weighted> laws;
    for (const Shape& shape : shapes_) {
      double log_scale = 0;
      for (const auto& [ranks, visit] : visits_) log_scale += std::log(visit.mean_ms / shape.at(ranks));
      log_scale /= static_cast<double>(visits_.size());
      double misfit = 0;
      for (const auto& [ranks, visit] : visits_) {
        const double residual = std::log(visit.mean_ms / shape.at(ranks)) - log_scale;
        const double error = std::hypot(0.02, error_of(visit));
        misfit += residual * residual / (error * error);
      }
      laws.push_back({&shape, std::exp(log_scale), std::exp(-misfit / 2) + 1e-30});
    }
    return laws;
  }

  static double quantile(const std::vector<std::pair<double, double>>& values, double part) {
    double total = 0, sum = 0;
    for (const auto& [ms, weight] : values) total += weight;
    for (const auto& [ms, weight] : values)
      if ((sum += weight) >= part * total) return ms;
    return values.back().first;
  }

  std::vector<Shape> shapes_;
  std::map<std::int64_t, Visit> visits_;
};

struct Setting {
  ScalingLaw law;
  ResizeRules rules;
  std::int64_t ranks = 1, min_ranks = 1, max_ranks = 8, places = 8;
  bool can_ask = false;
  double hours = 2;
  std::int64_t steps = 1'000'000'000;
  double step_noise = 0.05;  ///< standard deviation of one step
  double slow_noise = 0;     ///< of what all steps of a minute or so have in common
  double pause_s = 0.3, lead_s = 20;
  std::uint64_t seed = 1;
  std::vector<NodeKind> kinds;
};

struct Outcome {
  std::vector<std::int64_t> sizes;  ///< that the job had, in order
  std::int64_t ranks = 0;           ///< at the end
  double last_resize_s = 0;
  double end_s = 0;
  bool finished = false;
  std::vector<ResizeDecision> news;  ///< what a journal would have
  [[nodiscard]] std::int64_t resizes() const { return static_cast<std::int64_t>(sizes.size()) - 1; }
};

/// May change what the policy is told in a second.
using Meddle = std::function<void(double now_s, ResizeFacts& facts)>;

inline Outcome simulate(const Setting& setting, const Meddle& meddle = {}) {
  Forecaster forecaster;
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
      const double mean_ms = setting.law(outcome.ranks) * std::exp(drift);
      begun += 1e3 / mean_ms;
      const auto steps = static_cast<std::int64_t>(begun);
      begun -= static_cast<double>(steps);
      if (steps > 0) {
        const double noise = setting.step_noise / std::sqrt(static_cast<double>(steps)) * normal(random);
        forecaster.measure(outcome.ranks, mean_ms * (1 + noise), steps);
      }
      step += steps;
      if (step >= setting.steps) {
        outcome.finished = true;
        outcome.end_s = now_s;
        return outcome;
      }
    }
    const bool fresh = now_s - outcome.last_resize_s < 300 || std::fmod(now_s, 30) == 0;
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
    if (outcome.news.empty() || is_news(outcome.news.back(), decision)) outcome.news.push_back(decision);
    if (decision.verdict == ResizeVerdict::hold) continue;
    wish = decision.target;
    switch_at_s = now_s + (decision.target > setting.places ? setting.lead_s : 1);
  }
  outcome.end_s = setting.hours * 3600;
  return outcome;
}

}  // namespace paceline::resizing
