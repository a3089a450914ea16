#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <utility>
#include <vector>

#include "queue.hpp"

namespace paceline::sim {

/// One direction between a worker and the coordinator.
///
/// What a stream can do, a socket as well as a gRPC stream: delay, stall, and end. It neither drops, nor
/// doubles, nor reorders. What only a new stream after a reconnect can do: the sender sends again what it has
/// no acknowledgement of, so that the receiver may get the last few messages once more (older ones after
/// newer ones, but in their order), and what was under way is late. Nothing is lost for good while both ends
/// live: who can't send again for so long that it is given up counts as lost.
class Link {
 public:
  Link(Queue& queue, Dice& dice) : queue_(&queue), dice_(&dice) {}

  void send(std::function<void()> arrive) {
    log_.push_back(std::move(arrive));
    carry(log_.size() - 1);
  }
  void stall(Duration by) { last_ = std::max(last_, queue_->now()) + by; }
  /// What is sent now doesn't arrive before.
  [[nodiscard]] Instant stalled_until() const { return last_; }
  void reconnect() {
    ++stream_;
    stall(dice_->between(std::chrono::milliseconds(5), std::chrono::milliseconds(500)));
    const auto again = std::min<std::size_t>(arrived_, static_cast<std::size_t>(dice_->between(0, 4)));
    for (std::size_t i = arrived_ - again; i < log_.size(); ++i) carry(i);
  }
  /// Its far end's machine is gone: what is under way doesn't arrive.
  void cut() {
    ++stream_;
    log_.resize(arrived_);
  }

 private:
  void carry(std::size_t index) {
    last_ = std::max(
        last_, queue_->now() + dice_->between(std::chrono::microseconds(50), std::chrono::milliseconds(4)));
    queue_->at(last_, [this, index, stream = stream_] {
      if (stream != stream_) return;
      arrived_ = std::max(arrived_, index + 1);
      const auto arrive = log_[index];
      arrive();
    });
  }

  Queue* queue_;  // neither is owned; both outlive it
  Dice* dice_;
  std::vector<std::function<void()>> log_;
  std::size_t arrived_ = 0;
  int stream_ = 0;
  Instant last_{};
};

}  // namespace paceline::sim
