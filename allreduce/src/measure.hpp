#pragma once

#include "abort_signal.hpp"
#include "paceline/transport.hpp"
#include "plan.hpp"
#include "topology.hpp"

namespace paceline {

/// Measures the way between the first ranks of the first two nodes, who alone take part: latency by short
/// round trips, bandwidth by a few MiB, over one connection and over all. The result is rank 0's; others get
/// the default. Takes tens of milliseconds over 1 Gbit/s.
[[nodiscard]] Result<Wire> measure_wire(Transport& transport, const Layout& layout, std::uint64_t generation,
                                        const Tuning& tuning, const AbortSignal& abort,
                                        const Deadline& deadline);

}  // namespace paceline
