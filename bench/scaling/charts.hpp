#pragma once

#include <string>

#include "scaling/report.hpp"

namespace paceline::bench {

/// The report as a page with charts, in one file.
[[nodiscard]] std::string page_of(const ScalingReport& report);

}  // namespace paceline::bench
