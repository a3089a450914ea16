#pragma once

#include <cstdint>
#include <mutex>
#include <optional>

#include "paceline/base/clock.hpp"
#include "paceline/job/telemetry.hpp"

namespace paceline {

/// A committed step as one rank saw it: its parts, one after the other.
struct StepRecord {
  Instant began{};
  std::int64_t step = 0;     ///< from 1
  std::int64_t grains = 0;   ///< of this rank
  std::int64_t samples = 0;  ///< the same
  Duration data{};
  Duration forward{};
  Duration backward{};
  Duration reduce{};
  Duration commit{};
  Duration optimizer{};
};

/// What a worker has measured of itself so far. The thread that trains and the one that samples write, and
/// heartbeats read; the lock is held only while numbers are copied. Any thread.
class TelemetryBoard {
 public:
  void add(const StepRecord& step) {
    const std::lock_guard lock(mutex_);
    ++steps_.steps;
    steps_.grains += step.grains;
    steps_.samples += step.samples;
    steps_.data_s += to_seconds(step.data);
    steps_.forward_s += to_seconds(step.forward);
    steps_.backward_s += to_seconds(step.backward);
    steps_.reduce_s += to_seconds(step.reduce);
    steps_.commit_s += to_seconds(step.commit);
    steps_.optimizer_s += to_seconds(step.optimizer);
  }
  /// All but what comes from steps, which others here change.
  void set_sample(const Telemetry& sample) {
    const std::lock_guard lock(mutex_);
    sample_ = sample;
  }
  void set_gradient_noise_scale(std::optional<double> samples) {
    const std::lock_guard lock(mutex_);
    steps_.gradient_noise_scale = samples;
  }
  [[nodiscard]] Telemetry read() const {
    const std::lock_guard lock(mutex_);
    Telemetry all = sample_;
    all.steps = steps_.steps;
    all.grains = steps_.grains;
    all.samples = steps_.samples;
    all.data_s = steps_.data_s;
    all.forward_s = steps_.forward_s;
    all.backward_s = steps_.backward_s;
    all.reduce_s = steps_.reduce_s;
    all.commit_s = steps_.commit_s;
    all.optimizer_s = steps_.optimizer_s;
    all.gradient_noise_scale = steps_.gradient_noise_scale;
    return all;
  }

 private:
  mutable std::mutex mutex_;
  Telemetry steps_;  // what comes from steps alone
  Telemetry sample_;
};

}  // namespace paceline
