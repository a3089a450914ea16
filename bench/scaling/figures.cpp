#include "scaling/figures.hpp"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "allreduce/statistics.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

using nlohmann::json;

constexpr double longest_ms = 1e9;  // eleven days

/// `group.key` as a time; nothing where it is not one.
std::optional<double> time_ms(const json& summary, const char* group, const char* key) {
  const auto outer = summary.find(group);
  if (outer == summary.end() || !outer->is_object()) return std::nullopt;
  const auto inner = outer->find(key);
  if (inner == outer->end() || !inner->is_number()) return std::nullopt;
  const double value = inner->get<double>();
  if (!(value >= 0 && value <= longest_ms)) return std::nullopt;
  return value;
}

template <class Value>
std::vector<double> each(const std::vector<RoundFigures>& rounds, Value value) {
  std::vector<double> values;
  for (const RoundFigures& round : rounds) values.push_back(value(round));
  return values;
}

double rate(const TrainingSize& size, double step_ms) {
  return static_cast<double>(size.batch) / step_ms * 1e3;
}
double rate_of_a_rank(const TrainingSize& size, double step_ms) {
  return rate(size, step_ms) / static_cast<double>(size.ranks);
}

/// The median of each part.
std::optional<StepParts> median_parts(const std::vector<RoundFigures>& rounds) {
  StepParts result;
  for (double StepParts::*part : {&StepParts::data, &StepParts::forward, &StepParts::backward,
                                  &StepParts::reduce, &StepParts::commit, &StepParts::optimizer}) {
    std::vector<double> values;
    for (const RoundFigures& round : rounds)
      if (round.together.parts) values.push_back((*round.together.parts).*part);
    if (values.empty()) return std::nullopt;
    result.*part = median(std::move(values));
  }
  return result;
}

ScalingRow row_of(ScalingMode mode, const TrainingSize& size, const std::vector<RoundFigures>& rounds,
                  const TrainingSize& base_size, const std::vector<RoundFigures>& base) {
  ScalingRow row{.mode = mode, .size = size, .step_ms = {}, .samples_per_second = {}, .efficiency = {}};
  row.step_ms_by_round = each(rounds, [](const RoundFigures& round) { return round.together.step_ms; });
  row.step_ms = range_of(row.step_ms_by_round);
  row.samples_per_second =
      range_of(each(rounds, [&](const RoundFigures& round) { return rate(size, round.together.step_ms); }));
  row.ceiling_step_ms =
      range_of(each(rounds, [](const RoundFigures& round) { return round.ceiling_step_ms; }));
  row.fraction_of_ceiling = range_of(
      each(rounds, [](const RoundFigures& round) { return round.ceiling_step_ms / round.together.step_ms; }));
  row.exposed_ms = median(each(rounds, [](const RoundFigures& round) { return round.together.exposed_ms; }));
  std::vector<double> efficiency, of_ceiling;
  for (std::size_t i = 0; i < rounds.size(); ++i) {
    const double of_base = rate_of_a_rank(base_size, base[i].together.step_ms);
    efficiency.push_back(rate_of_a_rank(size, rounds[i].together.step_ms) / of_base);
    of_ceiling.push_back(rate_of_a_rank(size, rounds[i].ceiling_step_ms) / of_base);
  }
  row.efficiency = range_of(efficiency);
  row.ceiling_efficiency = range_of(of_ceiling);
  row.parts = median_parts(rounds);
  return row;
}

}  // namespace

Result<TrainingFigures> parse_summary(const std::string& text) {
  const json summary = json::parse(text, nullptr, /*allow_exceptions=*/false);
  const auto missing = [](const char* what) {
    return Error{ErrorCode::corrupt, concat("the summary of a training has no usable ", what)};
  };
  if (!summary.is_object()) return missing("JSON");
  const auto step = time_ms(summary, "step_ms", "p50"), slow = time_ms(summary, "step_ms", "p90");
  const auto exposed = time_ms(summary, "exposed_allreduce_ms", "p50");
  const auto data = time_ms(summary, "data_wait_ms", "p50");
  if (!step || !(*step > 0) || !slow) return missing("step_ms");
  if (!exposed) return missing("exposed_allreduce_ms");
  if (!data) return missing("data_wait_ms");
  TrainingFigures figures;
  figures.step_ms = *step;
  figures.step_p90_ms = *slow;
  figures.exposed_ms = *exposed;
  figures.data_wait_ms = *data;
  return figures;
}

std::string failure_in(const std::string& summary) {
  const json all = json::parse(summary, nullptr, /*allow_exceptions=*/false);
  if (!all.is_object()) return "";
  const auto error = all.find("error");
  return error != all.end() && error->is_string() ? error->get<std::string>() : "";
}

double ceiling_step_ms(const std::vector<std::int64_t>& samples, const std::vector<double>& step_ms,
                       std::int64_t batch) {
  PACELINE_ASSERT(samples.size() == step_ms.size() && !samples.empty(), "each training has its samples");
  double samples_per_ms = 0;
  for (std::size_t i = 0; i < samples.size(); ++i)
    samples_per_ms += static_cast<double>(samples[i]) / step_ms[i];
  return static_cast<double>(batch) / samples_per_ms;
}

const char* name_of(ScalingMode mode) {
  return mode == ScalingMode::strong ? "strong" : "weak";
}

TrainingSize size_of(ScalingMode mode, std::int64_t ranks, std::int64_t batch) {
  return {ranks, mode == ScalingMode::strong ? batch : ranks * batch};
}

Range range_of(const std::vector<double>& values) {
  const auto [least, most] = std::ranges::minmax(values);
  return {median(values), least, most};
}

std::vector<ScalingRow> rows_of(ScalingMode mode, const std::vector<std::int64_t>& ranks, std::int64_t batch,
                                const Measurements& measurements) {
  std::vector<ScalingRow> rows;
  const TrainingSize base = size_of(mode, ranks.front(), batch);
  for (const std::int64_t count : ranks) {
    const TrainingSize size = size_of(mode, count, batch);
    rows.push_back(row_of(mode, size, measurements.at(size), base, measurements.at(base)));
  }
  return rows;
}

}  // namespace paceline::bench
