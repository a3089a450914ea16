#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "allocation/jobs.hpp"
#include "allocation/tasks.hpp"

namespace paceline::bench {

/// What the rate of faults was chosen by, in lines with their ends.
[[nodiscard]] std::string calibration_text(const JobsReport& report, const AllocationOptions& options);

/// Tables for people.
[[nodiscard]] std::string table_of(const JobsReport& report);
[[nodiscard]] std::string table_of(const TasksReport& report);

/// docs/benchmarks.md names the keys.
[[nodiscard]] nlohmann::json to_json(const JobsReport& report);
[[nodiscard]] nlohmann::json to_json(const TasksReport& report);
[[nodiscard]] nlohmann::json to_json(const AllocationOptions& options);

}  // namespace paceline::bench
