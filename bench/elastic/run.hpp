#pragma once

#include "elastic/options.hpp"

namespace paceline::bench {

/// Measures and prints. Gives the exit status of `paceline bench`.
[[nodiscard]] int run_elastic(const ElasticOptions& options);

}  // namespace paceline::bench
