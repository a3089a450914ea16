#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "paceline/job/telemetry.hpp"

namespace paceline {

/// A worker as its coordinator knows it at one moment.
struct WorkerSnapshot {
  std::int64_t worker = 0;
  std::int64_t rank = -1;  ///< in the current generation; -1: it belongs to none, or not yet
  std::string node{};
  std::int64_t share = 0;    ///< grains of a whole step
  std::string phase{};       ///< what it does, as in heartbeats; empty: it has not said yet
  double phase_seconds = 0;  ///< since when
  Telemetry telemetry{};
};

/// A rank that is slower than its peers now.
struct StragglerSnapshot {
  std::int64_t rank = 0;
  std::string node{};
  std::string part{};  ///< of the step, as telemetry names them: data, forward, backward, reduce, commit, ...
};

/// All that metrics show of a job, as plain values at one moment.
struct JobSnapshot {
  std::string name{};
  std::string state{};  ///< of its coordinator, or how the job ended
  std::int64_t term = 1;
  std::int64_t generation = 0;
  std::int64_t ranks = 0;
  std::int64_t wish = 0;
  std::int64_t room = 0;

  std::int64_t step = 0;     ///< committed, since the job began
  std::int64_t steps = 0;    ///< in the whole job
  std::int64_t samples = 0;  ///< of committed steps, since the job began
  std::int64_t epoch = 0;    ///< from 1; 0: none has begun
  std::optional<double> loss{};
  std::optional<double> samples_per_second{};
  std::optional<double> scaling_efficiency{};    ///< E(N): 1 is linear; nothing until the model knows
  std::optional<double> gradient_noise_scale{};  ///< in samples; nothing where it can't be told

  std::int64_t repairs = 0;
  std::int64_t resizes = 0;
  std::int64_t rebalances = 0;
  std::int64_t checkpoints = 0;
  double pause_seconds = 0;  ///< in which no step could be worked on, as ranks were lost or changed

  std::vector<StragglerSnapshot> stragglers{};
  std::vector<WorkerSnapshot> workers{};
};

}  // namespace paceline
