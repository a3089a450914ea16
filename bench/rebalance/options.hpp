#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "paceline/base/result.hpp"

namespace paceline::bench {

/// What `paceline bench rebalance` was asked for.
struct RebalanceOptions {
  std::string trace;
  std::int64_t grains = 16;     ///< for each rank, at equal shares
  std::int64_t iterations = 0;  ///< the first ones of the trace; 0: all
  std::string json;
};

/// The arguments after "bench rebalance". A request for help is an error with code aborted whose message is
/// the help.
[[nodiscard]] Result<RebalanceOptions> parse_rebalance(std::vector<std::string> arguments);

}  // namespace paceline::bench
