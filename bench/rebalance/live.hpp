#pragma once

#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "elastic/report.hpp"
#include "elastic/stage.hpp"
#include "rebalance/options.hpp"
#include "rebalance/phases.hpp"

namespace paceline::bench {

/// A run of equal ranks that may move grains beside one that may not.
struct EqualPair {
  double balanced_ms = 0, fixed_ms = 0;  ///< a step
  std::int64_t moves = 0;
};

/// What trainings came to.
struct LiveReport {
  std::int64_t grains_per_rank = 0;  ///< at equal shares
  DisturbedFigures disturbed;
  std::vector<EqualPair> equal;
};

/// Runs them.
[[nodiscard]] Result<LiveReport> train_with_slow_rank(Stage& stage, const LiveOptions& options);

/// The figures with what they should come to, for `table_of`.
[[nodiscard]] PartReport summary_of(const LiveReport& report, const LiveOptions& options);
/// docs/rebalancing.md names the keys.
[[nodiscard]] nlohmann::json to_json(const LiveReport& report, const LiveOptions& options);

}  // namespace paceline::bench
