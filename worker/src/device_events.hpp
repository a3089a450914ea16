#pragma once

#include <c10/core/Event.h>

#include <chrono>
#include <thread>

namespace paceline {

/// Until a device has come to where `event` was recorded. Throws what the device says. Looks every few
/// microseconds at first, for what is nearly there; sleeps after that, since waking takes 50 microseconds or
/// more. `meanwhile` is called in between.
template <class Meanwhile>
void wait_for(const c10::Event& event, const Meanwhile& meanwhile) {
  constexpr auto watched = std::chrono::microseconds(50), nap = std::chrono::microseconds(20);
  const auto began = std::chrono::steady_clock::now();
  while (!event.query()) {
    meanwhile();
    if (std::chrono::steady_clock::now() - began > watched) std::this_thread::sleep_for(nap);
  }
}

inline void wait_for(const c10::Event& event) {
  wait_for(event, [] {});
}

}  // namespace paceline
