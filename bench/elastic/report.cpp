#include "elastic/report.hpp"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "allreduce/table.hpp"
#include "elastic/figures.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

using nlohmann::json;

std::string row(const std::string& name, const std::vector<std::string>& cells) {
  char text[128];
  std::snprintf(text, sizeof text, "  %-52s", name.c_str());
  std::string line = text;
  for (const std::string& cell : cells) {
    std::snprintf(text, sizeof text, "%10s", cell.c_str());
    line += text;
  }
  return line + "\n";
}

}  // namespace

std::string table_of(const PartReport& report) {
  std::string text = concat("\n", report.part, ": ", report.what, "\n",
                            row("", {"times", "median", "p90", "p99", "least", "most"}));
  for (const Figure& figure : report.figures) {
    const Spread spread = spread_of(figure.values);
    std::vector<std::string> cells = {concat(spread.count)};
    for (const double value : {spread.median, spread.p90, spread.p99, spread.least, spread.most})
      cells.push_back(spread.count == 0 ? "-" : short_number(value));
    text += row(figure.unit.empty() ? figure.name : concat(figure.name, " (", figure.unit, ")"), cells);
  }
  for (const Target& target : report.targets)
    text += concat("  target: ", target.what, target.at_least ? " at least " : " at most ",
                   short_number(target.limit), target.unit.empty() ? "" : " ", target.unit, ": ",
                   short_number(target.value), ", ", target.met() ? "met" : "missed", "\n");
  return text;
}

json to_json(const PartReport& report) {
  json figures = json::array(), targets = json::array();
  for (const Figure& figure : report.figures) {
    const Spread spread = spread_of(figure.values);
    figures.push_back({{"name", figure.name},
                       {"unit", figure.unit},
                       {"count", spread.count},
                       {"median", spread.median},
                       {"p90", spread.p90},
                       {"p99", spread.p99},
                       {"least", spread.least},
                       {"most", spread.most},
                       {"values", figure.values}});
  }
  for (const Target& target : report.targets)
    targets.push_back({{"what", target.what},
                       {"unit", target.unit},
                       {"value", target.value},
                       {"limit", target.limit},
                       {"at_least", target.at_least},
                       {"met", target.met()}});
  return {{"part", report.part}, {"figures", std::move(figures)}, {"targets", std::move(targets)}};
}

}  // namespace paceline::bench
