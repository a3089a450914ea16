#include "paceline/sched/efficiency_model.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "efficiency_fit.hpp"
#include "paceline/base/assert.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr double longest_ms = 31.0 * 24 * 3600 * 1e3;  ///< of a step: a month
constexpr double parts_tolerance = 1.1;                ///< compute and reduction over the step, as measured
/// Of a single step, relative, before steps tell: worth as much as so many of them.
constexpr double first_deviation = 0.1;
constexpr double first_deviation_steps = 4;
constexpr double least_surprise = 3;  ///< in standard errors: a size that differs by more has changed
constexpr std::size_t most_sizes = 32;

double square(double x) noexcept {
  return x * x;
}

Status check(const SizeObservation& seen) {
  const auto refuse = [&](const auto&... why) {
    return Error(ErrorCode::invalid_argument,
                 concat("observation of ", describe(seen.size), " ignored: ", why...));
  };
  if (const Status sized = check_size(seen.size); !sized.ok()) return refuse(sized.error().message);
  if (seen.steps < 1) return refuse("it is the mean of ", seen.steps, " steps");
  const struct {
    const char* name;
    double value;
  } times[] = {{"compute_ms", seen.compute_ms},
               {"exposed_reduce_ms", seen.exposed_reduce_ms},
               {"step_ms", seen.step_ms},
               {"step_deviation_ms", seen.step_deviation_ms}};
  for (const auto& [name, value] : times) {
    if (!std::isfinite(value)) return refuse(name, " is not a number");
    if (value < 0) return refuse(name, " is negative (", value, ")");
    if (value > longest_ms) return refuse(name, " is more than a month (", value, ")");
  }
  if (seen.step_ms <= 0) return refuse("step_ms is 0");
  if (seen.compute_ms <= 0) return refuse("compute_ms is 0");
  if (seen.compute_ms + seen.exposed_reduce_ms > parts_tolerance * seen.step_ms)
    return refuse("its parts take ", seen.compute_ms + seen.exposed_reduce_ms, " ms, the step ",
                  seen.step_ms);
  return {};
}

/// Of the mean, relative.
double variance_of(const SizeObservation& seen) {
  const auto steps = static_cast<double>(seen.steps);
  const double measured = steps * square(seen.step_deviation_ms / seen.step_ms);
  const double assumed = first_deviation_steps * square(first_deviation);
  return (measured + assumed) / (steps + first_deviation_steps) / steps;
}

/// The median and the middle `confidence` of values that are equally likely.
Estimate estimate_of(std::vector<double> values, double confidence) {
  std::sort(values.begin(), values.end());
  const auto at = [&](double part) {
    const double place = part * static_cast<double>(values.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const std::size_t above = std::min(below + 1, values.size() - 1);
    return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
  };
  return {at(0.5), at((1 - confidence) / 2), at((1 + confidence) / 2)};
}

double doublings(double a, double b) noexcept {
  return std::abs(std::log2(a / b));
}

double doublings_between(const JobSize& a, const JobSize& b) noexcept {
  const auto share = [](const JobSize& size) {
    return static_cast<double>(size.samples_per_step) / static_cast<double>(size.ranks);
  };
  return std::max({doublings(static_cast<double>(a.ranks), static_cast<double>(b.ranks)),
                   doublings(static_cast<double>(a.nodes), static_cast<double>(b.nodes)),
                   doublings(share(a), share(b))});
}

}  // namespace

EfficiencyModel::EfficiencyModel(const EfficiencyRules& rules) : rules_(rules) {
  PACELINE_ASSERT(rules.confidence > 0 && rules.confidence < 1, "a confidence is a probability");
  PACELINE_ASSERT(rules.grain_samples >= 1, "a grain has a sample");
}

Status EfficiencyModel::observe(const SizeObservation& observation) {
  PACELINE_TRY(check(observation));
  training_s_ += static_cast<double>(observation.steps) * observation.step_ms / 1e3;
  const double variance = variance_of(observation);
  const auto [place, is_new] = visits_.try_emplace(observation.size);
  Visit& visit = place->second;
  if (is_new) {
    visit = {observation.compute_ms, observation.exposed_reduce_ms, observation.step_ms, variance, 0, 0};
  } else {
    merge(observation, variance, visit);
  }
  visit.training_s = training_s_;
  visit.slowdown = slowdown_;
  if (visits_.size() > most_sizes) forget_least_known();
  fit();
  return {};
}

/// A local level model (Harvey, "Forecasting, structural time series models and the Kalman filter", 1989,
/// section 4.1), but that a surprise is taken for a change of the level.
void EfficiencyModel::merge(const SizeObservation& observation, double variance, Visit& visit) {
  visit.variance += square(rules_.drift_per_hour) * (training_s_ - visit.training_s) / 3600;
  const double change = std::log(observation.step_ms / visit.step_ms);
  const double expected = visit.variance + variance + square(rules_.least_error);
  if (square(change) > square(least_surprise) * expected) visit.variance += square(change) - expected;
  const double gain = visit.variance / (visit.variance + variance);
  visit.variance *= 1 - gain;
  const auto follow = [&](double& value, double seen) { value += gain * (seen - value); };
  const double before_ms = visit.step_ms;
  follow(visit.compute_ms, observation.compute_ms);
  follow(visit.exposed_ms, observation.exposed_reduce_ms);
  follow(visit.step_ms, observation.step_ms);
  slowdown_ += std::log(visit.step_ms / before_ms);
}

double EfficiencyModel::error_of(const Visit& visit) const noexcept {
  return std::sqrt(visit.variance + square(rules_.least_error) + square(slowdown_ - visit.slowdown) +
                   square(rules_.drift_per_hour) * (training_s_ - visit.training_s) / 3600);
}

