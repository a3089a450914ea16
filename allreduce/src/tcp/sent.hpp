#pragma once

#include <cstdint>

#include "paceline/base/clock.hpp"

namespace paceline::tcp {

/// What the kernel says was sent on a connection so far; zeros where it doesn't say (Linux before 4.9).
struct Sent {
  std::int64_t bytes = 0;  ///< acknowledged by the peer's kernel
  Duration busy{};         ///< in which bytes were on their way and the peer had room for them
};
[[nodiscard]] Sent sent_on(int connection) noexcept;

}  // namespace paceline::tcp
