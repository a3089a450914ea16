#pragma once

#include "paceline/sched/placement.hpp"

namespace paceline {

/// Which GPU, cores and card each of a node's ranks gets. `gpus`: those that they may have, at least as many
/// as ranks where ranks need one. `rank` and `node` of the rows are the caller's to fill in.
[[nodiscard]] Result<std::vector<PlacedRank>> bind_ranks(const NodeResources& node,
                                                         const std::vector<std::size_t>& gpus,
                                                         std::int64_t ranks, const RankNeeds& needs);

}  // namespace paceline
