#pragma once

#include <map>
#include <string>

#include "seeing/report_data.hpp"

namespace paceline {

/// Sums up all telemetry of a run. `planned`: whether a generation is, by number.
[[nodiscard]] Result<ReportTelemetry> sum_telemetry(const std::string& run_dir,
                                                    const std::map<std::int64_t, bool>& planned);

}  // namespace paceline
