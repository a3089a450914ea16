#pragma once

#include <string>

#include "paceline/page/page.hpp"

namespace paceline::page {

/// What page.js draws a chart from. Has no '<' in it, so that it can stand inside a <script>.
[[nodiscard]] std::string to_json(const LineChart& chart);
[[nodiscard]] std::string to_json(const BarChart& chart);

}  // namespace paceline::page
