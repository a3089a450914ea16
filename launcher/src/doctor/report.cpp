#include "doctor/report.hpp"

#include <algorithm>

#include "doctor/check_json.hpp"
#include "paceline/base/text.hpp"

namespace paceline::doctor {
namespace {

using Json = nlohmann::json;

constexpr std::size_t state_width = 11;
constexpr std::size_t name_width = 20;

std::int64_t count(const std::vector<Check>& checks, State state) {
  return std::ranges::count(checks, state, &Check::state);
}

std::string padded(std::string text, std::size_t width) {
  text.resize(std::max(width, text.size() + 1), ' ');
  return text;
}

std::string counted(std::int64_t number, const std::string& what) {
  return concat(number == 0 ? "no" : std::to_string(number), " ", what, number == 1 ? "" : "s");
}

Json json_of_all(const std::vector<Check>& checks) {
  Json json = Json::array();
  for (const Check& check : checks) json.push_back(json_of(check));
  return json;
}

}  // namespace

std::int64_t count(const Examination& examination, State state) {
  std::int64_t number = count(examination.together, state);
  for (const NodeChecks& node : examination.nodes) number += count(node.checks, state);
  return number;
}

std::string to_json(const Examination& examination) {
  Json nodes = Json::array();
  for (const NodeChecks& node : examination.nodes)
    nodes.push_back({{"node", node.node}, {"checks", json_of_all(node.checks)}});
  const Json json = {{"version", PACELINE_VERSION},
                     {"nodes", std::move(nodes)},
                     {"together", json_of_all(examination.together)},
                     {"problems", count(examination, State::problem)},
                     {"warnings", count(examination, State::warning)}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

std::string line_of(const Check& check) {
  return concat("  ", padded(to_string(check.state), state_width), padded(check.name, name_width),
                check.found, check.mend.empty() ? "" : ": ", check.mend);
}

std::string short_text_of(const NodeChecks& node) {
  std::string text = concat("node ", node.node, ": ", count(node.checks, State::ok), " ok, ",
                            count(node.checks, State::absent), " not there\n");
  for (const Check& check : node.checks)
    if (check.state == State::warning || check.state == State::problem) text += line_of(check) + "\n";
  return text;
}

std::string verdict(const Examination& examination) {
  return concat(counted(count(examination, State::problem), "problem"), ", ",
                counted(count(examination, State::warning), "warning"));
}

}  // namespace paceline::doctor
