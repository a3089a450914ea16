#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "paceline/base/result.hpp"
#include "paceline/sched/step_law.hpp"

namespace paceline {

/// What was measured over some committed steps of one size, warm-up left out.
struct SizeObservation {
  JobSize size;
  std::int64_t steps = 0;  ///< that the means are over
  double compute_ms = 0;   ///< forward and backward of the slowest rank
  /// From the end of its backward to the end of the reduction, of the rank that waits least: the others' has
  /// their waiting for the slowest in it.
  double exposed_reduce_ms = 0;
  double step_ms = 0;            ///< from commit to commit
  double step_deviation_ms = 0;  ///< standard deviation of one step
};

/// A value that lies between `low` and `high` with a probability of EfficiencyRules::confidence.
struct Estimate {
  double value = 0;  ///< the median
  double low = 0;
  double high = 0;
};

struct SizePrediction {
  JobSize size;
  Estimate step_ms;
  Estimate compute_ms;  ///< of that
  Estimate exposed_ms;  ///< of that: synchronisation that computing doesn't hide
  Estimate samples_per_second;
  Estimate efficiency;   ///< E(N): throughput over N times that of one rank with the same global batch
  bool visited = false;  ///< this very size was observed
};

/// The coefficients of StepLaw. What no visited size tells anything of is a guess from the others, with a
/// wide band.
struct StepCoefficients {
  Estimate fixed_ms, ms_per_sample, rest_ms;
  Estimate alpha_local_ms, beta_local_ms, alpha_node_ms, beta_node_ms;
  Estimate moving, gamma;
  StepLaw law;                  ///< the most probable set of them that go together
  bool local_measured = false;  ///< a size with several ranks on a node was visited
  bool node_measured = false;   ///< a size with several nodes was visited
};

/// Reasons and figures are in docs/efficiency.md.
struct EfficiencyRules {
  double confidence = 0.9;         ///< that a value is within its band
  std::int64_t grain_samples = 1;  ///< shares are whole grains: the slowest rank's is rounded up to one
  double least_error = 0.01;       ///< of a mean, relative: two runs of the same size differ by as much
  double drift_per_hour = 0.03;    ///< relative: of what was measured an hour of training ago
  double form_error = 0.04;        ///< relative: of any law, a doubling away from what was visited
};

/// Predicts how long a step takes with other ranks, nodes and batches, from the sizes that a job has had, by
/// a StepLaw that is fitted to them.
///
/// The fit is Bayesian: priors for what typical jobs are like, least squares for what was measured. It yields
/// many laws that are as likely one as the other; every figure is a quantile over them, so that ratios of
/// times know what their errors have in common. docs/efficiency.md.
///
/// The state is a function of what was observed: no clock, no randomness; some 15 KiB. Const functions can be
/// called from several threads at once.
class EfficiencyModel {
 public:
  explicit EfficiencyModel(const EfficiencyRules& rules = {});

  /// Takes what was measured and fits again, some milliseconds. What makes no sense (NaN, negative, parts
  /// longer than the step, more nodes than ranks) is refused by name and changes nothing. Of a size that
  /// was seen before the new counts more the longer ago that is, and the more it differs.
  Status observe(const SizeObservation& observation);

  /// Sizes observed so far, 0: nothing can be predicted.
  [[nodiscard]] std::size_t sizes() const noexcept { return visits_.size(); }

  /// For any size, visited or not. An error: nothing was observed yet, or the size makes no sense.
  [[nodiscard]] Result<SizePrediction> predict(const JobSize& size) const;
  /// The same for several, in their order; the first error ends it.
  [[nodiscard]] Result<std::vector<SizePrediction>> predict(const std::vector<JobSize>& sizes) const;

  /// Throughput that each rank from `from` to `to` adds, over the throughput of one rank alone with the batch
  /// of `from`: 1 is perfect, below 0 the job gets slower. `to` has more ranks.
  [[nodiscard]] Result<Estimate> marginal_efficiency(const JobSize& from, const JobSize& to) const;
  /// Weak scaling: a step of one rank with its part of the batch, over the step of `size`.
  [[nodiscard]] Result<Estimate> weak_efficiency(const JobSize& size) const;

  /// An error: nothing was observed yet.
  [[nodiscard]] Result<StepCoefficients> coefficients() const;

 private:
  /// What is known of a size.
  struct Visit {
    double compute_ms = 0, exposed_ms = 0, step_ms = 0;
    double variance = 0;    ///< of a mean, relative
    double training_s = 0;  ///< of the model's, when it was observed last
    double slowdown = 0;    ///< then
  };
  void merge(const SizeObservation& observation, double variance, Visit& visit);
  [[nodiscard]] double error_of(const Visit& visit) const noexcept;
  void forget_least_known();
  void fit();

  [[nodiscard]] Status can_predict(const JobSize& size) const;
  [[nodiscard]] double doublings_away(const JobSize& size) const;
  [[nodiscard]] std::vector<double> step_times(const JobSize& size) const;
  [[nodiscard]] Estimate estimate(std::vector<double> values) const;

  EfficiencyRules rules_;
  std::map<JobSize, Visit> visits_;
  std::vector<LikelyLaw> laws_;  ///< as likely one as the other, the first is the most probable
  double training_s_ = 0;        ///< observed so far
  /// Sum of what sizes that were observed again had changed, as logarithms: a visit's figures are doubtful
  /// by what this is away from what it was then, and good again when it returns.
  double slowdown_ = 0;
};

}  // namespace paceline
