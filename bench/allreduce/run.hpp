#pragma once

#include "allreduce/options.hpp"

namespace paceline::bench {

/// Measures and reports; the exit status.
[[nodiscard]] int run_allreduce(const AllreduceOptions& options);

/// One rank of a contender that is part of this program: arguments[0] is paceline or probe. The exit status.
[[nodiscard]] int run_rank(const std::vector<std::string>& arguments);

}  // namespace paceline::bench
