#pragma once

#include "scaling/options.hpp"

namespace paceline::bench {

/// Measures and prints. Gives the exit status of `paceline bench`.
[[nodiscard]] int run_scaling(ScalingOptions options);

}  // namespace paceline::bench
