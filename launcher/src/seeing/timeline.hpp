#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "paceline/base/result.hpp"

namespace paceline {

/// The steps that a timeline shows; all where neither is given.
struct StepRange {
  std::optional<std::int64_t> from;
  std::optional<std::int64_t> to;
  [[nodiscard]] bool contains(std::int64_t step) const {
    return step >= from.value_or(step) && step <= to.value_or(step);
  }
  [[nodiscard]] bool is_all() const { return !from && !to; }
};

/// What became of a node's clock.
struct TimelineClock {
  std::string node;
  std::int64_t common = 0;  ///< commits that it was compared by; 0: it is left as it is
  double least_s = 0;       ///< that it was ahead of the first node's
  double greatest_s = 0;
};

/// What a timeline has.
struct TimelineFacts {
  std::int64_t workers = 0;
  std::int64_t steps = 0;  ///< slices, of all workers
  std::int64_t first_step = 0;
  std::int64_t last_step = 0;
  std::int64_t bytes = 0;
  std::vector<TimelineClock> clocks;  ///< of the nodes, the reference first
  std::int64_t unreadable = 0;        ///< lines that were passed over
  std::int64_t lost = 0;              ///< lines that workers could not write
  std::int64_t unplaced = 0;          ///< events of the journal at no known time
};

/// Writes a run's timeline to `out`: all workers on the clock of the first one's node, with what the journal
/// tells; docs/seeing-a-job.md. Reads everything twice and keeps little, however large it is. not_found: the
/// run has no telemetry, or none of these steps.
[[nodiscard]] Result<TimelineFacts> write_timeline(const std::string& run_dir, const std::string& out,
                                                   const StepRange& range);

}  // namespace paceline
