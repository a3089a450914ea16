#include "rebalance/replay.hpp"

#include <algorithm>

namespace paceline::bench {
namespace {

constexpr std::size_t window = 10;
constexpr double nearly_all = 0.95;

double sum(const std::vector<double>& values, std::size_t first, std::size_t count) {
  double total = 0;
  for (std::size_t i = first; i < first + count; ++i) total += values[i];
  return total;
}

double continuous_split(const std::vector<double>& times) {
  double speeds = 0;
  for (const double time : times) speeds += 1 / time;
  return static_cast<double>(times.size()) / speeds;
}

double step_time(const TraceIteration& iteration, const TraceShares& shares, std::int64_t grains_per_rank) {
  double slowest = 0;
  for (std::size_t rank = 0; rank < shares.size(); ++rank)
    slowest = std::max(slowest, iteration.times[rank] * static_cast<double>(shares[rank]) /
                                    static_cast<double>(grains_per_rank));
  return slowest;
}

/// What the iterations of a window take with the shares that suit their mean costs.
double best_fixed_shares(const Trace& trace, std::size_t first, std::int64_t grains_per_rank) {
  const std::size_t ranks = trace.workers.size();
  const std::int64_t total = grains_per_rank * static_cast<std::int64_t>(ranks);
  std::vector<RankTime> means(ranks, RankTime{0, 0, 1, total});
  for (std::size_t at = first; at < first + window; ++at)
    for (std::size_t rank = 0; rank < ranks; ++rank)
      means[rank].ms_per_grain += trace.iterations[at].times[rank];
  const TraceShares shares = assign_grains(means, total);
  double time = 0;
  for (std::size_t at = first; at < first + window; ++at)
    time += step_time(trace.iterations[at], shares, grains_per_rank);
  return time;
}

std::optional<std::int64_t> steps_to_95_percent(const Trace& trace, std::int64_t grains_per_rank,
                                                const std::vector<double>& steps) {
  for (std::size_t first = 0; first + window <= steps.size(); ++first)
    if (best_fixed_shares(trace, first, grains_per_rank) >= nearly_all * sum(steps, first, window))
      return static_cast<std::int64_t>(first);
  return std::nullopt;
}

}  // namespace

LawResult replay(const Trace& trace, std::int64_t grains_per_rank, Law& law) {
  const std::size_t iterations = trace.iterations.size(), ranks = trace.workers.size();
  TraceShares shares(ranks, grains_per_rank);
  std::vector<double> steps;
  double ideal = 0;
  std::int64_t moves = 0;
  for (std::size_t at = 0; at < iterations; ++at) {
    const TraceIteration& iteration = trace.iterations[at];
    std::vector<double> times;
    for (std::size_t rank = 0; rank < ranks; ++rank)
      times.push_back(iteration.times[rank] * static_cast<double>(shares[rank]) /
                      static_cast<double>(grains_per_rank));
    steps.push_back(std::ranges::max(times));
    ideal += continuous_split(iteration.times);
    TraceShares next = law.next({static_cast<std::int64_t>(at),
                                 static_cast<std::int64_t>(iterations - at - 1), shares, times, iteration});
    if (next != shares) ++moves;
    shares = std::move(next);
  }
  return {law.name(), ideal / sum(steps, 0, iterations),
          static_cast<double>(moves) / static_cast<double>(iterations),
          steps_to_95_percent(trace, grains_per_rank, steps)};
}

}  // namespace paceline::bench
