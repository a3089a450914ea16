#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "paceline/base/result.hpp"

namespace paceline::bench {

/// What `paceline bench elastic` was asked for.
struct ElasticOptions {
  std::vector<std::string> parts;  ///< of elastic_parts; none: all
  std::string model = "mlp";
  int ranks = 4;
  std::int64_t batch = 256;
  std::int64_t images = 16384;  ///< of the dataset that is made
  int kills = 20;
  int coordinator_kills = 5;
  int resizes = 6;
  int cost_pairs = 40;  ///< pairs of runs of steps, one with and one without elasticity's messages
  int checkpoints = 5;
  int checkpoint_steps = 100;  ///< from one to the next
  std::string folder;          ///< in which a temporary one is made; empty: where temporary files go
  double timeout_s = 120;      ///< for each thing that is waited for
  std::string json;

  [[nodiscard]] bool wants(const std::string& part) const;
};

inline const std::vector<std::string> elastic_parts = {"kill", "coordinator", "resize", "cost", "checkpoint"};

/// The arguments after "bench elastic". A request for help is an error with code aborted whose message is the
/// help.
[[nodiscard]] Result<ElasticOptions> parse_elastic(std::vector<std::string> arguments);

}  // namespace paceline::bench
