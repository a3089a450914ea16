#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "paceline/base/result.hpp"

namespace paceline {

/// What a node says of itself to the launcher that is to start workers there: one line of JSON.
struct NodeReport {
  std::string version;  ///< of its program
  std::string node;     ///< its name
  std::string address;  ///< at which the other nodes reach it
  std::int64_t cores = 0;
  double time = 0;                  ///< its clock, in seconds since 1970
  std::vector<std::string> unseen;  ///< of the paths that it was asked for, those that are not there
  friend bool operator==(const NodeReport&, const NodeReport&) = default;
};

/// What an agent on one of the nodes is to be.
struct AgentOrder {
  std::string node;
  std::int64_t index = 0;   ///< among the agents of the launch
  std::int64_t places = 0;  ///< for workers with cores of their own
  friend bool operator==(const AgentOrder&, const AgentOrder&) = default;
};

/// The answer to the reports, the same line for all nodes.
struct FleetOrder {
  std::string run_dir;  ///< absolute
  std::vector<AgentOrder> agents;
  friend bool operator==(const FleetOrder&, const FleetOrder&) = default;
};

/// Without a line break.
[[nodiscard]] std::string to_json(const NodeReport& report);
[[nodiscard]] std::string to_json(const FleetOrder& order);
/// Any bytes. corrupt.
[[nodiscard]] Result<NodeReport> parse_node_report(const std::string& text);
[[nodiscard]] Result<FleetOrder> parse_fleet_order(const std::string& text);

/// Whether a line is meant to be a report, and not something that a login shell prints.
[[nodiscard]] bool is_node_report(const std::string& line);

/// That the nodes can train together: of this version, each with a name of its own, with clocks that agree
/// with this one, and with the files in sight. `now`: seconds since 1970. invalid_argument.
[[nodiscard]] Status check_reports(const std::vector<NodeReport>& reports, double now);

}  // namespace paceline
