#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>

#include "seeing/clocks.hpp"
#include "seeing/run_events.hpp"
#include "seeing/survey.hpp"
#include "seeing/timeline.hpp"
#include "seeing/trace_file.hpp"

namespace paceline {

/// All that both the workers' events and the run's need. What it refers to outlives it.
struct Stage {
  const Survey& survey;
  const std::map<std::string, NodeClock>& clocks;
  std::map<std::string, std::int64_t> processes;  // of nodes
  double origin = 0;                              // seconds of the common clock
  double end = 0;

  [[nodiscard]] double aligned(const std::string& node, double time) const {
    const auto clock = clocks.find(node);
    return clock == clocks.end() ? time : clock->second.offset.aligned(time);
  }
  [[nodiscard]] std::int64_t us(double aligned_s) const {
    return std::max<std::int64_t>(0, std::llround((aligned_s - origin) * 1e6));
  }
};

/// What came of one worker's lines.
struct WorkerTold {
  std::int64_t steps = 0;  ///< slices
  std::int64_t lost = 0;   ///< lines that it could not write
};
/// Writes one worker's events.
[[nodiscard]] Result<WorkerTold> write_worker(const WorkerSurvey& worker, const Stage& stage,
                                              const StepRange& range, TraceFile& trace);

/// Writes what the journals tell. `metrics`: times of commits, for those that telemetry doesn't reach back
/// to. Gives the number of events at no known time.
[[nodiscard]] std::int64_t write_run(const std::string& run_dir, const EventHistory& history,
                                     const Stage& stage, const std::map<std::int64_t, double>& metrics,
                                     const StepRange& range, TraceFile& trace);

}  // namespace paceline
