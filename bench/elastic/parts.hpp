#pragma once

#include <string>

#include "elastic/options.hpp"
#include "elastic/report.hpp"
#include "elastic/stage.hpp"

namespace paceline::bench {

/// What a part measures with. Each starts a job of its own and ends it.
struct PartContext {
  Stage& stage;
  const ElasticOptions& options;
  std::string dataset;
};

/// Ranks die, one at a time: from that to the next commit.
[[nodiscard]] Result<PartReport> measure_kills(const PartContext& context);
/// Coordinators die: whether training pauses.
[[nodiscard]] Result<PartReport> measure_coordinator_kills(const PartContext& context);
/// A rank less and a rank more, by `paceline resize`: the pause, and the state's transfer within it.
[[nodiscard]] Result<PartReport> measure_resizes(const PartContext& context);
/// Steps while nothing fails, with and without what elasticity needs.
[[nodiscard]] Result<PartReport> measure_cost(const PartContext& context);
/// Steps while a checkpoint is written in the background, and free ones.
[[nodiscard]] Result<PartReport> measure_checkpoints(const PartContext& context);

}  // namespace paceline::bench
