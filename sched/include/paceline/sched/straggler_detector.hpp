#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "paceline/base/clock.hpp"
#include "paceline/sched/coordinator.hpp"
#include "paceline/sched/straggler_evidence.hpp"
#include "paceline/sched/straggler_intake.hpp"

namespace paceline {

/// A rank's newest heartbeat.
struct RankReport {
  WorkerId worker = 0;
  std::int64_t rank = 0;
  std::string node;
  Instant heard{};
  std::int64_t share = 0;  ///< of the plan, in grains
  MeasuredSums sums;
  std::int64_t slowest_wire_rank = -1;  ///< -1: none
  double slowest_wire_bytes_per_s = 0;
};

enum class StepPart { data, compute, optimizer, wire };
inline constexpr std::size_t step_parts = 4;
[[nodiscard]] const char* name_of(StepPart part) noexcept;

enum class StragglerCause {
  slow_read,       ///< it waits for its samples
  slow_compute,    ///< forward and backward take longer for each grain
  starved,         ///< the same, since it doesn't get its cores
  slow_optimizer,  ///< and this more than the rest of its computing
  slow_wire,       ///< what it sends to other nodes, or they to it, takes longer for each byte
};
[[nodiscard]] const char* name_of(StragglerCause cause) noexcept;

struct StragglerSuspect {
  WorkerId worker = 0;
  std::int64_t rank = 0;
  std::string node;
  friend bool operator==(const StragglerSuspect&, const StragglerSuspect&) = default;
};

/// Of a slow wire, where the ranks could tell.
struct SlowPair {
  std::int64_t from_rank = 0, to_rank = 0;
  double bytes_per_s = 0;
  friend bool operator==(const SlowPair&, const SlowPair&) = default;
};

/// Something that is, or was, out of the ordinary.
struct StragglerEvent {
  enum class Kind { began, ended };
  Kind kind = Kind::began;
  StepPart part = StepPart::compute;
  StragglerCause cause = StragglerCause::slow_compute;
  std::optional<StragglerSuspect> suspect;  ///< none: all ranks alike, and nobody is to blame
  std::optional<SlowPair> pair;
  /// Of slow wires: pairs of nodes that have the blamed one in common. Of 1, the other end may as well be to
  /// blame.
  std::int64_t slow_pairs = 0;
  Instant since{};  ///< of what began; as far as that can be told
  Instant at{};     ///< now: it is believed to be so, or to have ended
  /// How many times as long as for the median of the other ranks (of all ranks: as before) the part takes:
  /// per grain, per step or per byte. Of data, where nothing may be usual: how many times as long as theirs
  /// its own work on a step takes with that wait.
  double ratio = 1;
  double lost_s_per_step = 0;  ///< what the step would be shorter without, where nothing else is slow
  /// For people: one sentence without a full stop. It calls ranks by number, worker and node.
  std::string sentence;
};

/// Why something ended: it is over; all ranks have been so for so long that it is usual; the rank left.
enum class StragglerEnding { over, usual, left };

/// A worker that nothing can be said about.
struct UnusableRank {
  StragglerSuspect who;
  std::string why;
};

/// When something is out of the ordinary. docs/stragglers.md has the reasons, and what other values do.
/// Compute, the optimizer and wires are compared as logarithms, so that 0.1 is some 10%; data as a part of
/// the step.
struct StragglerRules {
  DeviationRule sudden_time{0.10, 0.45, 8, 3, 1.0};    ///< of compute and the optimizer
  DeviationRule lasting_time{0.08, 0.18, 20, 25, 10};  ///< the same
  DeviationRule sudden_data{0.05, 0.20, 8, 3, 0.7};    ///< of data
  DeviationRule lasting_data{0.03, 0.08, 20, 25, 10};  ///< the same
  DeviationRule sudden_wire{0.25, 0.70, 8, 3, 0.7};    ///< of wires
  DeviationRule lasting_wire{0.30, 0.60, 20, 25, 10};  ///< the same
  DeviationRule common_time{0.05, 0.35, 8, 3, 10};     ///< of all ranks at once, over what is usual
  DeviationRule common_data{0.03, 0.20, 8, 3, 0.7};
  DeviationRule common_wire{0.15, 0.60, 8, 3, 0.7};
  double least_sigma_time = 0.03;  ///< nothing is measured more exactly than that
  double least_sigma_data = 0.02;
  double least_sigma_wire = 0.10;

  /// A rank's own history says it too if it is over its level by this part of what it is over its peers.
  double own_part = 0.7;
  /// Else it must stand out from its peers by so many standard deviations (by their median absolute
  /// deviation), as one of few, and for so long.
  double stands_out = 3;
  double few = 1.0 / 3;
  double without_history_s = 5;
  double least_off_of_two = 0.18;  ///< of two ranks, of which one is always slower: only if by 20%
  double most_ranks = 0.75;        ///< from this part of the ranks on something is common to all

