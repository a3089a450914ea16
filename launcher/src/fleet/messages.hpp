#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "paceline/base/result.hpp"
#include "paceline/sched/placement.hpp"

namespace paceline {

/// What a node says of itself to the launcher that is to start workers there: one line of JSON.
struct NodeReport {
  std::string version;  ///< of its program
  std::string node;     ///< its name
  std::string address;  ///< at which the other nodes reach it
  std::int64_t cores = 0;
  std::int64_t tasks = 1;                  ///< that were started together with it, itself included
  double time = 0;                         ///< its clock, in seconds since 1970
  std::vector<std::string> unseen;         ///< of the paths that it was asked for, those that are not there
  std::optional<NodeResources> resources;  ///< where they were asked for
  std::string complaint;                   ///< of who looked for them; empty: none
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

/// A line of ASCII in lines that are handed on whole: slurmstepd sends no more than 1,024 bytes of a line at
/// once, and mpirun 4,096. One that is short enough stays as it is.
[[nodiscard]] std::vector<std::string> in_pieces(const std::string& line);
/// The other end, for one sender.
class Pieces {
 public:
  /// A whole line, or nothing yet. Of more than 16 MiB nothing is kept.
  [[nodiscard]] std::optional<std::string> add(const std::string& line);

 private:
  std::string begun_;
};

/// Whether a line is meant to be a report, and not something that a login shell prints.
[[nodiscard]] bool is_node_report(const std::string& line);

/// That the nodes can train together: of this version, each with a name of its own, with clocks that agree
/// with this one, and with the files in sight. `now`: seconds since 1970. invalid_argument.
[[nodiscard]] Status check_reports(const std::vector<NodeReport>& reports, double now);

}  // namespace paceline
