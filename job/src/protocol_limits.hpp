#pragma once

#include <cstddef>

namespace paceline {

/// The longest message; the sockets' buffers are made large enough for it.
inline constexpr std::size_t most_message_bytes = std::size_t{256} << 10;

}  // namespace paceline
