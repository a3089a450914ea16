#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "batches.hpp"
#include "paceline/base/clock.hpp"
#include "paceline/sched/rebalancer.hpp"

namespace paceline {

/// What a rank spent on its part of a step, up to its vote for the commit.
struct StepTimes {
  Duration computed{};  ///< forward and backward
  Duration waited_for_data{};
  Duration waited_for_sums{};  ///< after its backward
};

/// Shares that all ranks change to together.
struct SharesChange {
  std::int64_t first_step = 0;  ///< from 0, with these shares
  Shares shares;
  double gain = 0;     ///< of the decision: known to rank 0 alone
  std::string reason;  ///< the same
};

/// Who gets how many grains, as the ranks of a generation agree on it with their commits, without asking
/// anybody:
///
///   commit s      all say what they spent on step s up to then
///                 rank 0 decides (Rebalancer), from what it has now heard
///   commit s + 1  rank 0 says the new shares: whoever sees that commit has them
///   step s + 3    is the first that is cut by them; what loaders have made for s + 2 is used
///
/// A step that is not committed was not heard by anybody. With each generation everything begins anew, with
/// equal shares, and its first steps are not looked at: memory is asked for and caches fill, on one rank
/// longer than on another. One thread.
class Rebalancing {
 public:
  /// A generation begins, in which this is `rank` of `ranks`. With one there is nothing to do.
  void begin(std::int64_t rank, std::int64_t ranks);
  /// What this rank says with the commit of `step`, which `plan` cuts: StepSpec::words.
  [[nodiscard]] std::vector<std::int64_t> words(std::int64_t step, const StepTimes& times,
                                                const JobPlan& plan) const;
  /// What all said with it, now that it is committed. `plan`: which the step was cut by. Gives a change if
  /// there is one. corrupt: shares that do not add up.
  [[nodiscard]] Result<std::optional<SharesChange>> hear(std::int64_t step,
                                                         const std::vector<std::int64_t>& words,
                                                         const JobPlan& plan);

 private:
  /// From which step's commit on so many numbers would cost something: large jobs speak more seldom.
  [[nodiscard]] bool speaks_at(std::int64_t step) const;
  void decide(std::int64_t step, const std::vector<std::int64_t>& words, const JobPlan& plan);

  std::int64_t rank_ = 0;
  std::int64_t ranks_ = 1;
  std::int64_t steps_heard_ = 0;          // in which all ranks spoke, in this generation
  Rebalancer rebalancer_;                 // rank 0's
  std::optional<SharesChange> proposal_;  // rank 0's, until all have heard it
};

}  // namespace paceline
