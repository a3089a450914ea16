#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "paceline/base/result.hpp"
#include "paceline/sched/allocation.hpp"

namespace paceline {

/// A GPU, or a slice of one (MIG).
struct Gpu {
  std::string uuid;  ///< by which a rank is bound to it
  std::string name;  ///< its kind, "NVIDIA H100 80GB HBM3"
  std::int64_t memory_bytes = 0;
  std::int64_t free_bytes = 0;       ///< of its memory, what no other program holds
  std::int64_t numa_node = -1;       ///< -1: not known
  std::vector<std::int64_t> linked;  ///< those of its node that NVLink reaches, by their places in the list
  friend bool operator==(const Gpu&, const Gpu&) = default;
};

struct NetworkCard {
  std::string name;             ///< "eth0", "mlx5_0"
  std::int64_t numa_node = -1;  ///< -1: not known
  double gbit_per_s = 0;        ///< 0: not known
  friend bool operator==(const NetworkCard&, const NetworkCard&) = default;
};

/// What one node has for a job.
struct NodeResources {
  std::string name;
  Inventory cores;
  std::int64_t usable_cores = 0;  ///< so many of them at once; fewer where the job has a share of each
  std::int64_t slots = 0;         ///< ranks that it is to have instead of one for each core; 0: not said
  std::vector<Gpu> gpus;
  std::vector<NetworkCard> cards;       ///< those that are up
  std::int64_t free_memory_bytes = -1;  ///< -1: not known
  std::string refused;  ///< why it may not be used now, "is drained: bad disk"; empty: anybody may
  friend bool operator==(const NodeResources&, const NodeResources&) = default;
};

/// What every rank needs.
struct RankNeeds {
  bool gpu = false;                   ///< one of its own
  std::string gpu_kind = {};          ///< is part of its name, in any case; empty: any
  bool same_gpu_kind = false;         ///< all ranks have the same: the one with most room
  std::int64_t gpu_memory_bytes = 0;  ///< the least that its GPU has, free
  std::int64_t memory_bytes = 0;      ///< of the node
  std::int64_t threads = 0;           ///< 0: one for each core that the rank owns
};

/// How much room a node has, and why it has no more.
struct NodeRoom {
  std::int64_t natural = 0;       ///< ranks with a core or a GPU of their own
  std::int64_t most = 0;          ///< ranks; without GPUs more than one may share a core
  std::vector<std::size_t> gpus;  ///< those that ranks may have
  std::string reason;             ///< of a node with no room: the filter that it failed
};

/// The filters. One for each node, in their order.
[[nodiscard]] std::vector<NodeRoom> find_room(const std::vector<NodeResources>& nodes,
                                              const RankNeeds& needs);

/// One rank's row in the table of a job.
struct PlacedRank {
  std::int64_t rank = 0;   ///< of the job; those of a node follow each other
  std::size_t node = 0;    ///< in the list of nodes
  RankPlace place;         ///< its cores; `rank` counts within the node
  std::int64_t gpu = -1;   ///< in the list of its node; -1: none
  std::int64_t card = -1;  ///< the nearest in the list of its node; -1: none known
};

struct Placement {
  std::vector<PlacedRank> ranks;
  std::vector<std::int64_t> per_node;  ///< ranks of each node, in their order
  std::vector<std::string> reasons;    ///< why a node has no rank; empty where it has some
};

/// The table of ranks: on the fewest nodes that have room for all (on every one with `all_nodes`), the
/// largest first; of equal ones those with more of their GPUs linked, then those with the faster card, first.
/// Ranks are dealt in proportion to the nodes' room. A rank's GPU is linked with those of its neighbours as
/// far as may be, its cores and its card are on the GPU's NUMA node. not_found: no room for so many, and why;
/// invalid_argument: fewer than one rank. Pure, and takes milliseconds for thousands of nodes.
[[nodiscard]] Result<Placement> place_ranks(const std::vector<NodeResources>& nodes, const RankNeeds& needs,
                                            std::int64_t ranks, bool all_nodes = false);

}  // namespace paceline
