#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "paceline/sched/coordinator.hpp"
#include "paceline/sched/cost_estimate.hpp"
#include "paceline/sched/rebalancer_shares.hpp"

namespace paceline {

/// A rank's place in the plan.
struct RankShare {
  WorkerId worker = 0;
  std::int64_t grains = 0;  ///< per step, at least 1
  friend bool operator==(const RankShare&, const RankShare&) = default;
};

/// What a rank says of a step that was committed. Times that aren't finite, or are negative or longer than a
/// month, or a computation that took no time, make the whole report one that says nothing.
struct StepReport {
  WorkerId worker = 0;
  std::int64_t grains = 0;  ///< that it worked on: its share, but in a short step
  double compute_ms = 0;    ///< forward and backward, with no waiting for others in it
  double data_wait_ms = 0;
  double exposed_reduce_ms = 0;   ///< from the end of its backward to the end of the reduction
  std::vector<double> stages_ms;  ///< of a pipeline: what each stage computed; none: there is one
};

/// When to move grains. The defaults were chosen together: docs/rebalancing.md.
struct RebalanceRules {
  CostRules cost;
  double least_gain = 0.03;  ///< of the step's time; less is not worth the movement
  /// In standard errors of the prediction: a gain below it may be noise.
  double least_certainty = 2;
  /// The more ranks, the further off is the one that seems slowest by chance: the certainty is so many times
  /// greater for each factor of e in ranks.
  double certainty_growth = 0.1;
  std::int64_t most_factor = 2;  ///< a share is at most so many times, or so many parts, of what it was
  /// A move within so many steps of the one before, that takes most of it back, is a reversal. After each
  /// the least gain is `backoff` times as large, until none has come for `backoff_steps`.
  std::int64_t reversal_steps = 10;
  double backoff = 2;
  std::int64_t most_backoffs = 3;
  std::int64_t backoff_steps = 50;
  std::int64_t horizon_steps = 100;  ///< a gain is not counted on for longer
  std::int64_t fixed_steps = 3;      ///< after a move, from which the fixed part is learnt
  /// Meanwhile, as a second move would spoil what the first one tells, if it isn't worth that; and while a
  /// cost seems to be changing.
  double least_gain_measuring = 0.1;
  /// Of a gain and the steps for which it has been there, together: what has just come may go as soon.
  double lasting_gain = 0.6;
  double uneven_stages = 1.1;  ///< the slowest stage over the mean, from which on stages are uneven
};

/// What the rebalancer can't know.
struct RebalanceOutlook {
  std::int64_t step = 0;             ///< the next one
  std::int64_t remaining_steps = 0;  ///< of the job, with that
  double move_cost_ms = 0;           ///< once, for new plans and what loaders have prepared in vain
};

enum class RebalanceVerdict {
  move,           ///< to `after`
  balanced,       ///< the gain would be too small
  stages_uneven,  ///< the same, and the slowest stage of a pipeline is why: moving layers would help
  data_bound,     ///< the same, and the slowest rank waits for data most of the time
  network_bound,  ///< the same, and the reduction takes most of the step
  noise,          ///< the gain may be one of the estimate only
  backing_off,    ///< moves were taken back lately, and the gain is not large enough for another
  does_not_pay,   ///< it costs more than it saves in the steps that are left, or can be foreseen
  unknown_rank,   ///< a rank's last report says nothing, or there was none yet
  move_pending,   ///< the last step's plan was another one
  measuring,      ///< what it would come to is too new, or just being measured, for a gain of that size
  no_choice,      ///< one rank, or a grain for each and no more
};
[[nodiscard]] const char* name_of(RebalanceVerdict verdict) noexcept;

/// A decision with what it was made from.
struct RebalanceDecision {
  std::int64_t step = 0;  ///< from which on it holds
  RebalanceVerdict verdict = RebalanceVerdict::no_choice;
  std::vector<RankShare> before;
  /// The best plan within one move, which verdict `move` takes. Empty where none was looked for.
  std::vector<RankShare> after;
  std::vector<RankTime> inputs;    ///< what was assumed of each rank, in the order of `before`
  double predicted_before_ms = 0;  ///< a step with `before`
  double predicted_after_ms = 0;   ///< a step with `after`
  double gain = 0;                 ///< what a step gets shorter, as a part of it
  double gain_error = 0;           ///< the standard error of that
  double gain_needed = 0;          ///< the greatest of what was asked of it
  double saves_ms = 0;             ///< in the steps it was counted on for
  double move_cost_ms = 0;
  std::optional<WorkerId> worker;  ///< whom the reason is about: the slowest, or the unknown one
  /// For people: one sentence without a full stop. It calls workers ranks, for whoever numbers them so.
  std::string reason;
};

/// Decides how many grains each rank gets per step, from what the ranks report.
///
/// A rank's time is wait + cost * (grains + fixed): `wait` for its data, which its share does not change;
/// `cost` per grain, followed by a CostEstimate; `fixed`, in grains, what a pass takes however small it is.
/// `fixed` is one number for all ranks, since what slows a rank down mostly slows both; it is learnt from
/// what moves did to times, each weighed by how exactly these are known. The step is as long as its slowest
/// rank, and the reduction that this rank still has to wait for. Never is the raw step time used: at balance
/// all ranks' are equal, and a law that follows it leaves the balance as soon as it is there.
///
/// The state is a function of what was observed, so that whoever observes the same, a successor of the
/// coordinator, decides alike. Not thread-safe; no time, no randomness, memory is about a
/// kilobyte for each rank.
class Rebalancer {
 public:
  explicit Rebalancer(const RebalanceRules& rules = {}) : rules_(rules) {}

