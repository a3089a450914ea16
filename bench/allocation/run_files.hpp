#pragma once

#include <string>
#include <string_view>

#include "allocation/figures.hpp"
#include "paceline/base/result.hpp"

namespace paceline::bench {

/// The number of the last worker that left a log in a run's `logs` folder; -1: none has.
[[nodiscard]] std::int64_t highest_worker(const std::string& logs);

/// Faults of PACELINE_FAULTS that killed workers from `first_worker` on, by their logs.
[[nodiscard]] std::int64_t faults_in(const std::string& logs, std::int64_t first_worker);

/// Adds what a `summary.json` counts (repairs, resizes, rebalances), and takes its totals, which are of the
/// whole run. corrupt: it is none.
[[nodiscard]] Status add_summary(std::string_view text, JobRun& run);
/// Counts of a launch that was lost. It may have been lost before it had a summary.
[[nodiscard]] Status add_lost_launch(const std::string& summary_file, JobRun& run);

}  // namespace paceline::bench
