#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string_view>
#include <utility>

#include "faults.hpp"
#include "paceline/base/clock.hpp"
#include "paceline/job/protocol.hpp"
#include "phase.hpp"
#include "telemetry_board.hpp"

namespace paceline {

/// The training thread says what it does, and another reads it for the heartbeats. A new phase costs a look
/// at the clock and a store.
class Activity {
 public:
  /// For tests; before the training thread begins.
  void expect(Faults faults) { faults_ = std::move(faults); }
  /// What is no phase of its own.
  void pass(std::string_view point) { faults_.pass(point, step_.load(std::memory_order_relaxed)); }
  void begin(Phase phase) {
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(clock_.now() - origin_).count();
    // Together in one word, so that a phase is never read with the beginning of another.
    doing_.store(static_cast<std::uint64_t>(ms) << 8 | static_cast<std::uint64_t>(phase),
                 std::memory_order_relaxed);
    pass(name_of(phase));
  }
  /// The step in progress, from 1.
  void at_step(std::int64_t step) noexcept { step_.store(step, std::memory_order_relaxed); }

  /// A step has been committed, for which this rank's own part took so long.
  void committed(std::int64_t share, Duration own_part) noexcept {
    share_.store(share, std::memory_order_relaxed);
    own_part_ns_.store(own_part.count(), std::memory_order_relaxed);
  }

  /// What else is told with heartbeats.
  [[nodiscard]] TelemetryBoard& board() noexcept { return board_; }

  [[nodiscard]] HeartbeatMessage read() const {
    const std::uint64_t doing = doing_.load(std::memory_order_relaxed);
    HeartbeatMessage message;
    message.step = step_.load(std::memory_order_relaxed);
    message.phase = name_of(static_cast<Phase>(doing & 0xff));
    message.share = share_.load(std::memory_order_relaxed);
    message.step_ms = static_cast<double>(own_part_ns_.load(std::memory_order_relaxed)) / 1e6;
    message.seconds = to_seconds(clock_.now() - origin_ - std::chrono::milliseconds(doing >> 8));
    message.telemetry = board_.read();
    return message;
  }

 private:
  Faults faults_;
  SteadyClock clock_;
  Instant origin_ = clock_.now();
  std::atomic<std::uint64_t> doing_ = 0;  // milliseconds since origin_, and in the low byte the phase
  std::atomic<std::int64_t> step_ = 0;
  std::atomic<std::int64_t> share_ = 0, own_part_ns_ = 0;
  TelemetryBoard board_;
};

}  // namespace paceline
