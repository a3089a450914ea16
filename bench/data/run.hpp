#pragma once

#include "data/options.hpp"

namespace paceline::bench {

/// Measures and prints. Gives the exit status of `paceline bench`.
[[nodiscard]] int run_data(const DataOptions& options);

}  // namespace paceline::bench
