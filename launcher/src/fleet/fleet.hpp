#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent.hpp"
#include "fleet/connection.hpp"
#include "fleet/messages.hpp"
#include "where/allocation.hpp"

namespace paceline {

/// The agents on the nodes of an allocation, seen from the launcher that starts them: one `srun` for all
/// nodes, or one `ssh` for each. Each agent reports what its node has, is then told what to be, and finds the
/// coordinator by itself; from then on the connection only tells it that the launcher lives. One thread.
class Fleet {
 public:
  /// Starts the agents. `must_see`: absolute paths that every node needs.
  [[nodiscard]] static Result<std::unique_ptr<Fleet>> start(const Allocation& allocation,
                                                            const std::vector<std::string>& must_see);
  ~Fleet();
  Fleet(const Fleet&) = delete;
  Fleet& operator=(const Fleet&) = delete;

  /// The report of every node, in the order of the hosts, or by name. Errors: a connection ended before,
  /// and its last words; timeout, and whose report is missing; aborted by a signal.
  [[nodiscard]] Result<std::vector<NodeReport>> gather(StopSignals& signals);
  /// Tells all what they are to be. From here on what they complain of is in `log_path`.
  [[nodiscard]] Status order(const FleetOrder& order, const std::string& log_path);
  /// Call at least ten times a second: takes what has come, and shows the agents that this lives. An error
  /// once nobody is connected any more.
  [[nodiscard]] Status attend();
  /// What people should know: agents that gave up, and connections that ended.
  [[nodiscard]] std::vector<std::string> take_complaints();
  /// Closes the connections, and waits for their programs, some seconds at most.
  void part();

 private:
  explicit Fleet(const Allocation& allocation) : allocation_(allocation) {}
  void pump(int limit_ms);
  void hear(const std::string& connection, const std::string& line);
  void note(const std::string& connection, const std::string& line);
  [[nodiscard]] Error describe_loss(Connection& connection) const;
  [[nodiscard]] std::string missing() const;
  [[nodiscard]] std::string said_last() const;

  Allocation allocation_;
  std::vector<Connection> connections_;
  std::map<std::string, NodeReport> reports_;  // by connection and label
  std::optional<Error> nonsense_;              // a report that is none
  UniqueFd log_;
  SteadyClock clock_;
  Instant spoke_at_{};
  std::vector<std::string> complaints_;
  std::set<std::string> told_;  // connections whose end is among them
};

/// The command that starts agents on all nodes of a Slurm job, or on one host by ssh. `environment`: what
/// ssh's other side is to have, as NAME=VALUE.
[[nodiscard]] std::vector<std::string> srun_command(std::int64_t nodes,
                                                    const std::vector<std::string>& agent_command);
[[nodiscard]] std::vector<std::string> ssh_command(const std::string& ssh, const std::string& host,
                                                   const std::string& folder,
                                                   const std::vector<std::string>& environment,
                                                   const std::vector<std::string>& agent_command);

}  // namespace paceline
