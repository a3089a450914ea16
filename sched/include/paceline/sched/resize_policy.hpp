#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "paceline/base/clock.hpp"

namespace paceline {

/// What a job's number of ranks is chosen for.
enum class ResizeObjective {
  none,        ///< the policy always holds
  throughput,  ///< most samples per second, as long as each further rank brings something
  efficiency,  ///< most ranks whose scaling efficiency is at least a floor
  deadline,    ///< fewest ranks that finish in time
  cost,        ///< least price per sample, not slower than a bound
  energy,      ///< least joules per sample, not slower than a bound
};
[[nodiscard]] const char* name_of(ResizeObjective objective) noexcept;
[[nodiscard]] std::optional<ResizeObjective> resize_objective(const std::string& name);

/// What to decide by. The first block is the job file's; of the rest docs/resizing.md has the reasons.
struct ResizeRules {
  ResizeObjective objective = ResizeObjective::none;
  double least_efficiency = 0.7;  ///< efficiency: floor of E(N) = T(1) / (N T(N))
  double deadline_s = 0;          ///< deadline: the whole job's time, from the beginning of the run
  double most_slowdown = 2;       ///< cost, energy: a step takes at most so many times the fastest size's
  std::map<std::string, double> prices;   ///< cost: per rank and hour, by kind of node
  std::map<std::string, double> power_w;  ///< energy: per rank, by kind of node, where it isn't measured
  double dwell_s = 30;                    ///< least time between two changes of ranks, whoever made them

