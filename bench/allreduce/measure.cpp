#include "allreduce/measure.hpp"

#include <algorithm>
#include <cmath>

#include "allreduce/sizes.hpp"
#include "allreduce/statistics.hpp"

namespace paceline::bench {
namespace {

constexpr double turn_ns = 25e6;  // what one turn of a contender should last
constexpr double batch_ns =
    250e6;  // longer batches are given fewer sums: clock and barrier no longer count there
constexpr int most_batches = 50;
constexpr int fewest_batches = 2;
constexpr int trial_sums = 4;

/// How a contender is timed at one size, and what it took so far.
struct Turn {
  Group* group = nullptr;
  int repeat = 1;
  int batches = fewest_batches;
  std::vector<double> us;  ///< per sum, one for each batch
};

/// A first turn finds out how long a sum takes, and brings the contender's memory and code into play.
Result<Turn> try_out(Group& group, std::uint64_t bytes, Duration limit) {
  Turn turn{&group, 1, fewest_batches, {}};
  const int repeat = repeat_of(bytes);
  const int trial = std::min(repeat, trial_sums);
  PACELINE_ASSIGN(const auto by_rank, group.time(bytes, trial, 1, limit));
  const double sum_ns = std::max(1.0, slowest_of_each(by_rank).front() / trial);
  turn.repeat = static_cast<int>(std::clamp(batch_ns / sum_ns, 1.0, static_cast<double>(repeat)));
  const double batches = std::ceil(turn_ns / (sum_ns * turn.repeat));
  turn.batches = static_cast<int>(std::clamp<double>(batches, fewest_batches, most_batches));
  return turn;
}

Status take(Turn& turn, std::uint64_t bytes, Duration limit) {
  PACELINE_ASSIGN(const auto by_rank, turn.group->time(bytes, turn.repeat, turn.batches, limit));
  for (const double ns : slowest_of_each(by_rank)) turn.us.push_back(ns / turn.repeat / 1e3);
  return {};
}

/// Known values, added up once; the probe only knows f32.
Status verify(Group& group, const AllreduceOptions& options, const Placement& placement, Row& row) {
  if (group.name() == "probe" && options.dtype != "f32") return {};
  const std::string codec = group.name() == "paceline" ? options.codec : "none";
  const auto nodes = static_cast<int>(placement.layout.size());
  const double tolerance = tolerance_of(options.dtype, codec, options.ranks, nodes);
  PACELINE_ASSIGN(const std::uint64_t errors, group.count_errors(row.bytes, tolerance, options.timeout));
  row.errors[group.name()] = errors;
  return {};
}

double limit_of(const Row& row, const AllreduceOptions& options, const Placement& placement) {
  if (const auto probe = row.us.find("probe"); probe != row.us.end()) return probe->second;
  if (options.wire_gbits <= 0) return 0;
  return wire_limit_us(row.bytes, static_cast<int>(placement.hosts.size()), options.wire_gbits);
}

}  // namespace

Result<Row> measure(const std::vector<std::unique_ptr<Group>>& groups, std::uint64_t bytes,
                    const AllreduceOptions& options, const Placement& placement) {
  Row row{bytes, bytes / bytes_of_type(options.dtype), {}, {}, 0};
  std::vector<Turn> turns;
  for (const std::unique_ptr<Group>& group : groups) {
    PACELINE_ASSIGN(Turn turn, try_out(*group, bytes, options.timeout));
    turns.push_back(std::move(turn));
  }
  for (int round = 0; round < options.rounds; ++round) {
    for (Turn& turn : turns) PACELINE_TRY(take(turn, bytes, options.timeout));
    std::reverse(turns.begin(), turns.end());  // a machine that warms up or slows down favours nobody
  }
  for (const Turn& turn : turns) row.us[turn.group->name()] = median(turn.us);
  for (const std::unique_ptr<Group>& group : groups) PACELINE_TRY(verify(*group, options, placement, row));
  row.limit_us = limit_of(row, options, placement);
  return row;
}

}  // namespace paceline::bench
