#pragma once

#include <cstdint>
#include <vector>

namespace paceline {

/// What a rank's part of a step takes: wait_ms + grains * ms_per_grain.
struct RankTime {
  double wait_ms = 0;  ///< whatever its share is
  double ms_per_grain = 0;
  std::int64_t least = 1;  ///< grains that it must and that it may get
  std::int64_t most = 0;

  [[nodiscard]] double finish_ms(std::int64_t grains) const noexcept {
    return wait_ms + static_cast<double>(grains) * ms_per_grain;
  }
};

/// Each grain in turn to the rank that would finish it first; of two alike to the first. No other shares
/// within the bounds let the last rank finish sooner (Jacobsen, "On marginal allocation in single constraint
/// min-max problems", 1971). The bounds must leave room: least <= grains <= most, summed up.
[[nodiscard]] std::vector<std::int64_t> assign_grains(const std::vector<RankTime>& ranks,
                                                      std::int64_t grains);

/// When the last rank finishes, and which that is.
struct LastRank {
  std::size_t rank = 0;
  double finish_ms = 0;
};
[[nodiscard]] LastRank last_of(const std::vector<RankTime>& ranks, const std::vector<std::int64_t>& shares);

}  // namespace paceline
