#pragma once

#include "rebalance/options.hpp"

namespace paceline::bench {

/// Replays and prints. Gives the exit status of `paceline bench`.
[[nodiscard]] int run_rebalance(const RebalanceOptions& options);

}  // namespace paceline::bench
