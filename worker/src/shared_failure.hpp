#pragma once

#include "paceline/allreduce.hpp"
#include "paceline/base/result.hpp"

namespace paceline {

/// What became of the ranks of `ranks` when another communicator of the same ranks fails with `error`: sums
/// on their devices, or a meeting for those. Either of the two may be the first to notice that a rank is
/// lost, but what `ranks` says counts, since whoever has all sums waits for the others' votes there. On
/// return it has failed on every rank.
///
/// An error of this rank's own stays what it is. Another's is `aborted`, or what `ranks` knows better.
[[nodiscard]] Error shared_failure(Communicator& ranks, const Error& error);

}  // namespace paceline
