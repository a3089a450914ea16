#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "paceline/sched/resize_policy.hpp"

namespace paceline {

/// Nothing, or why these facts can't be, in one sentence without a full stop.
[[nodiscard]] std::string fault_of(const ResizeRules& rules, const ResizeFacts& facts);

// For sentences.
[[nodiscard]] std::string ranks_text(std::int64_t ranks);
[[nodiscard]] std::string percent(double part);
[[nodiscard]] std::string seconds_text(double seconds);
[[nodiscard]] std::string ms_text(double ms);

/// What a decision stands on: facts that have been checked, and what follows from them.
struct ResizeGround {
  const ResizeRules& rules;  // does not own; all three outlive the decision that is being made
  const ResizeState& state;
  const ResizeFacts& facts;
  double now_s = 0;
  double elapsed_s = 0;         ///< of the job, with the correction
  const SizeForecast* present;  ///< of the present size
  double one_rank_per_s = 0;    ///< steps per second of one rank alone
  double time_left_s = 0;       ///< of the job, at the present size
  [[nodiscard]] double lead_s(std::int64_t ranks) const {
    return ranks > facts.places ? facts.rank_lead_s : 0;
  }
};

/// A candidate and what is only needed to judge it.
struct ScoredSize {
  ResizeCandidate shown;
  const SizeForecast* forecast = nullptr;
  double net_gain = 0;       ///< throughput: less what added ranks must bring at least
  double deviation = 0;      ///< standard, of the gain
  double finish_s = 0;       ///< deadline: until the job's end, at the upper bound of a step
  double mean_finish_s = 0;  ///< the same with the step that is expected
};

/// The size that was visited and has most net gain: where the job would go if it could not try any. Sizes are
/// not empty.
[[nodiscard]] const ScoredSize& best_known(const std::vector<ScoredSize>& sizes);

/// All sizes within the job's range, scored by the objective; `against` and `eligible` are left to the
/// choice.
[[nodiscard]] std::vector<ScoredSize> score_sizes(const ResizeGround& ground);

/// A size with the reason for it; the present one means hold.
struct ResizeChoice {
  std::int64_t ranks = 0;
  ResizeCause cause = ResizeCause::best;
  std::string reason;
  bool tries = false;  ///< it isn't sure to be better
};

/// What the objective wants with `places` at most. Says in `sizes` what speaks against each of the others.
[[nodiscard]] ResizeChoice choose_size(const ResizeGround& ground, std::vector<ScoredSize>& sizes,
                                       std::int64_t places);

/// The gain that a change to a size must bring: more for one that was left not long ago.
[[nodiscard]] double needed_gain(const ResizeGround& ground, std::int64_t ranks);
/// Whether the job came from there lately, other than to explore.
[[nodiscard]] bool is_reversal(const ResizeState& state, std::int64_t ranks);

}  // namespace paceline
