#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace paceline {

/// How a cost is followed. docs/rebalancing.md says what each does to measured traces, and around it.
struct CostRules {
  /// Of a new value, once many are known: a mean of some 20. Fewer follow the noise, more are late.
  double weight = 0.1;
  double deviation_weight = 0.05;  ///< the same for the deviation: it changes less often than the cost does
  double first_deviation = 0.1;    ///< until values tell
  /// After a change at most: much of what seemed noise before may have been the change.
  double most_deviation_then = 0.08;
  double least_sigma = 0.02;  ///< no timing is more exact than that
  /// In standard deviations: a value moves the level, and one moves the sums below, by no more. A single
  /// step, however long, is then never a change.
  double outlier = 5;
  double outlier_in_sums = 3.5;
  double slack = 1;  ///< in standard deviations: a shift below this is left to the level
  /// Sums beyond which a cost counts as changed: three bad steps (two, after one that was above the usual
  /// noise), and six good ones. A share that is too large keeps all ranks waiting, one that is too small only
  /// this rank: bad news is believed sooner.
  double slower_after = 5;
  double faster_after = 14.9;
};

/// Medians of the last few values: a single great one doesn't show.
class RecentMedian {
 public:
  void observe(double value);
  void rescale(double factor);
  [[nodiscard]] std::size_t count() const noexcept { return count_; }  ///< that are kept
  /// The value before so many others, less than count().
  [[nodiscard]] double last(std::size_t before) const;
  /// Of the last `most` values, or as many as are kept; 0 of none.
  [[nodiscard]] double median(std::size_t most = 8) const;
  /// The median distance from that median.
  [[nodiscard]] double scatter(std::size_t most = 8) const;

 private:
  static constexpr std::size_t kept = 16;
  std::array<double, kept> values_{};  ///< a ring
  std::size_t count_ = 0, next_ = 0;
};

/// A positive quantity that stays the same but for noise, and sometimes changes at once.
///
/// Its *level* is an exponentially weighted mean, which begins as a plain one; its *deviation* the weighted
/// mean of what values differ from the level, relative to it. What values are above and below the level, in
/// standard deviations and less the slack, is summed up (cumulative sums: Page, "Continuous inspection
/// schemes", Biometrika 41, 1954). A sum beyond its limit is a change: the level starts again, as the median
/// of the last values, as many as would bring the sum there by themselves.
///
/// The state is a function of the values alone. Not thread-safe.
class CostEstimate {
 public:
  explicit CostEstimate(const CostRules& rules)
      : rules_(rules),
        deviation_(rules.first_deviation),
        slower_{.sign = 1, .limit = rules.slower_after},
        faster_{.sign = -1, .limit = rules.faster_after, .keeps_reference = true} {}
  /// Of which nothing is known yet, but that others have this level and deviation.
  [[nodiscard]] static CostEstimate assumed(const CostRules& rules, double level, double deviation);

  /// `value` finite and above 0.
  void observe(double value);
  /// The unit has changed: everything known is to be multiplied by `factor`, above 0.
  void rescale(double factor);

  /// Values since the level last started; 0: it is assumed, or nothing.
  [[nodiscard]] std::int64_t count() const noexcept { return count_; }
  [[nodiscard]] double level() const noexcept { return level_; }  ///< 0: nothing is known
  [[nodiscard]] double deviation() const noexcept { return deviation_; }
  /// The level and its usual deviation: since a step waits for the slowest rank, a noisy one needs room.
  [[nodiscard]] double cautious() const noexcept { return level_ * (1 + deviation_); }
  /// The standard error of the level, relative to it.
  [[nodiscard]] double error() const noexcept;
  /// The same of a plain mean of so many values.
  [[nodiscard]] double error_of(std::int64_t values) const noexcept;
  /// The last values were all beyond what noise usually is, too few yet to be a change: the level is on its
  /// way. By chance alone the one happens now and then, as little is asked for, and the other hardly ever.
  [[nodiscard]] bool may_be_slower() const noexcept;
  [[nodiscard]] bool may_be_faster() const noexcept;
  /// Changes that were noticed so far.
  [[nodiscard]] std::int64_t changes() const noexcept { return changes_; }

 private:
  /// What has gathered on one side of the level.
  struct Side {
    double sign = 1;   ///< -1: below
    double limit = 0;  ///< of the sum
    /// Values are held against the level and the noise from when the sum began. Those of now follow the
    /// change itself, which would hide it where it takes many values to be believed.
    bool keeps_reference = false;
    double sum = 0;
    std::size_t run = 0;          ///< values since the sum was last zero
    double level = 0, sigma = 0;  ///< what values are held against
  };
  [[nodiscard]] double sigma() const noexcept;
  /// What a value adds to the sum.
  [[nodiscard]] double beyond(const Side& side, double value) const;
  /// Adds it; whether that makes it a change.
  bool gather(Side& side, double value) const;
  [[nodiscard]] std::size_t decisive(const Side& side) const;
  void restart_from(std::size_t values);

  CostRules rules_;
  std::int64_t count_ = 0;
  double level_ = 0;
  double deviation_;
  double variance_ = 1;  ///< of the level, in variances of one value
  Side slower_, faster_;
  RecentMedian recent_;
  std::int64_t changes_ = 0;
};

}  // namespace paceline
