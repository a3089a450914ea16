#pragma once

#include <string>
#include <vector>

#include "allreduce/options.hpp"

namespace paceline::bench {

/// A machine that ranks run on, as a line of the hosts file says it.
struct Host {
  std::string name;
  std::string address;
  std::vector<std::string> command;  ///< runs the command that is put behind it there; empty: here
};

/// Where every rank runs.
struct Placement {
  std::vector<Host> hosts;  ///< empty: all ranks on this machine
  std::vector<int> layout;  ///< ranks of each node
  std::vector<int> node_of_rank;
  std::vector<int> cpus;    ///< one for each rank; empty: not pinned
  std::string driver_host;  ///< this program's address, as the ranks reach it
  std::string network;      ///< of the hosts, as 10.77.0.0/24; empty without hosts

  [[nodiscard]] const Host* host_of(int rank) const;
};

/// Lines NAME ADDRESS COMMAND...; empty ones and those that begin with # do not count.
[[nodiscard]] Result<std::vector<Host>> parse_hosts(const std::string& text);

/// Pins where there is a core for every rank, which only holds without hosts: those have their own to give.
[[nodiscard]] Result<Placement> place(const AllreduceOptions& options);

/// For people: "2 ranks on this machine".
[[nodiscard]] std::string describe(const Placement& placement);

}  // namespace paceline::bench
