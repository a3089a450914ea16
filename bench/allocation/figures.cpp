#include "allocation/figures.hpp"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

using nlohmann::json;

bool is_in_time(const JobRun& run, double deadline_s) {
  return run.completed && run.seconds <= deadline_s;
}

std::optional<double> median_of(std::vector<double> values) {
  if (values.empty()) return std::nullopt;
  return spread_of(std::move(values)).median;
}

void count(const JobRun& run, WayFigures& figures) {
  figures.faults += run.faults;
  figures.launches += run.launches;
  figures.repairs += run.repairs;
  figures.resizes += run.resizes;
  figures.rebalances += run.rebalances;
  figures.totals = added(figures.totals, run.totals);
}

}  // namespace

const char* name_of(Way way) {
  switch (way) {
    case Way::fixed: return "static";
    case Way::policy: return "policy";
    case Way::policy_and_balance: return "policy and balancing";
  }
  return "";
}

double held_rank_seconds(std::string_view journals, std::int64_t ranks, double began, double ended) {
  double seconds = 0, since = began;
  std::int64_t held = ranks;
  for (const std::string& text : split(journals, '\n')) {
    if (text.find(R"("type":"generation")") == std::string::npos) continue;
    const json line = json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!line.is_object()) continue;
    const double time = std::clamp(line.value("time", since), since, std::max(since, ended));
    const std::int64_t members = line.value("ranks", held);
    seconds += static_cast<double>(held) * (time - since);
    since = time;
    // Fewer without a plan: some were lost, and their places wait for others.
    held = line.value("planned", false) ? members : std::max(held, members);
  }
  return seconds + static_cast<double>(held) * std::max(0.0, ended - since);
}

RateInterval wilson_interval(std::int64_t hits, std::int64_t tries) {
  if (tries <= 0) return {};
  constexpr double z = 1.959963984540054;  // 97.5% of the normal distribution
  const auto n = static_cast<double>(tries);
  const double rate = static_cast<double>(hits) / n, weight = 1 + z * z / n;
  const double middle = (rate + z * z / (2 * n)) / weight;
  const double half = z / weight * std::sqrt(rate * (1 - rate) / n + z * z / (4 * n * n));
  return {hits <= 0 ? 0 : std::max(0.0, middle - half), hits >= tries ? 1 : std::min(1.0, middle + half)};
}

PublishedWay published(Way way) {
  switch (way) {
    case Way::fixed: return {1, 1, 0.05};
    case Way::policy: return {0.75, 0.80, 0.03};
    case Way::policy_and_balance: return {0.583, 0.70, 0.02};
  }
  return {};
}

std::optional<double> published_tasks_per_second(std::int64_t tasks) {
  switch (tasks) {
    case 10: return 100;
    case 50: return 450;
    case 100: return 800;
    default: return std::nullopt;
  }
}

RunTotals added(const RunTotals& one, const RunTotals& other) {
  RunTotals sum;
  sum.useful_samples = one.useful_samples + other.useful_samples;
  sum.memory_byte_s = one.memory_byte_s + other.memory_byte_s;
  if (one.energy_j && other.energy_j) sum.energy_j = *one.energy_j + *other.energy_j;
  return sum;
}

WayFigures figures_of(Way way, const JobRuns& runs) {
  const std::vector<JobRun>& own = runs.by_way.at(static_cast<std::size_t>(way));
  const std::vector<JobRun>& fixed = runs.by_way.at(static_cast<std::size_t>(Way::fixed));
  WayFigures figures{.way = way, .runs = std::ssize(own)};
  figures.totals.energy_j = 0;
  std::vector<double> seconds, costs, time_ratios, cost_ratios, scores;
  for (std::size_t i = 0; i < own.size(); ++i) {
    const JobRun& run = own[i];
    if (!is_in_time(run, runs.deadline_s())) ++figures.failures;
    count(run, figures);
    const auto score = performance_score({run.completed, run.seconds, run.cost}, runs.reference);
    if (score) scores.push_back(*score);
    if (!run.completed) continue;
    seconds.push_back(run.seconds);
    costs.push_back(run.cost);
    if (i >= fixed.size() || !fixed[i].completed) continue;
    if (fixed[i].seconds > 0) time_ratios.push_back(run.seconds / fixed[i].seconds);
    if (fixed[i].cost > 0) cost_ratios.push_back(run.cost / fixed[i].cost);
  }
  figures.failure_rate = wilson_interval(figures.failures, figures.runs);
  figures.seconds = spread_of(std::move(seconds));
  figures.cost = spread_of(std::move(costs));
  figures.time_ratio = median_of(std::move(time_ratios));
  figures.cost_ratio = median_of(std::move(cost_ratios));
  figures.score = overall_score(scores);
  return figures;
}

std::optional<CommonRate> common_rate(const std::vector<Commits>& jobs) {
  double begin = -INFINITY, end = INFINITY;
  const auto by_time = [](const auto& a, const auto& b) { return a.second < b.second; };
  for (const Commits& commits : jobs) {
    if (commits.empty()) return std::nullopt;
    const auto [first, last] = std::ranges::minmax_element(commits, by_time);
    begin = std::max(begin, first->second);
    end = std::min(end, last->second);
  }
  if (jobs.empty() || !(begin < end)) return std::nullopt;
  std::int64_t grains = 0;
  for (const Commits& commits : jobs)
    grains += std::ranges::count_if(
        commits, [&](const auto& commit) { return commit.second > begin && commit.second <= end; });
  return CommonRate{static_cast<double>(grains) / (end - begin), begin, end};
}

std::optional<double> energy_between(std::string_view telemetry, double began, double ended) {
  std::optional<double> first, last;
  for (const std::string& text : split(telemetry, '\n')) {
    if (text.find(R"("node_energy_j":)") == std::string::npos) continue;
    json line = json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!line.is_object() || !line["node_energy_j"].is_number() || !line.contains("time")) continue;
    const double time = line.value("time", 0.0);
    if (time < began || time > ended) continue;
    last = line["node_energy_j"].get<double>();
    if (!first) first = last;
  }
  if (!first || !(*last > *first)) return std::nullopt;
  return *last - *first;
}

std::optional<double> tasks_score(std::int64_t tasks, double grains_per_second, double of_one) {
  if (!(grains_per_second > 0) || !(of_one > 0)) return std::nullopt;
  const double grain_s = 1 / grains_per_second, alone_s = 1 / of_one;
  return performance_score({true, grain_s, grain_s * static_cast<double>(tasks)}, {true, alone_s, alone_s});
}

}  // namespace paceline::bench