void EfficiencyModel::forget_least_known() {
  visits_.erase(std::max_element(visits_.begin(), visits_.end(), [&](const auto& a, const auto& b) {
    return error_of(a.second) < error_of(b.second);
  }));
}

void EfficiencyModel::fit() {
  std::vector<FitPoint> points;
  for (const auto& [size, visit] : visits_)
    points.push_back({size, visit.compute_ms, visit.exposed_ms, visit.step_ms, error_of(visit)});
  laws_ = fit_step_laws(points, rules_.grain_samples);
}

Status EfficiencyModel::can_predict(const JobSize& size) const {
  PACELINE_TRY(check_size(size));
  if (visits_.empty())
    return Error(ErrorCode::not_found,
                 concat(describe(size), ": nothing can be predicted before a size was observed"));
  return {};
}

double EfficiencyModel::doublings_away(const JobSize& size) const {
  double least = std::numeric_limits<double>::infinity();
  for (const auto& [visited, visit] : visits_) least = std::min(least, doublings_between(size, visited));
  return least;
}

/// By each law.
std::vector<double> EfficiencyModel::step_times(const JobSize& size) const {
  const double form_error = rules_.form_error * doublings_away(size);
  std::vector<double> times;
  for (const auto& [law, sigmas] : laws_)
    times.push_back(law.step_ms(size, rules_.grain_samples) * std::exp(form_error * sigmas));
  return times;
}

Estimate EfficiencyModel::estimate(std::vector<double> values) const {
  return estimate_of(std::move(values), rules_.confidence);
}

Result<SizePrediction> EfficiencyModel::predict(const JobSize& size) const {
  PACELINE_TRY(can_predict(size));
  const std::vector<double> steps = step_times(size);
  const std::vector<double> alone = step_times({1, 1, size.samples_per_step});
  std::vector<double> compute, exposed, throughput, efficiency;
  for (std::size_t i = 0; i < laws_.size(); ++i) {
    compute.push_back(laws_[i].law.compute_ms(size, rules_.grain_samples));
    exposed.push_back(laws_[i].law.exposed_ms(size, rules_.grain_samples));
    throughput.push_back(static_cast<double>(size.samples_per_step) * 1e3 / steps[i]);
    efficiency.push_back(alone[i] / steps[i] / static_cast<double>(size.ranks));
  }
  SizePrediction prediction;
  prediction.size = size;
  prediction.step_ms = estimate(steps);
  prediction.compute_ms = estimate(std::move(compute));
  prediction.exposed_ms = estimate(std::move(exposed));
  prediction.samples_per_second = estimate(std::move(throughput));
  prediction.efficiency = estimate(std::move(efficiency));
  prediction.visited = visits_.contains(size);
  return prediction;
}

Result<std::vector<SizePrediction>> EfficiencyModel::predict(const std::vector<JobSize>& sizes) const {
  std::vector<SizePrediction> predictions;
  for (const JobSize& size : sizes) {
    PACELINE_ASSIGN(auto prediction, predict(size));
    predictions.push_back(prediction);
  }
  return predictions;
}

Result<Estimate> EfficiencyModel::marginal_efficiency(const JobSize& from, const JobSize& to) const {
  PACELINE_TRY(can_predict(from));
  PACELINE_TRY(can_predict(to));
  if (to.ranks <= from.ranks)
    return Error(ErrorCode::invalid_argument,
                 concat("from ", describe(from), " to ", describe(to), ": the second must have more ranks"));
  const std::vector<double> before = step_times(from), after = step_times(to);
  const std::vector<double> alone = step_times({1, 1, from.samples_per_step});
  const double batches =
      static_cast<double>(to.samples_per_step) / static_cast<double>(from.samples_per_step);
  std::vector<double> gains;
  for (std::size_t i = 0; i < laws_.size(); ++i)
    gains.push_back((batches / after[i] - 1 / before[i]) * alone[i] /
                    static_cast<double>(to.ranks - from.ranks));
  return estimate(std::move(gains));
}

Result<Estimate> EfficiencyModel::weak_efficiency(const JobSize& size) const {
  PACELINE_TRY(can_predict(size));
  const JobSize part{1, 1, (size.samples_per_step + size.ranks - 1) / size.ranks};
  const std::vector<double> alone = step_times(part), together = step_times(size);
  std::vector<double> efficiencies;
  for (std::size_t i = 0; i < laws_.size(); ++i) efficiencies.push_back(alone[i] / together[i]);
  return estimate(std::move(efficiencies));
}

Result<StepCoefficients> EfficiencyModel::coefficients() const {
  if (visits_.empty())
    return Error(ErrorCode::not_found, "there are no coefficients before a size was observed");
  const auto of = [&](double StepLaw::*coefficient) {
    std::vector<double> values;
    for (const LikelyLaw& each : laws_) values.push_back(each.law.*coefficient);
    return estimate(std::move(values));
  };
  StepCoefficients found;
  found.fixed_ms = of(&StepLaw::fixed_ms);
  found.ms_per_sample = of(&StepLaw::ms_per_sample);
  found.rest_ms = of(&StepLaw::rest_ms);
  found.alpha_local_ms = of(&StepLaw::alpha_local_ms);
  found.beta_local_ms = of(&StepLaw::beta_local_ms);
  found.alpha_node_ms = of(&StepLaw::alpha_node_ms);
  found.beta_node_ms = of(&StepLaw::beta_node_ms);
  found.moving = of(&StepLaw::moving);
  found.gamma = of(&StepLaw::gamma);
  found.law = laws_.front().law;
  for (const auto& [size, visit] : visits_) {
    found.local_measured = found.local_measured || size.ranks > size.nodes;
    found.node_measured = found.node_measured || size.nodes > 1;
  }
  return found;
}

}  // namespace paceline
