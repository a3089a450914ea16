#pragma once

#include "doctor/child.hpp"
#include "where/place.hpp"

namespace paceline::doctor {

/// Cores, memory and limits of this process on its node.
void check_limits(const Place& place, const Sink& sink);
/// What the kernel lets programs do. Without those that need another process.
void check_kernel(const Sink& sink);
/// Whether processes of one parent can read each other's memory, as ranks do.
[[nodiscard]] Check check_memory_of_others(StopSignals& signals);

}  // namespace paceline::doctor
