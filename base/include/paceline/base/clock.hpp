#pragma once

#include <chrono>

namespace paceline {

using Duration = std::chrono::nanoseconds;
/// Nanoseconds since an arbitrary origin; only differences mean anything.
using Instant = std::chrono::time_point<std::chrono::steady_clock, Duration>;

/// Where time comes from, so that a test can be the one who says what time it is. Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  [[nodiscard]] virtual Instant now() const noexcept = 0;
};

/// The machine's monotonic clock.
class SteadyClock final : public Clock {
 public:
  [[nodiscard]] Instant now() const noexcept override { return std::chrono::steady_clock::now(); }
};

/// A clock that stands still until it is advanced.
class ManualClock final : public Clock {
 public:
  [[nodiscard]] Instant now() const noexcept override { return now_; }
  void advance(Duration by) noexcept { now_ += by; }

 private:
  Instant now_{};
};

/// The end of a wait: compare, or ask how much is left. Used by one thread.
class Deadline {
 public:
  Deadline(const Clock& clock, Duration from_now) : Deadline(clock, clock.now(), from_now) {}
  /// Where the time is known already.
  Deadline(const Clock& clock, Instant now, Duration from_now) : clock_(&clock), at_(now + from_now) {}
  /// Begins when it is first asked: for waits that mostly end before anyone looks at a clock.
  [[nodiscard]] static Deadline from_first_look(const Clock& clock, Duration allowed) {
    Deadline deadline(clock, Instant{}, allowed);
    deadline.begun_ = false;
    return deadline;
  }
  [[nodiscard]] Duration left() const noexcept {
    const Instant now = clock_->now();
    if (!begun_) {
      at_ = now + at_.time_since_epoch();
      begun_ = true;
    }
    const Duration left = at_ - now;
    return left > Duration::zero() ? left : Duration::zero();
  }
  [[nodiscard]] bool passed() const noexcept { return left() == Duration::zero(); }
  /// What poll(2) takes: whole milliseconds rounded up, so that it never turns into a busy loop.
  [[nodiscard]] int left_ms() const noexcept;

 private:
  const Clock* clock_;  // does not own; outlives every wait that uses it
  mutable Instant at_;
  mutable bool begun_ = true;
};

/// Of the machine's wall clock, which people may set: for stamps that others read, never for waits.
[[nodiscard]] inline double seconds_since_1970() noexcept {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}
[[nodiscard]] inline double to_seconds(Duration duration) noexcept {
  return std::chrono::duration<double>(duration).count();
}
[[nodiscard]] inline double to_ms(Duration duration) noexcept {
  return to_seconds(duration) * 1e3;
}

}  // namespace paceline
