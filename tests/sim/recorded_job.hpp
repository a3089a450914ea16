#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "paceline/base/result.hpp"
#include "paceline/sched/straggler_detector.hpp"

namespace paceline::testing {

/// What the ranks of a real job measured in each step, from the telemetry that it left.
class RecordedJob {
 public:
  /// Of a run whose ranks were the same from beginning to end; those of one worker each. Errors: not_found,
  /// there is no telemetry; invalid_argument, no step that all workers have.
  [[nodiscard]] static Result<RecordedJob> read(const std::string& run_dir);

  [[nodiscard]] std::size_t steps() const noexcept { return steps_.size(); }
  [[nodiscard]] std::size_t ranks() const noexcept { return ranks_; }

  /// Something that is made slower than it was.
  struct Slowed {
    double from_s = 0, until_s = 0;  ///< after the first step that is played
    int rank = -1;                   ///< -1: all
    double factor = 1;               ///< of forward, backward and the optimizer
  };
  using TakeEvent = std::function<void(double at_s, const StragglerEvent& event)>;
  /// Plays its steps from `first` on for so many seconds, all ranks on one node, and asks the detector ten
  /// times a second. Ranks wait for who is slowed as they would have.
  void play(std::size_t first, double seconds, const Slowed& slowed, const StragglerRules& rules,
            const TakeEvent& take) const;

 private:
  struct RankStep {
    std::int64_t grains = 0;
    double data_s = 0, forward_s = 0, backward_s = 0, reduce_s = 0, commit_s = 0, optimizer_s = 0;
    double cpu_s = 0;
    [[nodiscard]] double own_s() const noexcept { return data_s + forward_s + backward_s + optimizer_s; }
  };
  struct Step {
    double took_s = 0;  ///< to the beginning of the next, of rank 0
    std::vector<RankStep> ranks;
  };
  std::size_t ranks_ = 0;
  std::vector<Step> steps_;
};

}  // namespace paceline::testing