  /// A step was committed under `plan`, which names each worker once. Steps come in ascending order, gaps are
  /// right; one that is not later than the last is ignored. Workers that are new to the plan are taken for
  /// the median of the others until they report; those that left are forgotten. Who is not in the plan is
  /// not heard. Of a worker without exactly one report nothing is known in this step.
  void observe(std::int64_t step, const std::vector<RankShare>& plan, const std::vector<StepReport>& reports);

  /// What to do about `plan`, the newest there is. Changes nothing: the move is known from the plans of later
  /// steps.
  [[nodiscard]] RebalanceDecision decide(const std::vector<RankShare>& plan,
                                         const RebalanceOutlook& outlook) const;

  /// `grains` (at least one for each) over workers that begin anew, by what is known of them: where nothing
  /// is, evenly.
  [[nodiscard]] std::vector<RankShare> split(const std::vector<WorkerId>& workers, std::int64_t grains) const;

  /// Of a worker; null: it is not in the plan.
  [[nodiscard]] const CostEstimate* cost_of(WorkerId worker) const;
  /// The fixed part, in grains.
  [[nodiscard]] double fixed_grains() const noexcept { return fixed_grains_; }

 private:
  struct Rank {
    explicit Rank(const CostEstimate& known) : cost(known) {}
    CostEstimate cost;        ///< per grain, in ms
    std::int64_t grains = 0;  ///< its share in the last step
    bool silent = true;       ///< its last report said nothing
    RecentMedian data_wait_ms, exposed_reduce_ms;
    RecentMedian stage_ratio;  ///< the slowest stage over the mean; 0: there is one stage
    // For the fixed part: the time at the share before the last move, and what came after.
    double before_ms = 0, before_error = 0;  ///< the latter relative to the former
    std::int64_t before_grains = 0;
    double after_ms = 0;  ///< summed up
  };
  using Ranks = std::map<WorkerId, Rank>;

  bool take_plan(const std::vector<RankShare>& plan);
  [[nodiscard]] CostEstimate median_cost() const;
  void note_move(std::int64_t step, const std::vector<RankShare>& plan);
  bool take_report(const StepReport& report, Rank& rank) const;
  void learn_fixed_part();
  [[nodiscard]] std::int64_t backoffs_at(std::int64_t step) const noexcept;

  [[nodiscard]] std::vector<RankTime> times_of(const std::vector<RankShare>& plan) const;
  bool cannot_decide(RebalanceDecision& decision) const;
  void predict(RebalanceDecision& decision) const;
  [[nodiscard]] std::array<const CostEstimate*, 2> decisive_costs(const RebalanceDecision& decision) const;
  void judge(RebalanceDecision& decision, const RebalanceOutlook& outlook) const;
  void explain_balance(RebalanceDecision& decision) const;
  [[nodiscard]] double network_ms() const;

  RebalanceRules rules_;
  Ranks ranks_;
  std::int64_t last_step_ = -1;
  double fixed_grains_ = 0;
  std::int64_t steps_since_move_ = 0;  ///< whole steps that all reported; 0 also: nothing to learn from
  bool learning_ = false;              ///< the last move's effect is being measured
  // For the fixed part: what each move says of it, summed up, and the sum of their weights.
  double fixed_sum_ = 0, fixed_weight_ = 0;
  std::int64_t last_move_step_ = -1;
  std::map<WorkerId, std::int64_t> last_move_;  ///< grains gained by each worker
  std::int64_t reversals_ = 0, last_reversal_step_ = 0;
};

}  // namespace paceline
