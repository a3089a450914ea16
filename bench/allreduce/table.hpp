#pragma once

#include <string>
#include <vector>

#include "allreduce/measure.hpp"

namespace paceline::bench {

/// Two lines that say what is in the columns, with their line ends.
[[nodiscard]] std::string table_head(const AllreduceOptions& options, const Placement& placement);
[[nodiscard]] std::string table_row(const Row& row, const AllreduceOptions& options);

/// "1.24", "93.1", "2,714" would be too wide: three digits that count, from 0.01 on, whole from 100 on.
[[nodiscard]] std::string short_number(double number);

/// The name of the limit that a run is compared with: "probe", "wire" or "" where there is none.
[[nodiscard]] std::string limit_name(const AllreduceOptions& options, const Placement& placement);

}  // namespace paceline::bench
