#pragma once

#include <cmath>
#include <cstdint>
#include <optional>

namespace paceline {

/// What a worker has measured of itself, as sums that only grow: those of its telemetry of the same names.
/// What is not finite, or gets less, is not looked at, and the rest is.
struct MeasuredSums {
  std::int64_t steps = 0;
  std::int64_t grains = 0;
  double data_s = 0;
  double forward_s = 0;
  double backward_s = 0;
  double reduce_s = 0;
  double commit_s = 0;
  double optimizer_s = 0;
  double cpu_s = 0;
  std::int64_t wire_bytes = 0;
  double wire_busy_s = 0;
};

/// What a rank did in some consecutive steps. NaN: not known.
struct MeasuredSteps {
  double began_s = 0;  ///< when the steps before were first heard of
  double ended_s = 0;  ///< when these were
  double steps = 0;    ///< above 0
  double grains = 0;
  double data_s = 0, compute_s = 0, optimizer_s = 0;
  double wait_s = 0;  ///< for the other ranks
  double cpu_s = 0;
  double wire_bytes = 0, wire_busy_s = 0;

  /// Its own work on all of them, and that with waiting for the others; what is not known left out.
  [[nodiscard]] double own_s() const noexcept {
    return known(data_s) + known(compute_s) + known(optimizer_s);
  }
  [[nodiscard]] double all_s() const noexcept { return own_s() + known(wait_s); }

 private:
  static double known(double seconds) noexcept { return std::isfinite(seconds) ? seconds : 0; }
};

/// Makes differences of sums that may come late, twice, with gaps, or from a new beginning.
class SumsIntake {
 public:
  /// What happened since the steps that were known, if that is something.
  [[nodiscard]] std::optional<MeasuredSteps> take(const MeasuredSums& sums, double now_s);
  /// What has happened since the steps that are known is of no interest.
  void skip() noexcept { skip_ = true; }

  /// Steps of the process so far.
  [[nodiscard]] std::int64_t steps() const noexcept { return last_ ? last_->steps : 0; }

 private:
  std::optional<MeasuredSums> last_;
  double last_s_ = 0;
  /// Fewer steps than are known: they came late, unless such come again.
  std::optional<MeasuredSums> fewer_;
  bool skip_ = false;
};

}  // namespace paceline
