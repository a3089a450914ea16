#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace paceline {

/// What a run used and what came of it, over all its workers, also those that were lost.
struct RunTotals {
  std::int64_t useful_samples = 0;   ///< of committed steps; work that was redone counts once
  std::optional<double> energy_j{};  ///< of all its nodes and GPUs; nothing where some of it can't be read
  double memory_byte_s = 0;          ///< resident memory of its workers, each times how long it was held
};

/// The resource efficiency eta of a run, for either resource. docs/metrics.md says why so.
struct ResourceEfficiency {
  std::optional<double> samples_per_joule{};   ///< nothing where energy can't be read
  std::optional<double> samples_per_byte_s{};  ///< for each byte of memory held for a second
  friend bool operator==(const ResourceEfficiency&, const ResourceEfficiency&) = default;
};

/// Totals that are zero, negative or no numbers give no efficiency.
[[nodiscard]] ResourceEfficiency resource_efficiency(const RunTotals& totals);

/// A worker's resident memory at one moment.
struct MemorySample {
  double time_s = 0;
  double bytes = 0;
};
/// Byte-seconds that a worker held from its first sample to its last, each value until the next one. A clock
/// that goes back, and values that are no numbers, add nothing.
[[nodiscard]] double held_byte_s(std::span<const MemorySample> samples);

/// How a run went, for its score.
struct RunResult {
  bool completed = false;
  double seconds = 0;  ///< from launch to end
  double cost = 0;     ///< in any unit: of a price list, or rank-seconds
};

/// A run that takes longer than so many times its reference has missed its deadline: it counts as failed.
inline constexpr double latest_end = 1.5;

/// The performance score P_m of a run, in comparison with `reference`, a run of the same job without faults
/// or slow ranks: sqrt(speed * thrift), the geometric mean (Fleming and Wallace, CACM 29(3), 1986) of how
/// much faster and cheaper it was. 1: as good; 0: it failed or came too late. Nothing where either has no
/// time or cost that is a positive number, unless the run failed.
[[nodiscard]] std::optional<double> performance_score(const RunResult& run, const RunResult& reference);

/// The score of a way to allocate, from those of its runs: the rate of success times the geometric mean of
/// those that succeeded. 0 where none did, nothing where there are none.
[[nodiscard]] std::optional<double> overall_score(std::span<const double> run_scores);

}  // namespace paceline
