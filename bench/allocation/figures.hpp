#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "elastic/figures.hpp"
#include "paceline/sched/run_scores.hpp"

namespace paceline::bench {

/// Ways to give a job its ranks.
enum class Way : std::uint8_t {
  fixed,   ///< the ranks that it is launched with, all of them or none: a lost rank ends the job, which goes
           ///< on from its last checkpoint on the same allocation
  policy,  ///< lost ranks are replaced while the others train, and the resize policy decides how many there
           ///< are
  policy_and_balance  ///< and ranks that are slower get less
};
inline constexpr std::array<Way, 3> all_ways = {Way::fixed, Way::policy, Way::policy_and_balance};
[[nodiscard]] const char* name_of(Way way);

/// How a job went.
struct JobRun {
  bool completed = false;
  double seconds = 0;         ///< from the first launch to the end, restarts included
  double cost = 0;            ///< price times time of every place that it held
  std::int64_t faults = 0;    ///< that hit it
  std::int64_t launches = 0;  ///< 1, and one for each restart
  std::int64_t repairs = 0, resizes = 0, rebalances = 0;
  RunTotals totals;
  std::string why;  ///< it did not complete
};

/// Rank-seconds of the places that a job held between `began` and `ended` (seconds since 1970), by the
/// `generation` lines of its journals (docs/journal.md), oldest term first, and the ranks that it was
/// launched with. A place whose rank is being replaced is held; one that was given up by a resize is not.
[[nodiscard]] double held_rank_seconds(std::string_view journals, std::int64_t ranks, double began,
                                       double ended);

/// The interval of a rate in which it is with 95% confidence, from `hits` of `tries`: the score interval
/// (Wilson, JASA 22, 1927), which is sound for few tries and for rates near 0. From 0 to 1 without tries.
struct RateInterval {
  double low = 0, high = 1;
};
[[nodiscard]] RateInterval wilson_interval(std::int64_t hits, std::int64_t tries);

/// What the originating papers have published of a way, in relation to static allocation.
struct PublishedWay {
  double time = 0, cost = 0, failures = 0;
};
[[nodiscard]] PublishedWay published(Way way);
/// Tasks per second at so many at once; nothing where nothing was published.
[[nodiscard]] std::optional<double> published_tasks_per_second(std::int64_t tasks);

/// What the runs of one way came to.
struct WayFigures {
  Way way = Way::fixed;
  std::int64_t runs = 0, failures = 0;  ///< did not complete, or came after the deadline
  RateInterval failure_rate{};
  Spread seconds{}, cost{};  ///< of those that completed, late ones too
  /// Medians of the ratios to static allocation with the same seed; nothing where no pair completed.
  std::optional<double> time_ratio{}, cost_ratio{};
  std::optional<double> score{};  ///< P_m (docs/metrics.md)
  RunTotals totals{};             ///< of all runs
  std::int64_t faults = 0, launches = 0, repairs = 0, resizes = 0, rebalances = 0;
};

/// The runs of all ways, each with the same seeds in the same order; `reference` is undisturbed.
struct JobRuns {
  std::array<std::vector<JobRun>, all_ways.size()> by_way;
  RunResult reference{.completed = true};
  [[nodiscard]] double deadline_s() const { return latest_end * reference.seconds; }
};
[[nodiscard]] WayFigures figures_of(Way way, const JobRuns& runs);

/// Sums; energy only where both have it. `RunTotals{.energy_j = 0}` is the neutral element.
[[nodiscard]] RunTotals added(const RunTotals& one, const RunTotals& other);

/// How many grains as many jobs did at once.
struct TasksFigures {
  std::int64_t tasks = 0;
  std::string skipped{};          ///< why it was not measured; empty: it was
  double grains_per_second = 0;   ///< of all together, while all were at work
  double seconds = 0;             ///< of that
  double bytes = 0;               ///< anonymous memory of all their processes
  std::optional<double> score{};  ///< P_m beside one job alone
  RunTotals totals{};
};

/// Grains per second between the last job's first commit and the first job's last one. Nothing where the jobs
/// were never all at work.
struct CommonRate {
  double grains_per_second = 0;
  double began = 0, ended = 0;  ///< of that interval; seconds since 1970
};
[[nodiscard]] std::optional<CommonRate> common_rate(const std::vector<Commits>& jobs);

/// Joules that a node's processors and memory used between two times (seconds since 1970), by the samples of
/// a worker's telemetry (docs/telemetry.md) that lie nearest within. Nothing where there are not two.
[[nodiscard]] std::optional<double> energy_between(std::string_view telemetry, double began, double ended);

/// The P_m of doing grains with `tasks` jobs at once, in comparison with one: time is that of a grain, cost
/// that times the jobs. Nothing where one of the rates is 0.
[[nodiscard]] std::optional<double> tasks_score(std::int64_t tasks, double grains_per_second, double of_one);

}  // namespace paceline::bench
