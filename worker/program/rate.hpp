#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>

#include "paceline/base/clock.hpp"

namespace paceline {

/// Samples per second over the last moments of training.
class Rate {
 public:
  /// `at`: training time so far.
  void add(Duration at, std::int64_t samples) {
    marks_.push_back({at, samples});
    total_ += samples;
    while (marks_.size() > 2 && at - marks_.front().at > window) {
      total_ -= marks_.front().samples;
      marks_.pop_front();
    }
  }
  [[nodiscard]] double per_second() const {
    if (marks_.size() < 2) return 0;
    const Duration span = marks_.back().at - marks_.front().at;
    return static_cast<double>(total_ - marks_.front().samples) / std::max(to_seconds(span), 1e-9);
  }

 private:
  static constexpr Duration window = std::chrono::seconds(2);
  struct Mark {
    Duration at;
    std::int64_t samples;
  };
  std::deque<Mark> marks_;
  std::int64_t total_ = 0;
};

}  // namespace paceline
