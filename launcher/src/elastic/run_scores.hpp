#pragma once

#include <cstdint>
#include <optional>

namespace paceline {

/// What a run used and what came of it; sums over all its workers, also those that were lost.
struct RunTotals {
  std::int64_t useful_samples =
      0;              ///< of committed steps, each counted once: work that was redone counts once
  double wall_s = 0;  ///< from the launch to the end, pauses and repairs included
  std::optional<double> energy_j{};  ///< of all nodes and GPUs used; nothing where some could not be read
  double memory_byte_s = 0;          ///< resident memory of all workers, integrated over time
};

/// The resource efficiency eta, by resource. docs/metrics.md says why so.
struct ResourceEfficiency {
  std::optional<double> samples_per_joule{};   ///< nothing where energy could not be read
  std::optional<double> samples_per_byte_s{};  ///< useful samples per byte of memory held for a second
};

/// Nothing but what the totals give: values that are absent, zero, negative or no numbers give no efficiency.
[[nodiscard]] ResourceEfficiency resource_efficiency(const RunTotals& totals);

}  // namespace paceline