  /// Gain of the objective's score that must be expected of a change, at least; its lower bound must be above
  /// 0.
  double least_gain = 0.015;
  double least_marginal_efficiency = 0.02;  ///< throughput: of ranks that are added, at the lower bound
  /// throughput: ranks that bring less than this, at the upper bound, are given back.
  double shrink_marginal_efficiency = 0;
  double deadline_margin = 0.1;         ///< part of the time left that is kept in reserve
  double deadline_shrink_margin = 0.2;  ///< the same for giving ranks back
  double bound_slack = 0.05;  ///< a present size that misses floor or bound by so small a part is let be
  /// A size may be tried with no resize left for coming back if it loses so much at worst, or so many times
  /// what it is expected to win.
  double risk = 0.03, risk_per_gain = 2;
  double horizon_s = 600;           ///< a gain is not counted on for longer
  std::int64_t measure_steps = 20;  ///< committed at a size before the next decision
  std::int64_t most_resizes = 3;    ///< within `rate_window_s`
  double rate_window_s = 3600;
  /// Once the policy has made `most_resizes` changes in all, a gain must be so large: what is left by then is
  /// noise, or small.
  double late_gain = 0.05;
  std::int64_t most_explorations = 2;  ///< resizes for the sake of knowing; see ResizeState::explorations
  double explore_gain = 0.01;          ///< expected improvement from which on a size is explored
  /// A step may at worst take so many times the present one's, at a size more than twice or less than half
  /// the present one.
  double explore_slowdown = 4;
  double explore_factor = 4;  ///< sizes further away, as a ratio of ranks, are not tried in one go
  double breaker_s = 60;      ///< of rest after a resize that failed; doubles with each
  double most_breaker_s = 3600;
  double resize_timeout_s = 120;  ///< beyond what getting a rank takes; then the resize has failed
  double disappointment = 0.5;  ///< a resize that brings less than this part of what was predicted has failed
  double by_hand_s = 1800;      ///< a size that a person asked for is left alone for so long
  double longest_gap_s = 60;    ///< between two calls; more, or backwards, is a clock that jumped
};

/// Nothing, or what is wrong with the rules in one sentence without a full stop.
[[nodiscard]] std::string fault_of(const ResizeRules& rules);

/// What a step takes at a size, from the efficiency model.
struct SizeForecast {
  std::int64_t ranks = 0;
  double step_ms = 0;
  double low_ms = 0, high_ms = 0;  ///< between them it lies nine times out of ten
  bool visited = false;            ///< it was measured at this size
  friend bool operator==(const SizeForecast&, const SizeForecast&) = default;
};

/// Places on nodes of one kind ("cpu", or the name of a GPU).
struct NodeKind {
  std::string name;
  std::int64_t places = 0;
  std::optional<double> power_w{};  ///< per rank, as measured; goes before the job file's
  friend bool operator==(const NodeKind&, const NodeKind&) = default;
};

/// All that is known at one moment.
struct ResizeFacts {
  std::int64_t ranks = 0;  ///< that train: the allocation A
  std::int64_t wish = 0;   ///< that the job is to have
  std::int64_t min_ranks = 1, max_ranks = 1;
  std::int64_t places = 0;      ///< on nodes that are there: the capacity S
  bool can_ask = false;         ///< for more places
  double rank_lead_s = 0;       ///< from asking for a rank to its first step, where a place must be got first
  double pause_s = 0;           ///< in which no rank trains because of a resize
  std::int64_t step = 0;        ///< committed
  std::int64_t steps_left = 0;  ///< of the job
  double elapsed_s = 0;         ///< since the run began
  bool changing = false;        ///< ranks are being changed, or one is being replaced
  std::optional<std::int64_t> silent_rank{};  ///< that reports nothing
  std::vector<SizeForecast> forecasts{};      ///< by ascending ranks; one of 1 rank is welcome as a base
  /// In the order in which ranks are placed: N ranks use the first N places. Of the last kind are also the
  /// places that would be asked for. Needed for cost and energy.
  std::vector<NodeKind> kinds{};
  friend bool operator==(const ResizeFacts&, const ResizeFacts&) = default;
};

enum class ResizeVerdict { hold, grow, shrink };
[[nodiscard]] const char* name_of(ResizeVerdict verdict) noexcept;
[[nodiscard]] std::optional<ResizeVerdict> resize_verdict(const std::string& name);

/// The kind of a reason.
enum class ResizeCause {
  no_objective,
  bad_input,             ///< facts or rules that can't be
  clock_jumped,          ///< backwards, or too far
  silent_rank,           ///< what it takes is not known
  changing,              ///< the last change is not over yet
  by_hand,               ///< a person chose the size, not long ago
  measuring,             ///< too few steps at this size
  dwell,                 ///< a size would be better, but the last change was too short a time ago
  rate_limit,            ///< a size would be better, but there were too many changes
  breaker,               ///< a size would be better, but resizes failed, or brought too little
  shortage,              ///< a size would be better, and places for it are lacking
  best,                  ///< no size is better by enough
  uncertain,             ///< one might be, but the forecast isn't sure, and may not be tried
  does_not_pay,          ///< one is, but the change costs more than it saves
  pays,                  ///< change: that size is better
  explores,              ///< change: that size may be better, and is tried
  meets_bound,           ///< efficiency, cost, energy: change, the present size is outside floor or bound
  meets_deadline,        ///< deadline: change, to the fewest ranks in time
  deadline_past,         ///< hold
  deadline_unreachable,  ///< by any size: hold or change, for the fastest one
};
[[nodiscard]] const char* name_of(ResizeCause cause) noexcept;
[[nodiscard]] std::optional<ResizeCause> resize_cause(const std::string& name);

/// A size with what speaks for it.
struct ResizeCandidate {
  std::int64_t ranks = 0;
  double step_ms = 0;
  /// throughput: steps per second; efficiency: E(N); deadline: time left over time needed, at the upper
  /// bound of a step; cost: steps per unit of price; energy: steps per kJ.
  double score = 0;
  /// Of the score over the present size's, as a part of that; efficiency and deadline: of steps per second.
  double gain = 0;
  double gain_low = 0, gain_high = 0;  ///< bounds of it
  /// Throughput that each added rank brings, at least, or each one that is given back, at most, over that of
  /// one rank alone.
  double marginal_efficiency = 0;
  /// Of a size that was not visited: the mean of what it gains over the best one that was, taking none where
  /// it is worse.
  double expected_improvement = 0;
  double saves_s = 0;     ///< within the horizon, at the lower bound, the pause not counted
  bool eligible = false;  ///< may be chosen
  std::string against;    ///< why not, or why another is better; empty for the chosen one
  friend bool operator==(const ResizeCandidate&, const ResizeCandidate&) = default;
};

/// What the policy remembers between calls: plain values, so that a record of them is enough to go on, or to
/// decide again. Times are seconds of the caller's clock.
struct ResizeState {
  /// A resize that was asked for, until it is known what it brought.
  struct Trial {
    std::int64_t from = 0, to = 0;
    double from_ms = 0, predicted_ms = 0;  ///< of a step
    double asked_s = 0;
    bool exploring = false;
    bool arrived = false;  ///< the job has that size
    friend bool operator==(const Trial&, const Trial&) = default;
  };
  struct Departure {
    std::int64_t from = 0, to = 0;
    double at_s = 0;
    bool exploring = false;
    friend bool operator==(const Departure&, const Departure&) = default;
  };
  std::optional<double> now_s{};    ///< of the last call; none: there was none
  double elapsed_s = 0;             ///< then, with the correction
  double elapsed_correction_s = 0;  ///< to the job's time, whose clock was set
  std::int64_t ranks = 0;           ///< then
  std::int64_t wish = 0;            ///< then, or what was decided then
  double changed_s = 0;             ///< when ranks changed last, or were changing
  std::int64_t changed_step = 0;
  std::int64_t most_places = 0;  ///< places or max_ranks that there have been; more allows exploring again
  std::int64_t explorations = 0;
  std::optional<Trial> trial{};
  std::vector<Departure> resizes;  ///< by the policy, within the rate window
  std::int64_t made = 0;           ///< resizes by the policy, since sizes could last be explored anew
  std::int64_t reversals = 0;      ///< returns to a size that was left; each doubles the gain that is asked
  std::int64_t failures = 0;       ///< in a row
  double closed_until_s = 0;       ///< the circuit breaker: no resizes before
  bool closed_by_failure = false;  ///< a resize failed; else it brought too little, and returning is allowed
  double by_hand_until_s = 0;
  friend bool operator==(const ResizeState&, const ResizeState&) = default;
};

/// A decision with what it was made from.
struct ResizeDecision {
  ResizeRules rules;
  double now_s = 0;
  ResizeFacts facts;
  ResizeState before;
  ResizeVerdict verdict = ResizeVerdict::hold;
  ResizeCause cause = ResizeCause::no_objective;
  std::int64_t target = 0;      ///< ranks that the job is to have; with `hold` the wish
  std::int64_t demand = 0;      ///< D: ranks that the objective calls for when a rank can be there
  std::int64_t allocation = 0;  ///< A
  std::int64_t capacity = 0;    ///< S
  /// D <= A <= S, or: how many ranks are lacking of the demand (D - A), or places of the allocation (A - S).
  std::int64_t shortage = 0;
  std::vector<ResizeCandidate> candidates;  ///< by ascending ranks; none where it wasn't come to
  std::optional<std::int64_t> runner_up{};  ///< ranks of the best of those that were not chosen
  std::string reason;                       ///< for people: one sentence without a full stop
  ResizeState after;
};

/// Decides how many ranks a job is to have. A function of its arguments and nothing else: the same rules,
/// state, time and facts give the same decision, which is what replaying a journal relies on.
[[nodiscard]] ResizeDecision decide_resize(const ResizeRules& rules, const ResizeState& state, double now_s,
                                           const ResizeFacts& facts);

/// Whether `next` is worth a line in the journal: it changes something, or holds for another kind of reason
/// or with another shortage than the one before.
[[nodiscard]] bool is_news(const ResizeDecision& before, const ResizeDecision& next);

/// The sizes for which forecasts are wanted: all of a small range, and of a large one enough that neighbours
/// differ by a sixteenth at most; 1, `ranks` and both ends of the range are among them.
[[nodiscard]] std::vector<std::int64_t> candidate_sizes(std::int64_t min_ranks, std::int64_t max_ranks,
                                                        std::int64_t ranks);

/// decide_resize with the state kept. Call it about once a second. Not thread-safe; memory is bounded.
class ResizePolicy {
 public:
  explicit ResizePolicy(ResizeRules rules) : rules_(std::move(rules)) {}
  /// Goes on from what another, on another clock, remembered at the time `then_s` of that.
  ResizePolicy(ResizeRules rules, const ResizeState& state, double then_s, Instant now);

  [[nodiscard]] ResizeDecision decide(Instant now, const ResizeFacts& facts);
  [[nodiscard]] const ResizeRules& rules() const noexcept { return rules_; }
  [[nodiscard]] const ResizeState& state() const noexcept { return state_; }

 private:
  ResizeRules rules_;
  ResizeState state_;
};

}  // namespace paceline
