#pragma once

#include <cstdint>

#include "launch.hpp"
#include "paceline/job/job.hpp"
#include "paceline/sched/placement.hpp"
#include "where/place.hpp"

namespace paceline {

/// What each rank of this job needs of its node.
[[nodiscard]] RankNeeds needs_of(const Job& job);

/// How many ranks of this job would have a core, or the GPU that they need, of their own on this node.
/// Errors: io, a GPU driver that does not work.
[[nodiscard]] Result<std::int64_t> own_room(const Place& place, const Job& job);

/// Of an agent with all of a node's workers: `ranks` places with a GPU and cores near it, and the GPUs of
/// more as far as they and `most` go. not_found: there are fewer GPUs, and why.
[[nodiscard]] Status place_on_gpus(const Place& place, std::int64_t ranks, std::int64_t most, const Job& job,
                                   Team& team);

/// Of the agent of a task: the GPU that is its worker's. Who has started the tasks may have given each one
/// of its own already; else they take the node's in turn.
[[nodiscard]] Status choose_gpu_of_task(const Place& place, const Job& job, Team& team);

}  // namespace paceline
