#pragma once

#include "allocation/options.hpp"

namespace paceline::bench {

/// Measures, and prints what came of it. Gives the exit status.
[[nodiscard]] int run_allocation(const AllocationOptions& options);

}  // namespace paceline::bench