  /// Limits are for so many ranks: the more there are, the further off is one of them by chance, so that
  /// false alarms stay as seldom if limits grow with the logarithm of the ranks.
  double ranks_of_limits = 8;

  double least_cost = 0.03;     ///< of the step: what costs less isn't worth a word
  double least_exposed = 0.05;  ///< of the step: with less waiting for sums, wires aren't looked at
  double late = 0.08;  ///< of the step: a rank that joins the sums so much later keeps their senders waiting
  double fixed_grains = 2;   ///< which a pass may have as a fixed part: smaller shares cost more a grain
  double starved = 0.8;      ///< of the cores that it used before: it doesn't get them
  double least_cores = 0.8;  ///< which it must have used: who computes elsewhere can't be told to starve
  std::int64_t warm_up_steps = 5;  ///< of a process
  double warm_up_s = 1;
  double usual_after_s = 600;  ///< what is common to all and lasts is what is usual
  double forget_after_s = 10;  ///< a worker of which nothing is heard any more
};

/// Finds which rank, which part of its step, since when: and what is common to all.
///
/// Ranks wait for each other, so what they wait for each other is never held against one: only what is its
/// own work is compared, each part by itself, with the median of the other ranks, and with what is usual for
/// that rank. docs/stragglers.md has the method. The state is a function of what was observed; no time, no
/// randomness. Not thread-safe. Memory is under 4 KiB for each rank, whatever comes.
class StragglerDetector {
 public:
  explicit StragglerDetector(const StragglerRules& rules = {}) : rules_(rules) {}

  /// About ten times a second: the newest heartbeat of each rank of the generation. Those that were there
  /// last time are no news, and one that is older than what is known already is passed over; sums that stay
  /// lower are a new beginning. Who is missing is forgotten, at once in a new generation. `now` may jump, to
  /// and fro.
  [[nodiscard]] std::vector<StragglerEvent> observe(Instant now, std::int64_t generation,
                                                    const std::vector<RankReport>& reports);

  /// What began and hasn't ended, as it was when it began.
  [[nodiscard]] std::vector<StragglerEvent> active() const;
  /// Whom it can't judge, and why: who reports nothing, or what makes no sense.
  [[nodiscard]] std::vector<UnusableRank> unusable() const;

 private:
  /// What is compared. Of wires both what a rank sends to all others and what it sends to the slowest.
  enum Quantity : std::size_t { data, compute, optimizer, wires, slowest_wire };
  static constexpr std::size_t quantities = 5;

  /// What began, and when that was on the clock that doesn't jump.
  struct Active {
    StragglerEvent event;
    double since_s = 0, at_s = 0;
  };

  /// How many cores a rank uses, from sums that fade.
  struct CoreUse {
    double cpu_s = 0, span_s = 0, compute_s = 0, all_s = 0;

    void add(const MeasuredSteps& steps);
    /// While it computes, if it uses them for nothing else.
    [[nodiscard]] double computing() const { return compute_s > 0 ? on_average() * all_s / compute_s : 0; }
    [[nodiscard]] double on_average() const { return span_s > 0 ? cpu_s / span_s : 0; }
    /// What it needs to compute: what it uses while it waits for others can't be told apart.
    [[nodiscard]] double needed() const { return std::min(computing(), std::max(1.0, on_average())); }
  };

  struct Rank {
    StragglerSuspect who;
    SumsIntake intake;
    std::optional<Instant> heard;
    double known_since_s = 0, heard_s = 0, reported_s = 0;
    std::int64_t slowest_wire_rank = -1;
    double slowest_wire_bytes_per_s = 0;
    bool listed = false;                      ///< in what was observed last
    bool fresh = false;                       ///< its last steps are new
    MeasuredSteps steps;                      ///< the last
    double share = 0;                         ///< in them
    std::array<double, quantities> values{};  ///< in them; NaN: unknown
    double compute_as_is = 0;                 ///< with no regard to a fixed part
    std::array<DeviationSeries, quantities> series;
    std::array<bool, quantities> counted{};  ///< in what is common to all: a value that was not yet
    /// Of the step that is its own work: smoothed, and of the last steps. 0: unknown.
    double own_part = 0, last_own_part = 0;
    CoreUse usual_cores, cores_lately;            ///< while nothing is wrong, and since something has been
    std::array<std::optional<Active>, 3> active;  ///< of data, compute, optimizer
    std::string blamed_node;                      ///< for its wires; "": none
  };
  using Ranks = std::map<WorkerId, Rank>;

  /// What a rank is compared with, in ascending order.
  struct Peers {
    std::vector<double> values, compute_as_is;
    double share = 0;
  };
  /// Who joins the sums last: the own part of the step of the last rank, its node, and the last one of the
  /// other nodes.
  struct Arrivals {
    double last = 0, last_elsewhere = 0;
    std::string node;
    bool unknown = false;  ///< of some
    double exposed = 1;    ///< of the step: even the last rank waits for sums
  };

