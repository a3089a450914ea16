#pragma once

#include <string_view>

/// Files that are part of every page, from CMake's embed.cmake.
namespace paceline::page::assets {

extern const std::string_view chart_js;  ///< Chart.js, whose licence is in its first lines
extern const std::string_view page_js;
extern const std::string_view page_css;

}  // namespace paceline::page::assets
