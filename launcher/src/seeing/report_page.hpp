#pragma once

#include <string>

#include "seeing/report_data.hpp"

namespace paceline {

/// A run's report as one HTML file, which opens offline. What is not known of a run is left out, and the page
/// says why.
[[nodiscard]] std::string report_page(const ReportData& data);

}  // namespace paceline