  /// Of all ranks at once, one quantity.
  struct Common {
    DeviationSum sum;
    RecentMedian values;  ///< by how much the median rank is over what is usual for it
    double jump = 0, last = 0;
    [[nodiscard]] double over() const { return values.median(std::min<std::size_t>(sum.run(), 8)); }
    std::int64_t count = 0;
    std::optional<Active> active;
  };

  // What comes in: straggler_detector.cpp.
  void advance(Instant now);
  void begin_generation(std::int64_t generation, const std::vector<RankReport>& reports);
  void take(const RankReport& report);
  void take_steps(Rank& rank, const MeasuredSteps& steps);
  void forget(std::vector<StragglerEvent>& events);
  [[nodiscard]] bool current(const Rank& rank) const;

  // How ranks compare: straggler_comparison.cpp.
  void compare(Quantity quantity);
  void note_arrivals();
  /// Of this generation; null: none.
  [[nodiscard]] const Rank* rank_numbered(std::int64_t number) const;
  [[nodiscard]] Peers peers_in(Quantity quantity) const;
  [[nodiscard]] double off_from(const Peers& peers, const Rank& rank, Quantity quantity) const;
  void observe(Rank& rank, Quantity quantity, double off);
  void follow_cores(Rank& rank);
  void compare_common(Quantity quantity);
  [[nodiscard]] bool wires_matter() const;
  /// Whether those that a rank sends to come so late that this would be taken for slow wires.
  enum class Receivers { in_time, late_now, late };
  [[nodiscard]] Receivers receivers_of(const Rank& rank, Quantity quantity) const;
  [[nodiscard]] DeviationRule for_ranks(DeviationRule rule) const;
  [[nodiscard]] DeviationRule sudden_rule(Quantity quantity) const;
  [[nodiscard]] DeviationRule lasting_rule(Quantity quantity) const;
  [[nodiscard]] const DeviationRule& common_rule(Quantity quantity) const;
  [[nodiscard]] double least_sigma(Quantity quantity) const;

  // What is concluded: straggler_judgement.cpp.
  void judge(Rank& rank, Quantity quantity, std::vector<StragglerEvent>& events);
  void judge_common(Quantity quantity, std::vector<StragglerEvent>& events);
  [[nodiscard]] bool complete(const Rank& rank, Quantity quantity) const;
  [[nodiscard]] bool credible(const Rank& rank, Quantity quantity) const;
  [[nodiscard]] bool worth_a_word(const Rank& rank, Quantity quantity) const;
  [[nodiscard]] double off_of(const Rank& rank, Quantity quantity) const;
  [[nodiscard]] bool history_says(const Rank& rank, Quantity quantity, double off) const;
  [[nodiscard]] bool stands_out(const Rank& rank, Quantity quantity, double off) const;
  [[nodiscard]] bool is_common(Quantity quantity, double over) const;
  [[nodiscard]] double since_s(const Rank& rank, Quantity quantity) const;
  [[nodiscard]] bool goes_on(const Rank& rank, Quantity quantity) const;
  [[nodiscard]] bool is_starved(const Rank& rank) const;
  [[nodiscard]] Active described(const Rank& rank, Quantity quantity) const;
  [[nodiscard]] Active described_common(Quantity quantity) const;

  // Whose wires: straggler_wires.cpp.
  void judge_wires(std::vector<StragglerEvent>& events);
  void blame_wire(Rank& rank, std::vector<StragglerEvent>& events);
  [[nodiscard]] bool wire_suspicious(const Rank& rank) const;
  /// And how many slow pairs of nodes it is in.
  [[nodiscard]] std::pair<std::string, std::int64_t> node_to_blame(const Rank& rank) const;
  [[nodiscard]] bool several_wires() const;
  [[nodiscard]] bool others_are_better(const Rank& rank) const;
  [[nodiscard]] std::vector<const Rank*> with_slow_wires() const;
  [[nodiscard]] const Rank* rank_at_all_slow_wires() const;
  [[nodiscard]] Active described_wire(const Rank& rank, const std::string& node, std::int64_t pairs) const;

  [[nodiscard]] Instant instant_of(double at_s) const;
  [[nodiscard]] StragglerEvent ended(const Active& active, StragglerEnding how) const;

  StragglerRules rules_;
  std::optional<Instant> now_;
  double now_s_ = 0;  ///< time that went by, without jumps
  std::int64_t generation_ = -1;
  Ranks ranks_;
  std::map<std::int64_t, WorkerId> by_number_;  ///< those of the generation
  Arrivals arrivals_;
  std::array<Common, 4> common_;              ///< of data, compute, optimizer, wires
  std::map<std::string, Active> slow_wires_;  ///< by the node that is blamed
};

}  // namespace paceline
