#pragma once

#include <vector>

#include "allocation/faults.hpp"
#include "allocation/figures.hpp"
#include "allocation/job_runner.hpp"

namespace paceline::bench {

struct JobsReport {
  std::int64_t references = 0;  ///< undisturbed runs in turn with the others, whose medians are the reference
  double undisturbed_s = 0;     ///< by which the rate of faults was chosen
  double slow_only_s = 0;       ///< a static run with its slow rank and without faults
  StaticCosts costs;
  Calibration calibration;
  JobRuns runs;

  [[nodiscard]] std::vector<WayFigures> figures() const;
};

/// Measures what the calibration needs, chooses the rate of faults, and runs each way with each seed, in
/// turn.
[[nodiscard]] Result<JobsReport> measure_jobs(Stage& stage, const AllocationOptions& options,
                                              const std::string& dataset);

}  // namespace paceline::bench
