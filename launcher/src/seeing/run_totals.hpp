#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "paceline/base/result.hpp"
#include "paceline/sched/run_scores.hpp"
#include "seeing/report_data.hpp"

namespace paceline {

/// What a run used, out of its telemetry, and the samples that came of that. Of files that were begun anew,
/// which have the end of a long run, only the samples of the steps in them count: use and samples are of the
/// same time. `committed`: steps of the run; `batch`: samples of one. A run's last, smaller batch of an epoch
/// counts as a whole one.
[[nodiscard]] RunTotals totals_of(const ReportTelemetry& telemetry, std::int64_t committed,
                                  std::int64_t batch);

/// The totals of a run that has just ended, for its summary. Nothing where it has no telemetry, or so much
/// (16 MiB) that nobody should have to wait for it: `paceline report` has them then. Errors: files that
/// can't be read, or are of a newer format.
[[nodiscard]] Result<std::optional<RunTotals>> totals_at_end(const std::string& run_dir);

}  // namespace paceline
