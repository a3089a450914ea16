#pragma once

#include <cstddef>

namespace paceline::control {

// An agent that was without a coordinator for long has much to say in its first message.
inline constexpr int most_message_bytes = 64 << 20;
// To one reader that doesn't read.
inline constexpr std::size_t most_waiting_messages = 100'000;

}  // namespace paceline::control
