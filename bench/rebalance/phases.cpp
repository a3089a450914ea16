#include "rebalance/phases.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

constexpr std::int64_t most_ranks = 64;
constexpr double most_factor = 100;
constexpr std::int64_t window = 10;
constexpr std::int64_t steps_to_adapt = 10, steps_to_settle = 25;
constexpr double trimmed = 0.1;

/// Steps from `first` to before `end`, in which a rank's speed stays as it has become in `first`.
struct Phase {
  std::int64_t first = 0, end = 0;
  const SlowRank* slow = nullptr;
  double ideal_ms = 0;
};

std::optional<double> parse_factor(std::string_view text) {
  double factor = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), factor);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  if (!whole || !(factor >= 1 && factor <= most_factor)) return std::nullopt;
  return factor;
}

std::optional<double> usual_ms(const Commits& commits, std::int64_t first, std::int64_t end) {
  std::vector<double> gaps;
  for (std::int64_t step = first; step < end; ++step) {
    const auto gap = gap_of(commits, step);
    if (!gap) return std::nullopt;
    gaps.push_back(*gap * 1e3);
  }
  if (gaps.empty()) return std::nullopt;
  return usual(std::move(gaps));
}

std::optional<std::int64_t> first_window(const Commits& commits, const Phase& phase, double fraction) {
  for (std::int64_t step = phase.first + 1; step + window <= phase.end; ++step) {
    const auto ms = usual_ms(commits, step, step + window);
    if (ms && phase.ideal_ms >= fraction * *ms) return step - phase.first;
  }
  return std::nullopt;
}

std::optional<std::int64_t> first_shares(const DisturbedRun& run, const Phase& phase, double fraction) {
  std::vector<std::int64_t> shares(static_cast<std::size_t>(run.ranks), 1);
  auto change = run.changes.begin();
  for (std::int64_t step = 1; step < phase.end; ++step) {
    for (; change != run.changes.end() && change->step <= step; ++change) shares = change->shares;
    if (step > phase.first && fraction_by_shares(shares, phase.slow) >= fraction) return step - phase.first;
  }
  return std::nullopt;
}

std::int64_t moves_in(const DisturbedRun& run, std::int64_t first, std::int64_t end) {
  return std::ranges::count_if(
      run.changes, [&](const ShareChange& change) { return change.step >= first && change.step < end; });
}

Following follow(const DisturbedRun& run, const Phase& phase, double settled_ms) {
  Following following;
  following.fraction_of_ideal = phase.ideal_ms / settled_ms;
  following.steps_to_95_percent = first_window(run.commits, phase, 0.95);
  following.steps_to_93_percent = first_window(run.commits, phase, 0.93);
  following.shares_for_93_percent = first_shares(run, phase, 0.93);
  following.moves = moves_in(run, phase.first, phase.end);
  following.late_moves = moves_in(run, phase.first + steps_to_settle + 1, phase.end);
  return following;
}

/// The step that was being made at that time.
Result<std::int64_t> step_at(const Commits& commits, double time) {
  for (const auto& [step, committed] : commits)
    if (committed > time) return step;
  return Error{ErrorCode::corrupt, "no step was written to metrics.jsonl after the rank's speed changed"};
}

Result<double> settled_ms(const Commits& commits, std::int64_t first, std::int64_t end) {
  const auto ms = usual_ms(commits, first + steps_to_adapt + 1, end);
  if (ms && *ms > 0) return *ms;
  return Error{ErrorCode::corrupt,
               concat("of steps ", first, " to ", end, " some are missing from metrics.jsonl")};
}

}  // namespace

Result<SlowRank> parse_slow_rank(std::string_view text) {
  const auto refuse = [&](const std::string& why) {
    return Error{ErrorCode::invalid_argument, concat("--slow ", shown(text), ": ", why)};
  };
  std::optional<std::int64_t> rank;
  std::optional<double> factor;
  for (const std::string& part : split(text, ',')) {
    const std::size_t equals = std::min(part.find('='), part.size());
    const std::string name = part.substr(0, equals), value = part.substr(std::min(equals + 1, part.size()));
    if (name == "rank" && !rank) {
      rank = parse_integer(value, 0, most_ranks - 1);
      if (!rank) return refuse(concat("rank must be a whole number from 0 to ", most_ranks - 1));
    } else if (name == "factor" && !factor) {
      factor = parse_factor(value);
      if (!factor) return refuse(concat("factor must be a number from 1 to ", most_factor));
    } else {
      return refuse("it must be like rank=1,factor=2, each of them once");
    }
  }
  if (!rank || !factor) return refuse("it must be like rank=1,factor=2, each of them once");
  return SlowRank{*rank, *factor};
}

double ideal_ratio(std::int64_t ranks, double factor) {
  return static_cast<double>(ranks) / (static_cast<double>(ranks - 1) + 1 / factor);
}

double fraction_by_shares(const std::vector<std::int64_t>& shares, const SlowRank* slow) {
  double total = 0, speeds = 0, slowest = 0;
  for (std::size_t rank = 0; rank < shares.size(); ++rank) {
    const bool is_slow = slow != nullptr && static_cast<std::int64_t>(rank) == slow->rank;
    const double cost = is_slow ? slow->factor : 1;
    const auto share = static_cast<double>(shares[rank]);
    total += share;
    speeds += 1 / cost;
    slowest = std::max(slowest, share * cost);
  }
  return slowest > 0 ? total / speeds / slowest : 0;
}

double usual(std::vector<double> values) {
  if (values.empty()) return 0;
  std::ranges::sort(values);
  const auto cut = static_cast<std::ptrdiff_t>(trimmed * static_cast<double>(values.size()));
  const double sum = std::accumulate(values.begin() + cut, values.end() - cut, 0.0);
  return sum / static_cast<double>(std::ssize(values) - 2 * cut);
}

Result<DisturbedFigures> figures_of(const DisturbedRun& run) {
  DisturbedFigures figures;
  std::int64_t undisturbed_from = run.first_step;
  for (std::size_t i = 0; i < run.slowings.size(); ++i) {
    PACELINE_ASSIGN(const std::int64_t began, step_at(run.commits, run.slowings[i].began));
    PACELINE_ASSIGN(const std::int64_t ended, step_at(run.commits, run.slowings[i].ended));
    std::int64_t next = run.commits.rbegin()->first + 1;
    if (i + 1 < run.slowings.size()) {
      PACELINE_ASSIGN(next, step_at(run.commits, run.slowings[i + 1].began));
    }
    RoundOfSlowing& round = figures.rounds.emplace_back();
    PACELINE_ASSIGN(round.undisturbed_ms, settled_ms(run.commits, undisturbed_from, began));
    PACELINE_ASSIGN(round.slowed_ms, settled_ms(run.commits, began, ended));
    PACELINE_ASSIGN(const double after_ms, settled_ms(run.commits, ended, next));
    const double ideal_ms = round.undisturbed_ms * ideal_ratio(run.ranks, run.slow.factor);
    round.slowed = follow(run, {began, ended, &run.slow, ideal_ms}, round.slowed_ms);
    round.recovered = follow(run, {ended, next, nullptr, round.undisturbed_ms}, after_ms);
    if (i == 0) figures.late_moves += moves_in(run, run.first_step, began);
    figures.late_moves += round.slowed.late_moves + round.recovered.late_moves;
    undisturbed_from = ended;
    figures.steps = next - run.first_step;
  }
  figures.moves = moves_in(run, run.first_step, run.first_step + figures.steps);
  return figures;
}

}  // namespace paceline::bench
