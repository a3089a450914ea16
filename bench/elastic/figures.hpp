#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace paceline::bench {

/// What is left of a measure that was taken several times.
struct Spread {
  std::size_t count = 0;
  double median = 0, p90 = 0, p99 = 0, least = 0, most = 0;
};
/// A percentile is the least value that so many per cent are not above. Of nothing: zeros.
[[nodiscard]] Spread spread_of(std::vector<double> values);

/// When each step was committed, in seconds since 1970, by step from 1.
using Commits = std::map<std::int64_t, double>;

/// From the lines of metrics.jsonl; a last one that is not whole is left out.
[[nodiscard]] Commits parse_commits(std::string_view metrics);

/// From the commit before to this one. Nothing where either is unknown.
[[nodiscard]] std::optional<double> gap_of(const Commits& commits, std::int64_t step);

/// The median gap of the steps in [first, last]; nothing where there are none.
[[nodiscard]] std::optional<double> median_gap(const Commits& commits, std::int64_t first, std::int64_t last);

/// The median gap of the `each_side` steps before `step` and of as many after it.
[[nodiscard]] std::optional<double> usual_gap(const Commits& commits, std::int64_t step,
                                              std::int64_t each_side = 20);

/// The greatest of the gaps that end after `from` and begin before `to`, whole also where they reach beyond.
[[nodiscard]] double greatest_gap(const Commits& commits, double from, double to);

/// The time of the last commit that is not after `time`; 0: there is none.
[[nodiscard]] double last_commit(const Commits& commits, double time);

/// How the ranks began a generation, from the logs of all of them.
struct Beginning {
  std::int64_t generation = 0;
  std::int64_t after_step = 0;
  std::int64_t bytes = 0;  ///< of state that joiners got; 0: there were none
  double seconds = 0;      ///< for that, on the rank that waited the least for others
};
/// By generation; `logs` is the text of all workers' logs.
[[nodiscard]] std::map<std::int64_t, Beginning> parse_beginnings(std::string_view logs);

/// A checkpoint, by the journal: its state is that after `step`, and it was published after
/// `published_after`.
struct CheckpointSpan {
  std::int64_t step = 0;
  std::int64_t published_after = 0;
};
[[nodiscard]] std::vector<CheckpointSpan> parse_checkpoints(std::string_view journal);

/// What `commits` say of one checkpoint: the median of the steps while it was written against that of the
/// free ones up to the next. Nothing where there are too few of either.
struct Overlap {
  double ratio = 0;         ///< median overlapped step / median free step
  double copy_seconds = 0;  ///< what the first overlapped step, in which the state is copied, took longer
  std::int64_t overlapped = 0;
  std::int64_t free = 0;
};
[[nodiscard]] std::optional<Overlap> overlap_of(const Commits& commits, const CheckpointSpan& span,
                                                std::int64_t next_step);

/// Of runs of `block` steps, of which every second one is told of and every other is not: the median step of
/// each that is told of over that of the one `apart` runs later, so that with 2 runs are compared that are
/// alike. The first steps of each run are left out, since they bear what was saved up. `first` steps pass
/// before.
[[nodiscard]] std::vector<double> alternation_ratios(const Commits& commits, std::int64_t block,
                                                     std::int64_t first, std::int64_t apart = 1);

}  // namespace paceline::bench
