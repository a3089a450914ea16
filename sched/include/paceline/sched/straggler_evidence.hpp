#pragma once

#include <cstddef>
#include <cstdint>

#include "paceline/sched/cost_estimate.hpp"

namespace paceline {

/// When deviations that last are one that counts.
///
/// Each value says by how much a rank is off, x, with noise of standard deviation sigma. A cumulative sum
/// adds the logarithm of how much likelier x is if the rank is off by `rejectable` than if it is off by
/// `acceptable`, which for normal noise is (r - a) / sigma^2 * (x - (a + r) / 2), and never falls below 0
/// (Page, "Continuous inspection schemes", Biometrika 41, 1954). At `limit` the rank counts as off. By Lorden
/// ("Procedures for reacting to a change in distribution", Annals of Mathematical Statistics 42, 1971) a rank
/// that is off by no more than `acceptable` gets there once in e^limit values or more seldom.
struct DeviationRule {
  double acceptable = 0;
  double rejectable = 0;
  double limit = 0;
  int least_values = 1;  ///< a value counts for no more than that one of so many can
  double least_s = 0;    ///< for which it has lasted
};

/// A cumulative sum. It stays between 0 and its limit, so that an end is seen as soon as a beginning.
class DeviationSum {
 public:
  /// `at_s` on any clock that doesn't go back: when what the value is of began.
  void observe(const DeviationRule& rule, double value, double sigma, double at_s);
  /// The most that a value can say against it.
  void refute(const DeviationRule& rule);
  void reset() { *this = {}; }

  /// Enough has gathered by `now_s`.
  [[nodiscard]] bool complete(const DeviationRule& rule, double now_s) const noexcept {
    return sum_ >= rule.limit && now_s - since_s_ >= rule.least_s;
  }
  [[nodiscard]] double sum() const noexcept { return sum_; }
  [[nodiscard]] std::size_t run() const noexcept { return run_; }  ///< values since it was last 0
  /// Since when, as far as that can be told (the estimate that belongs to Page's test); while run() > 0.
  [[nodiscard]] double since_s() const noexcept { return since_s_; }
  /// From now on, it takes values nearer to `acceptable` to bring it back to 0.
  void hold(bool held) noexcept { held_ = held; }

 private:
  void add(const DeviationRule& rule, double evidence, double at_s);

  double sum_ = 0, since_s_ = 0;
  std::size_t run_ = 0;
  bool held_ = false;
};

/// What is known of one quantity of one rank: what is usual for it, and how it compares with its peers.
/// Bounded in size. Not thread-safe.
class DeviationSeries {
 public:
  /// `value`, whose usual size is learnt, is off from the peers' by `off`; both finite. `least_sigma` above
  /// 0.
  void observe(const DeviationRule& sudden, const DeviationRule& lasting, double least_sigma, double value,
               double off, double at_s);
  /// The same where there are no peers, or they are not to be compared: learns, and no more.
  void learn(double value);
  /// What was usual is so no longer.
  void forget_level() noexcept { level_count_ = 0; }
  /// The recent is usual from now on.
  void accept();
  void hold(bool held) noexcept;
  /// While something lasts that isn't to become usual.
  void freeze(bool frozen) noexcept { frozen_ = frozen; }

  DeviationSum sudden, lasting;

  /// What is usual is known.
  [[nodiscard]] bool mature() const noexcept { return level_count_ >= least_history; }
  [[nodiscard]] double level() const noexcept { return level_; }
  /// By how much its last values are over what is usual for it.
  [[nodiscard]] double over_level(std::size_t most) const { return values_.median(most) - level_; }
  [[nodiscard]] double recent_off(std::size_t most) const { return offs_.median(most); }
  [[nodiscard]] double last_off() const noexcept { return last_off_; }
  [[nodiscard]] double mean_off() const noexcept { return mean_off_; }
  /// The noise from one value to the next, and with that from minute to minute.
  [[nodiscard]] double jumping_sigma(double least) const noexcept;
  [[nodiscard]] double wandering_sigma(double least) const noexcept;
  [[nodiscard]] std::int64_t count() const noexcept { return count_; }

 private:
  static constexpr std::int64_t least_history = 20;
  void learn_noise(double off);

  RecentMedian values_, offs_;
  double level_ = 0;  ///< what is usual for it
  std::int64_t level_count_ = 0, count_ = 0;
  double mean_off_ = 0, last_off_ = 0;
  double jump_ = 0;    ///< mean absolute difference of one value from the one before
  double wander_ = 0;  ///< mean absolute distance from the mean
  bool frozen_ = false;
};

}  // namespace paceline
