#pragma once

#include "paceline/base/clock.hpp"

namespace paceline {

/// A sleeper looks around this often even if nobody wakes it: the last defence, not the way it works.
inline constexpr Duration longest_nap = std::chrono::milliseconds(100);
/// A thread that has nothing better to do looks for blocks this long before it sleeps in the transport.
inline constexpr Duration wire_spin = std::chrono::microseconds(30);

}  // namespace paceline
