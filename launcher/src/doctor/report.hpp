#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "doctor/check.hpp"

namespace paceline::doctor {

struct NodeChecks {
  std::string node;
  std::vector<Check> checks;
};

/// All that was found.
struct Examination {
  std::vector<NodeChecks> nodes;  ///< this machine first
  std::vector<Check> together;    ///< what the machines do with each other
};

[[nodiscard]] std::int64_t count(const Examination& examination, State state);

/// For programs; docs/doctor.md has an example.
[[nodiscard]] std::string to_json(const Examination& examination);

/// For people, without a line break: "  warning    clock           nothing keeps it right: run chrony".
[[nodiscard]] std::string line_of(const Check& check);
/// A heading, and the lines of what is wrong; the rest as counts. Many nodes would fill the screen.
[[nodiscard]] std::string short_text_of(const NodeChecks& node);
/// "1 problem, no warnings".
[[nodiscard]] std::string verdict(const Examination& examination);

}  // namespace paceline::doctor
