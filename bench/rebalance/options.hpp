#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "paceline/base/result.hpp"
#include "rebalance/phases.hpp"

namespace paceline::bench {

/// A training in which a rank is held back.
struct LiveOptions {
  SlowRank slow;
  std::string model = "cnn";
  int ranks = 2;
  std::int64_t batch = 256;
  std::int64_t grain = 0;       ///< samples; 0: the job's default
  std::int64_t steps = 100;     ///< of each phase
  int rounds = 5;               ///< times that the rank is slowed, and pairs of runs of equal ranks
  std::int64_t images = 16384;  ///< of the dataset that is made
  std::string folder;           ///< in which a temporary one is made; empty: where temporary files go
  double timeout_s = 120;       ///< for each thing that is waited for
};

/// What `paceline bench rebalance` was asked for: a replay of `trace`, or what is `live`.
struct RebalanceOptions {
  std::string trace;
  std::int64_t grains = 16;     ///< for each rank, at equal shares
  std::int64_t iterations = 0;  ///< the first ones of the trace; 0: all
  std::optional<LiveOptions> live{};
  std::string json;
};

/// The arguments after "bench rebalance". A request for help is an error with code aborted whose message is
/// the help.
[[nodiscard]] Result<RebalanceOptions> parse_rebalance(std::vector<std::string> arguments);

}  // namespace paceline::bench
