#pragma once

#include <cstdint>
#include <optional>

#include "rebalance/laws.hpp"
#include "rebalance/trace.hpp"

namespace paceline::bench {

/// How a law did.
struct LawResult {
  std::string law;
  /// Its throughput over that of a clairvoyant continuous split, which knows each iteration's costs before
  /// it begins and gives any fraction of a grain.
  double fraction_of_ideal = 0;
  double fraction_of_steps_moving = 0;  ///< after so many iterations some share changed
  /// The first iteration from which on ten together reach 95% of the best shares in whole grains that stay
  /// the same for these ten: no law can foresee the noise within them. Nothing: there is none.
  std::optional<std::int64_t> steps_to_95_percent;
};

/// The trace's ranks, with so many grains each in all, and shares that change between iterations only. A
/// rank's time is in proportion to its grains.
[[nodiscard]] LawResult replay(const Trace& trace, std::int64_t grains_per_rank, Law& law);

}  // namespace paceline::bench
