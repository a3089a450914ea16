#pragma once

#include "paceline/allreduce.hpp"
#include "paceline/base/result.hpp"

namespace paceline {

/// Collective: whether a pass gives the same bits on all of these ranks, by what decides that (libraries,
/// instruction set, threads) and by a small trial. mismatch: names a rank and what is different there.
[[nodiscard]] Status check_ranks_compute_alike(Communicator& communicator);

}  // namespace paceline
