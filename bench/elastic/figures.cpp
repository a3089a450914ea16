#include "elastic/figures.hpp"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "allreduce/statistics.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

using nlohmann::json;

double percentile(const std::vector<double>& sorted, double share) {
  const auto rank = static_cast<std::size_t>(std::ceil(share * static_cast<double>(sorted.size())));
  return sorted[std::max<std::size_t>(rank, 1) - 1];
}

/// Every whole line that is a JSON object.
std::vector<json> objects_of(std::string_view text) {
  std::vector<json> objects;
  for (std::size_t end = text.find('\n'); end != std::string_view::npos; end = text.find('\n')) {
    json line = json::parse(text.substr(0, end), nullptr, /*allow_exceptions=*/false);
    if (line.is_object()) objects.push_back(std::move(line));
    text.remove_prefix(end + 1);
  }
  return objects;
}

void add_gaps(const Commits& commits, std::int64_t first, std::int64_t last, std::vector<double>& gaps) {
  for (std::int64_t step = first; step <= last; ++step)
    if (const auto gap = gap_of(commits, step)) gaps.push_back(*gap);
}

std::optional<double> median_if_any(std::vector<double> values) {
  if (values.empty()) return std::nullopt;
  return median(std::move(values));
}

/// "generation 3 goes on after step 120: 46596176 bytes of state came in 4.1 ms"
std::optional<Beginning> parse_beginning(std::string_view line) {
  constexpr std::string_view begin = "generation ";
  const std::size_t at = line.find(begin);
  if (at == std::string_view::npos || line.find(" bytes of state came in ") == std::string_view::npos)
    return std::nullopt;
  Beginning beginning;
  long long generation = 0, step = 0, bytes = 0;
  double ms = 0;
  const std::string text(line.substr(at));
  if (std::sscanf(text.c_str(), "generation %lld goes on after step %lld: %lld bytes of state came in %lf ms",
                  &generation, &step, &bytes, &ms) != 4)
    return std::nullopt;
  return Beginning{generation, step, bytes, ms / 1e3};
}

}  // namespace

Spread spread_of(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  return {values.size(),  median(values), percentile(values, 0.9), percentile(values, 0.99),
          values.front(), values.back()};
}

Commits parse_commits(std::string_view metrics) {
  Commits commits;
  for (const json& line : objects_of(metrics))
    if (line.contains("step") && line["step"].is_number_integer() && line.contains("time") &&
        line["time"].is_number())
      commits.emplace(line["step"].get<std::int64_t>(), line["time"].get<double>());
  return commits;
}

std::optional<double> gap_of(const Commits& commits, std::int64_t step) {
  const auto before = commits.find(step - 1);
  const auto at = commits.find(step);
  if (before == commits.end() || at == commits.end()) return std::nullopt;
  return at->second - before->second;
}

std::optional<double> median_gap(const Commits& commits, std::int64_t first, std::int64_t last) {
  std::vector<double> gaps;
  add_gaps(commits, first, last, gaps);
  return median_if_any(std::move(gaps));
}

std::optional<double> usual_gap(const Commits& commits, std::int64_t step, std::int64_t each_side) {
  std::vector<double> gaps;
  add_gaps(commits, step - each_side, step - 1, gaps);
  add_gaps(commits, step + 1, step + each_side, gaps);
  return median_if_any(std::move(gaps));
}

double greatest_gap(const Commits& commits, double from, double to) {
  double greatest = 0;
  for (const auto& [step, time] : commits) {
    const auto gap = gap_of(commits, step);
    if (gap && time > from && time - *gap < to) greatest = std::max(greatest, *gap);
  }
  return greatest;
}

double last_commit(const Commits& commits, double time) {
  double last = 0;
  for (const auto& [step, at] : commits)
    if (at <= time) last = std::max(last, at);
  return last;
}

std::map<std::int64_t, Beginning> parse_beginnings(std::string_view logs) {
  std::map<std::int64_t, Beginning> beginnings;
  for (const std::string& line : split(std::string(logs), '\n')) {
    const std::optional<Beginning> told = parse_beginning(line);
    if (!told) continue;
    const auto [known, is_new] = beginnings.emplace(told->generation, *told);
    if (!is_new) known->second.seconds = std::min(known->second.seconds, told->seconds);
  }
  return beginnings;
}

std::vector<CheckpointSpan> parse_checkpoints(std::string_view journal) {
  std::vector<CheckpointSpan> spans;
  std::int64_t steps = 0;
  for (const json& line : objects_of(journal)) {
    const std::string type = line.value("type", "");
    if (type == "step") steps = line.value("step", steps);
    if (type == "checkpoint") spans.push_back({line.value("step", std::int64_t{0}), steps});
  }
  return spans;
}

std::optional<Overlap> overlap_of(const Commits& commits, const CheckpointSpan& span,
                                  std::int64_t next_step) {
  constexpr std::int64_t least_free = 3;
  // The copy belongs to the step that comes after it: its gap begins with the commit before the copy.
  const std::int64_t first = span.step + 1;
  const std::int64_t last = std::max(first, span.published_after);
  // The step in which it was published may be half of one kind and half of the other.
  const auto busy = median_gap(commits, first, last);
  const auto idle = median_gap(commits, last + 2, next_step);
  const auto copying = gap_of(commits, first);
  const std::int64_t free = next_step - (last + 2) + 1;
  if (!busy || !idle || !copying || free < least_free) return std::nullopt;
  return Overlap{*busy / *idle, *copying - *idle, last - first + 1, free};
}

std::vector<double> alternation_ratios(const Commits& commits, std::int64_t block, std::int64_t first,
                                       std::int64_t apart) {
  constexpr std::int64_t settling = 2;
  std::vector<double> ratios;
  if (commits.empty()) return ratios;
  const std::int64_t last = commits.rbegin()->first, pair = 2 * block;
  // Runs begin at multiples of their length, of steps that count from 0: step n here is the one numbered n
  // - 1.
  const auto median_of_run = [&](std::int64_t begin) {
    return median_gap(commits, begin + 1 + std::min(settling, block - 1), begin + block);
  };
  for (std::int64_t begin = (first + pair - 1) / pair * pair; begin + (apart + 1) * block <= last;
       begin += pair) {
    const auto told = median_of_run(begin), other = median_of_run(begin + apart * block);
    if (told && other && *other > 0) ratios.push_back(*told / *other);
  }
  return ratios;
}

}  // namespace paceline::bench
