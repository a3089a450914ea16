#include "scaling/model.hpp"

#include <algorithm>
#include <cmath>

#include "allreduce/statistics.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

constexpr double p90_deviations = 1.2816;  // of a normal distribution, above its median
// With fewer, what is left without one says nothing of how the time changes with the ranks.
constexpr std::size_t least_sizes_to_foretell = 3;

template <class Value>
double median_of(const std::vector<RoundFigures>& rounds, Value value) {
  std::vector<double> values;
  for (const RoundFigures& round : rounds) values.push_back(value(round.together));
  return median(std::move(values));
}

JobSize job_size(const TrainingSize& size) {
  return {.ranks = size.ranks, .nodes = 1, .samples_per_step = size.batch};
}

Range range(const Estimate& estimate) {
  return {estimate.value, estimate.low, estimate.high};
}

/// Of all sizes but one; of none where a size is refused.
Result<EfficiencyModel> fitted(const Measurements& measurements, const ModelSettings& settings,
                               const std::optional<TrainingSize>& left_out) {
  EfficiencyModel model({.grain_samples = settings.grain_samples});
  for (const auto& [size, rounds] : measurements) {
    if (size == left_out) continue;
    PACELINE_TRY(model.observe(observation_of(size, rounds, settings.steps)));
  }
  return model;
}

/// Relative to a rank's throughput at the least ranks, as the row's own.
Result<Range> efficiency_of(const EfficiencyModel& model, ScalingMode mode, const TrainingSize& size,
                            const TrainingSize& base) {
  const auto ask = [&](const TrainingSize& asked) -> Result<Estimate> {
    if (mode == ScalingMode::weak) return model.weak_efficiency(job_size(asked));
    PACELINE_ASSIGN(const SizePrediction prediction, model.predict(job_size(asked)));
    return prediction.efficiency;
  };
  PACELINE_ASSIGN(const Estimate here, ask(size));
  PACELINE_ASSIGN(const Estimate there, ask(base));
  return Range{here.value / there.value, here.low / there.value, here.high / there.value};
}

Status predict(const EfficiencyModel& model, ScalingRow& row, const TrainingSize& base) {
  PACELINE_ASSIGN(const SizePrediction prediction, model.predict(job_size(row.size)));
  PACELINE_ASSIGN(const Range efficiency, efficiency_of(model, row.mode, row.size, base));
  row.predicted_step_ms = range(prediction.step_ms);
  row.predicted_efficiency = efficiency;
  if (!row.simulated) return {};
  row.step_ms = *row.predicted_step_ms;
  row.samples_per_second = range(prediction.samples_per_second);
  row.efficiency = efficiency;
  return {};
}

Status foretell(ScalingRow& row, const Measurements& measurements, const ModelSettings& settings) {
  if (row.simulated || measurements.size() < least_sizes_to_foretell) return {};
  PACELINE_ASSIGN(const EfficiencyModel model, fitted(measurements, settings, row.size));
  PACELINE_ASSIGN(const SizePrediction prediction, model.predict(job_size(row.size)));
  row.foretold_step_ms = range(prediction.step_ms);
  return {};
}

/// Rows of a mode beyond its last measured one, with nothing in them yet.
std::vector<ScalingRow> beyond(const ScalingRow& last, std::int64_t simulate) {
  std::vector<ScalingRow> rows;
  for (std::int64_t ranks = last.size.ranks; ranks < simulate;) {
    ranks = std::min(2 * ranks, simulate);
    ScalingRow row{.mode = last.mode, .size = {ranks, last.size.batch}, .simulated = true};
    if (last.mode == ScalingMode::weak) row.size.batch = last.size.batch / last.size.ranks * ranks;
    rows.push_back(std::move(row));
  }
  return rows;
}

Status fill(std::vector<ScalingRow>& rows, const EfficiencyModel& model, const Measurements& measurements,
            const ModelSettings& settings) {
  std::vector<ScalingRow> all;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    all.push_back(rows[i]);
    if (i + 1 == rows.size() || rows[i + 1].mode != rows[i].mode)
      for (ScalingRow& row : beyond(rows[i], settings.simulate)) all.push_back(std::move(row));
  }
  TrainingSize base;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (i == 0 || all[i].mode != all[i - 1].mode) base = all[i].size;
    PACELINE_TRY(predict(model, all[i], base));
    PACELINE_TRY(foretell(all[i], measurements, settings));
  }
  rows = std::move(all);
  return {};
}

/// Of a mean of several rounds; 0 of one round, whose error nobody knows.
double relative_error(const std::vector<double>& values) {
  if (values.size() < 2) return 0;
  const auto count = static_cast<double>(values.size());
  double mean = 0, squares = 0;
  for (const double value : values) mean += value / count;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return std::sqrt(squares / (count - 1) / count) / mean;
}

}  // namespace

SizeObservation observation_of(const TrainingSize& size, const std::vector<RoundFigures>& rounds,
                               std::int64_t steps) {
  const bool has_parts =
      std::ranges::all_of(rounds, [](const RoundFigures& round) { return round.together.parts.has_value(); });
  SizeObservation seen;
  seen.size = job_size(size);
  seen.steps = steps * std::ssize(rounds);
  seen.step_ms = median_of(rounds, [](const TrainingFigures& run) { return run.step_ms; });
  seen.step_deviation_ms = median_of(rounds, [](const TrainingFigures& run) {
    return std::max(0.0, run.step_p90_ms - run.step_ms) / p90_deviations;
  });
  const double exposed = median_of(
      rounds, [&](const TrainingFigures& run) { return has_parts ? run.least_reduce_ms : run.exposed_ms; });
  // Without the parts, the optimizer counts as computing.
  const double compute = median_of(rounds, [&](const TrainingFigures& run) {
    return has_parts ? run.slowest_compute_ms : run.step_ms - run.exposed_ms - run.data_wait_ms;
  });
  // Medians of parts may add up to a little more than the median of the whole.
  seen.exposed_reduce_ms = std::min(exposed, seen.step_ms);
  seen.compute_ms = std::clamp(compute, 0.0, seen.step_ms - seen.exposed_reduce_ms);
  return seen;
}

ScalingModel fit_model(std::vector<ScalingRow>& rows, const Measurements& measurements,
                       const ModelSettings& settings) {
  ScalingModel model;
  std::vector<ScalabilityPoint> points;
  for (const ScalingRow& row : rows)
    if (row.mode == ScalingMode::strong)
      points.push_back({row.size.ranks, row.samples_per_second.value, relative_error(row.step_ms_by_round)});
  Result<ScalabilityLaw> law = fit_scalability_law(points);
  if (law.ok())
    model.law = *law;
  else
    model.no_law = law.error().message;
  const Status filled = [&]() -> Status {
    PACELINE_ASSIGN(const EfficiencyModel step, fitted(measurements, settings, std::nullopt));
    PACELINE_ASSIGN(model.step, step.coefficients());
    return fill(rows, step, measurements, settings);
  }();
  if (!filled.ok()) model.no_step = filled.error().message;
  return model;
}

}  // namespace paceline::bench
