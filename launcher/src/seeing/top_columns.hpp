#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "seeing/screen.hpp"
#include "seeing/top_status.hpp"

namespace paceline {

// The columns of the table of ranks, by number from 0.

/// How parts of a step stand in the bar.
inline constexpr std::string_view top_part_letters = "dfbrco";
[[nodiscard]] std::size_t top_columns();
[[nodiscard]] bool is_sortable(std::size_t column);
/// What isn't known comes last either way.
[[nodiscard]] bool comes_before(std::size_t column, const TopRow& a, const TopRow& b, bool descending);
/// The titles, and a line for each row: as many columns as fit into `width`, the most important ones. 0: all.
[[nodiscard]] Screen table_lines(const std::vector<TopRow>& rows, std::size_t width, std::size_t sort_column);

}  // namespace paceline
