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
#include "fleet/starting.hpp"
#include "where/allocation.hpp"

namespace paceline {

/// The agents on the nodes of an allocation, seen from the launcher that starts them: one `srun` or `mpirun`
/// for all nodes, or one `ssh` for each. Each agent reports what its node has, is then told what to be, and
/// finds the coordinator by itself; from then on the connection only tells it that the launcher lives. One
/// thread.
class Fleet {
 public:
  /// Starts the agents. `must_see`: absolute paths that every node needs. `with_resources`: the reports have
  /// all of what the nodes have; drivers can take a second to say it.
  [[nodiscard]] static Result<std::unique_ptr<Fleet>> start(const Allocation& allocation,
                                                            const std::vector<std::string>& must_see,
                                                            bool with_resources = false);
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
  [[nodiscard]] bool are_all_there() const;
  [[nodiscard]] std::string said_last() const;

  Allocation allocation_;
  std::vector<Connection> connections_;
  std::map<std::string, NodeReport> reports_;  // by connection and label
  std::map<std::string, Pieces> pieces_;       // the same
  std::optional<Error> nonsense_;              // a report that is none
  UniqueFd log_;
  SteadyClock clock_;
  Instant spoke_at_{};
  std::vector<std::string> complaints_;
  std::set<std::string> told_;  // connections whose end is among them
};

}  // namespace paceline
