#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "elastic/figures.hpp"
#include "paceline/base/result.hpp"
#include "scaling/run_files.hpp"

namespace paceline::bench {

/// A rank that is held back so that it runs at one part in `factor` of its speed.
struct SlowRank {
  std::int64_t rank = 1;
  double factor = 2;
};

/// "rank=1,factor=2". invalid_argument.
[[nodiscard]] Result<SlowRank> parse_slow_rank(std::string_view text);

/// What a step takes if the ranks' speeds, of which one is slowed, add up, over what it takes undisturbed.
[[nodiscard]] double ideal_ratio(std::int64_t ranks, double factor);

/// The speed that `shares` use of what the ranks have together. Exact, with no time in it; `slow` null: none
/// is held back.
[[nodiscard]] double fraction_by_shares(const std::vector<std::int64_t>& shares, const SlowRank* slow);

/// The mean of the values without the least tenth and the greatest one; 0 of none.
[[nodiscard]] double usual(std::vector<double> values);

/// When the rank was slow, in seconds since 1970.
struct Slowing {
  double began = 0, ended = 0;
};

/// A training through which a rank was slowed several times, with undisturbed steps before each and after.
struct DisturbedRun {
  std::int64_t ranks = 2;
  SlowRank slow;
  Commits commits;
  std::vector<ShareChange> changes;
  std::int64_t first_step = 1;  ///< that counts: those before it warm up
  std::vector<Slowing> slowings;
};

/// How the shares followed one change of a rank's speed. Steps are counted from the one in which it happened,
/// which is 0; nothing: not before the next change.
struct Following {
  double fraction_of_ideal = 0;  ///< from the eleventh step on
  std::optional<std::int64_t> steps_to_95_percent{},
      steps_to_93_percent{};  ///< from which on ten together do
  std::optional<std::int64_t>
      shares_for_93_percent{};  ///< the first that had shares for it, whatever it took
  std::int64_t moves = 0;
  std::int64_t late_moves = 0;  ///< from step 26 on
};

struct RoundOfSlowing {
  double undisturbed_ms = 0;  ///< a step before
  double slowed_ms = 0;       ///< a step from the eleventh on
  Following slowed, recovered;
};

struct DisturbedFigures {
  std::vector<RoundOfSlowing> rounds;
  std::int64_t steps = 0;       ///< that counted
  std::int64_t moves = 0;       ///< in them
  std::int64_t late_moves = 0;  ///< of these, those that came more than 25 steps after any change
};

/// corrupt: steps are missing that should have been written down.
[[nodiscard]] Result<DisturbedFigures> figures_of(const DisturbedRun& run);

}  // namespace paceline::bench
