#pragma once

#include <cstddef>
#include <string_view>

namespace paceline {

/// How long a line waits for a reader who has paused: longer must not hold up the work.
inline constexpr int line_patience_ms = 1000;

/// Writes to a terminal, pipe or file. Gives up where nobody makes room in time, or nobody is there to read:
/// false.
bool put(int fd, std::string_view text, int patience_ms);

/// Columns; 80 where it is not known.
[[nodiscard]] std::size_t terminal_width(int fd);

}  // namespace paceline
