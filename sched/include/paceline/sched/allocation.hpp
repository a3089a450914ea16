#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "paceline/base/result.hpp"

namespace paceline {

/// A physical core that a rank may use.
struct Core {
  std::int64_t numa_node = 0;
  std::vector<int> cpus;  ///< the operating system's numbers of its hardware threads, at least one
  friend bool operator==(const Core&, const Core&) = default;
};

/// What one node has for this job. Cores of one NUMA node stand together.
struct Inventory {
  std::vector<Core> cores;
  friend bool operator==(const Inventory&, const Inventory&) = default;
};

/// One rank's row in the table of ranks.
struct RankPlace {
  std::int64_t rank = 0;   ///< within the node, from 0
  std::int64_t cores = 0;  ///< that it owns; 0: it shares them with other ranks
  std::vector<int> cpus;   ///< to pin it to; empty: it may run wherever the node's agent may
  std::int64_t threads = 1;
};

/// The table of ranks of one node. `threads` 0: one thread for each core that a rank owns.
///
/// With a core for every rank, each owns a contiguous run of them. Runs are as even as they go; where it
/// makes the smallest run no smaller, no run crosses from one NUMA node into the next.
///
/// With more ranks than cores none is pinned and each computes with one thread: pinned, the ranks that share
/// a core would set the pace of all while another core idles; unpinned, the kernel gives the core of a rank
/// that waits to one that does not.
[[nodiscard]] Result<std::vector<RankPlace>> allocate_ranks(const Inventory& inventory, std::int64_t ranks,
                                                            std::int64_t threads);

/// The same for one rank whose agent was started, together with `local_ranks` - 1 others, by somebody who
/// binds processes. `own` is what this agent may use of a node's `node_cores` cores. Where that is all of
/// them nobody has bound anything, and the rank takes its run of allocate_ranks. Otherwise it takes what
/// it was given, and if the agents' sets must overlap, fewer threads than cores.
[[nodiscard]] Result<RankPlace> allocate_bound_rank(const Inventory& own, std::int64_t node_cores,
                                                    std::int64_t local_rank, std::int64_t local_ranks,
                                                    std::int64_t threads);

/// How many of `ranks` ranks each node gets, which has so many cores: the fewest nodes with a core for every
/// rank, those with the most cores first; among these in proportion to their cores. With `all`, or more ranks
/// than cores, every node that can takes part. Nodes without cores get none, and nobody more than `most` says
/// (empty: any number); where that leaves ranks over, they are in no sum.
[[nodiscard]] std::vector<std::int64_t> spread_ranks(const std::vector<std::int64_t>& cores,
                                                     std::int64_t ranks, bool all = false,
                                                     const std::vector<std::int64_t>& most = {});

/// "0-3,8": a list of CPU numbers for people.
[[nodiscard]] std::string cpu_list(std::vector<int> cpus);

}  // namespace paceline
