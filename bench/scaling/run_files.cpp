#include "scaling/run_files.hpp"

#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "allreduce/statistics.hpp"

namespace paceline::bench {
namespace {

using nlohmann::json;

constexpr double longest_part_us = 1e12;  // eleven days
constexpr std::int64_t most_grains = std::int64_t{1} << 40;

struct Part {
  const char* name;
  double StepParts::*value;
};
constexpr std::array<Part, 6> all_parts = {{{"data", &StepParts::data},
                                            {"forward", &StepParts::forward},
                                            {"backward", &StepParts::backward},
                                            {"reduce", &StepParts::reduce},
                                            {"commit", &StepParts::commit},
                                            {"optimizer", &StepParts::optimizer}}};

/// Calls `take` with every whole line that is a JSON object of this type.
template <class Take>
void for_each_line(std::string_view text, std::string_view type, Take take) {
  for (std::size_t end = text.find('\n'); end != std::string_view::npos; end = text.find('\n')) {
    const json line = json::parse(text.substr(0, end), nullptr, /*allow_exceptions=*/false);
    text.remove_prefix(end + 1);
    if (!line.is_object()) continue;
    const auto said = line.find("type");
    if (said != line.end() && said->is_string() && said->get_ref<const std::string&>() == type) take(line);
  }
}

std::optional<StepParts> step_of(const json& line) {
  StepParts parts;
  for (const Part& part : all_parts) {
    const auto at = line.find(part.name);
    if (at == line.end() || !at->is_number()) return std::nullopt;
    const double us = at->get<double>();
    if (!(us >= 0 && us <= longest_part_us)) return std::nullopt;
    parts.*part.value = us / 1e3;
  }
  return parts;
}

}  // namespace

std::optional<StepParts> parse_step_parts(std::string_view telemetry, std::int64_t skipped) {
  std::vector<StepParts> steps;
  for_each_line(telemetry, "step", [&](const json& line) {
    if (const auto step = step_of(line)) steps.push_back(*step);
  });
  if (std::ssize(steps) <= skipped) return std::nullopt;
  StepParts medians;
  for (const Part& part : all_parts) {
    std::vector<double> values;
    for (auto step = steps.begin() + skipped; step != steps.end(); ++step)
      values.push_back((*step).*part.value);
    medians.*part.value = median(std::move(values));
  }
  return medians;
}

std::vector<ShareChange> parse_share_changes(std::string_view journal) {
  std::vector<ShareChange> changes;
  for_each_line(journal, "shares", [&](const json& line) {
    const auto step = line.find("step"), shares = line.find("shares");
    if (step == line.end() || !step->is_number_integer() || shares == line.end() || !shares->is_array())
      return;
    ShareChange change;
    change.step = step->get<std::int64_t>();
    for (const json& share : *shares) {
      if (!share.is_number_integer()) return;
      change.shares.push_back(share.get<std::int64_t>());
      if (change.shares.back() < 0 || change.shares.back() > most_grains) return;
    }
    if (change.step >= 1 && !change.shares.empty()) changes.push_back(std::move(change));
  });
  return changes;
}

}  // namespace paceline::bench
