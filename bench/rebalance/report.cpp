#include "rebalance/report.hpp"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

using nlohmann::json;

json to_json(const LawResult& result) {
  json row = {{"law", result.law},
              {"fraction_of_ideal", result.fraction_of_ideal},
              {"fraction_of_steps_moving", result.fraction_of_steps_moving},
              {"steps_to_95_percent", nullptr}};
  if (result.steps_to_95_percent) row["steps_to_95_percent"] = *result.steps_to_95_percent;
  return row;
}

}  // namespace

RebalanceReport evaluate(Trace trace, const RebalanceOptions& options) {
  if (options.iterations > 0 && trace.iterations.size() > static_cast<std::size_t>(options.iterations))
    trace.iterations.resize(static_cast<std::size_t>(options.iterations));
  RebalanceReport report;
  report.ranks = trace.workers.size();
  report.iterations = trace.iterations.size();
  report.notes = trace.notes;
  for (const std::unique_ptr<Law>& law : other_laws())
    report.laws.push_back(replay(trace, options.grains, *law));
  PacelineLaw ours;
  report.laws.push_back(replay(trace, options.grains, ours));
  report.verdicts = ours.verdicts();
  report.says = ours.says();
  return report;
}

std::string table_of(const RebalanceReport& report, const RebalanceOptions& options) {
  std::string text = concat(shown(options.trace), ": ", report.ranks, " ranks, ", report.iterations,
                            " iterations, ", options.grains, " grains for each rank\n");
  for (const std::string& note : report.notes) text += concat("  note: ", note, "\n");
  char line[128];
  std::snprintf(line, sizeof line, "  %-24s%18s%18s%14s\n", "law", "of ideal", "steps moving", "95% after");
  text += line;
  for (const LawResult& law : report.laws) {
    std::snprintf(line, sizeof line, "  %-24s%18.3f%18.3f%14s\n", law.law.c_str(), law.fraction_of_ideal,
                  law.fraction_of_steps_moving,
                  law.steps_to_95_percent ? concat(*law.steps_to_95_percent).c_str() : "never");
    text += line;
  }
  text += "paceline decided:";
  for (const auto& [verdict, count] : report.verdicts) text += concat(" ", verdict, " ", count);
  return text + concat("\nmostly: ", report.says, "\n");
}

json to_json(const RebalanceReport& report, const RebalanceOptions& options) {
  json all = to_json(report.laws.back());
  all.erase("law");
  all["trace"] = options.trace;
  all["ranks"] = report.ranks;
  all["iterations"] = report.iterations;
  all["grains_per_rank"] = options.grains;
  all["notes"] = report.notes;
  all["verdicts"] = report.verdicts;
  all["says"] = report.says;
  all["laws"] = json::array();
  for (const LawResult& law : report.laws) all["laws"].push_back(to_json(law));
  return all;
}

}  // namespace paceline::bench
