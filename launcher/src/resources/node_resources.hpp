#pragma once

#include "paceline/sched/placement.hpp"
#include "where/place.hpp"

namespace paceline {

/// What this node has for a job that runs at `place`: no more than the process's affinity, its cgroup and
/// Slurm let it have. A driver that does not work leaves the node without GPUs, and says why in `complaint`.
struct OwnResources {
  NodeResources node;
  std::string complaint;  ///< empty: there is none
};
[[nodiscard]] Result<OwnResources> take_resources(const Place& place);

}  // namespace paceline
