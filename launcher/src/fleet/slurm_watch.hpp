#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "fleet/connection.hpp"
#include "paceline/base/clock.hpp"

namespace paceline {

/// Which nodes of this job Slurm wants to be rid of. Asks its controller seldom (every 30 s, or
/// PACELINE_SLURM_POLL_S), because all jobs share that, and never waits for an answer.
class SlurmWatch {
 public:
  explicit SlurmWatch(std::vector<std::string> nodes);

  /// Those that are being drained, each time that Slurm says so, until they are settled. Call often.
  [[nodiscard]] std::vector<std::string> attend();
  void settle(const std::string& node) { settled_.insert(node); }

 private:
  std::vector<std::string> nodes_;
  Duration interval_;
  SteadyClock clock_;
  Instant asked_at_;
  std::optional<Connection> question_;
  std::set<std::string> settled_;
};

/// The node of a line `NODE STATE` of sinfo, if it is one that is being drained.
[[nodiscard]] std::optional<std::string> draining_node(const std::string& line);

}  // namespace paceline
