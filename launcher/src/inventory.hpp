#pragma once

#include <optional>

#include "paceline/sched/allocation.hpp"

namespace paceline {

/// The cores of this node.
struct NodeInventory {
  Inventory own;                ///< what this process may use: its affinity within its cgroup
  std::int64_t cores = 0;       ///< what the node has for anybody in this cgroup
  std::int64_t cpus = 0;        ///< hardware threads of those cores
  std::optional<double> quota;  ///< CPUs whose time its cgroup lets it have; nothing: all
};

/// Asks hwloc, for cores, hardware threads and NUMA nodes alone. Takes a few milliseconds.
[[nodiscard]] Result<NodeInventory> take_inventory();

}  // namespace paceline
