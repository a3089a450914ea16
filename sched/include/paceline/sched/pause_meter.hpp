#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

namespace paceline {

/// How long no step is committed because ranks change, from the times of commits: the longest gap between two
/// of them near a change, beyond what a step takes anyway. A gap in which an epoch ends is not looked at, for
/// there is an evaluation in it. Not thread-safe.
class PauseMeter {
 public:
  /// The ranks are about to change, or have just changed.
  void changed() noexcept {
    finish();
    changing_ = true;
    longest_s_ = 0;
    watched_ = 0;
  }

  /// A commit, in order; times of the committing rank's clock.
  void committed(double time_s, std::int64_t epoch) noexcept {
    const double gap_s = time_s - last_s_;
    const bool usable = last_s_ > 0 && epoch == epoch_ && gap_s >= 0 && gap_s <= longest_believed_s;
    last_s_ = std::isfinite(time_s) ? time_s : 0;
    epoch_ = epoch;
    if (!usable) return;
    if (!changing_ || step_s_ == 0) {  // where no step is known yet, no pause can be told
      step_s_ = step_s_ == 0 ? gap_s : step_s_ + weight * (gap_s - step_s_);
      return;
    }
    longest_s_ = std::max(longest_s_, gap_s - step_s_);
    if (++watched_ >= steps_watched) finish();
  }

  /// Of the last change; 0: there was none that could be measured.
  [[nodiscard]] double last_s() const noexcept { return pause_s_; }
  /// Of all changes so far.
  [[nodiscard]] double total_s() const noexcept { return total_s_ + (changing_ ? longest_s_ : 0); }

 private:
  static constexpr double longest_believed_s = 120;  // beyond that a clock was set
  static constexpr double weight = 0.1;
  static constexpr std::int64_t steps_watched = 20;

  void finish() noexcept {
    if (!std::exchange(changing_, false) || longest_s_ <= 0) return;
    pause_s_ = longest_s_;
    total_s_ += longest_s_;
  }

  double last_s_ = 0, step_s_ = 0, longest_s_ = 0, pause_s_ = 0, total_s_ = 0;
  std::int64_t epoch_ = 0, watched_ = 0;
  bool changing_ = false;
};

}  // namespace paceline
