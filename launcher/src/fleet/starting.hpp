#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "paceline/base/result.hpp"
#include "where/allocation.hpp"

namespace paceline {

/// What starts a program on one node, or on all.
struct NodeProgram {
  std::string name;  ///< of the host, or of the program that starts it on all nodes
  std::vector<std::string> command;
};

/// How to start this program with `arguments` on all nodes of an allocation: one srun or mpirun, or an ssh
/// for each host, in their order. From here on this process has no PACELINE_NODE that they would inherit.
[[nodiscard]] Result<std::vector<NodeProgram>> node_programs(const Allocation& allocation,
                                                             const std::vector<std::string>& arguments);

/// A line that came through the program which starts the agents, and which of them it is of.
struct Labelled {
  std::string label;  ///< so many digits that they sort as their numbers do; empty: nobody's
  std::string text;
};
[[nodiscard]] Labelled without_label(const std::string& starter, const std::string& line);

/// The command that starts agents on all nodes of a Slurm job, or on one host by ssh. `environment`: what
/// ssh's other side is to have, as NAME=VALUE.
[[nodiscard]] std::vector<std::string> srun_command(std::int64_t nodes,
                                                    const std::vector<std::string>& agent_command);
/// The same with Open MPI's mpirun, which finds the nodes of its scheduler's job where `hosts` is empty.
/// `settings`: NAME=VALUE of this process, of which the agents are to have the same.
[[nodiscard]] std::vector<std::string> mpirun_command(const std::vector<Host>& hosts,
                                                      const std::vector<std::string>& settings,
                                                      const std::vector<std::string>& agent_command);
[[nodiscard]] std::vector<std::string> ssh_command(const std::string& ssh, const std::string& host,
                                                   const std::string& folder,
                                                   const std::vector<std::string>& environment,
                                                   const std::vector<std::string>& agent_command);

}  // namespace paceline
