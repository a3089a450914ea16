#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "where/place.hpp"

namespace paceline {

/// A node as its allocation names it.
struct Host {
  std::string name;
  std::int64_t slots = 0;  ///< most ranks that it is to have; 0: as many as it has cores
  friend bool operator==(const Host&, const Host&) = default;
};

/// Nodes that somebody has given to this job, and on which its agents are still to be started.
struct Allocation {
  std::string by;                     ///< "srun", "ssh", "mpirun": the program that starts something there
  std::string why;                    ///< what gave it away, for messages
  std::vector<Host> hosts;            ///< for ssh; the others may know them
  std::int64_t nodes = 0;             ///< 0: only who starts them knows
  std::optional<std::int64_t> ranks;  ///< so many were asked for, on all of the nodes

  /// One program starts something on all nodes; or there is one program for each.
  [[nodiscard]] bool in_one_piece() const { return by != "ssh"; }
};

/// Of a process that no launcher has started as one of several: `hosts` (--hosts: a file, or names with
/// commas), or the Slurm job whose script or shell this is. Nothing: there is only this machine. `starter`:
/// of
/// --starter, ssh, srun or mpirun, which knows the nodes of other schedulers' jobs; empty: what fits.
/// invalid_argument.
[[nodiscard]] Result<std::optional<Allocation>> find_allocation(const Environment& environment,
                                                                const std::string& hosts,
                                                                const std::string& starter = "");

/// Lines `NAME [slots=N]`; `#` begins a comment. `source` is for messages. invalid_argument.
[[nodiscard]] Result<std::vector<Host>> parse_host_file(const std::string& text, const std::string& source);
/// `NAME[:N],NAME[:N]...`
[[nodiscard]] Result<std::vector<Host>> parse_host_list(const std::string& text);

}  // namespace paceline
