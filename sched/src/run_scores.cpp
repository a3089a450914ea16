#include "paceline/sched/run_scores.hpp"

#include <cmath>
#include <cstddef>

namespace paceline {
namespace {

bool is_positive(double value) {
  return std::isfinite(value) && value > 0;
}

bool is_measured(const RunResult& run) {
  return is_positive(run.seconds) && is_positive(run.cost);
}

}  // namespace

ResourceEfficiency resource_efficiency(const RunTotals& totals) {
  ResourceEfficiency efficiency;
  if (totals.useful_samples < 0) return efficiency;
  const auto samples = static_cast<double>(totals.useful_samples);
  if (totals.energy_j && is_positive(*totals.energy_j))
    efficiency.samples_per_joule = samples / *totals.energy_j;
  if (is_positive(totals.memory_byte_s)) efficiency.samples_per_byte_s = samples / totals.memory_byte_s;
  return efficiency;
}

double held_byte_s(std::span<const MemorySample> samples) {
  double held = 0;
  for (std::size_t i = 1; i < samples.size(); ++i) {
    const double seconds = samples[i].time_s - samples[i - 1].time_s;
    if (is_positive(seconds) && is_positive(samples[i - 1].bytes)) held += seconds * samples[i - 1].bytes;
  }
  return held;
}

std::optional<double> performance_score(const RunResult& run, const RunResult& reference) {
  if (!reference.completed || !is_measured(reference)) return std::nullopt;
  if (!run.completed) return 0.0;
  if (!is_measured(run)) return std::nullopt;
  if (run.seconds > latest_end * reference.seconds) return 0.0;
  return std::sqrt(reference.seconds / run.seconds * (reference.cost / run.cost));
}

std::optional<double> overall_score(std::span<const double> run_scores) {
  if (run_scores.empty()) return std::nullopt;
  double logarithms = 0;
  std::size_t successes = 0;
  for (const double score : run_scores) {
    if (!is_positive(score)) continue;
    logarithms += std::log(score);
    ++successes;
  }
  if (successes == 0) return 0.0;
  const auto good = static_cast<double>(successes);
  return good / static_cast<double>(run_scores.size()) * std::exp(logarithms / good);
}

}  // namespace paceline
