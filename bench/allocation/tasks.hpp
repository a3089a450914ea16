#pragma once

#include <string>
#include <vector>

#include "allocation/figures.hpp"
#include "allocation/options.hpp"
#include "elastic/stage.hpp"

namespace paceline::bench {

/// What one job of one rank needs, by measurement.
struct OneJobMemory {
  double worker_resident = 0;  ///< bytes; libraries that all workers share are in it
  double job_anonymous = 0;    ///< of its worker, agent and coordinator together
};

/// Of the memory that is available so much may be used: the rest is for what jobs need while they end.
inline constexpr double usable_memory = 0.8;
/// Why so many jobs do not fit; empty: they do.
[[nodiscard]] std::string why_not_fitting(std::int64_t jobs, double bytes_each,
                                          std::optional<double> available);

struct TasksReport {
  OneJobMemory memory;
  double grains_per_second_alone = 0;
  std::vector<TasksFigures> rows;
};

/// Starts so many jobs of one rank and one grain a step at once, lets all of them train for a while, and ends
/// them; first one alone, then each number in turn that memory is there for.
[[nodiscard]] Result<TasksReport> measure_tasks(Stage& stage, const AllocationOptions& options,
                                                const std::string& dataset);

}  // namespace paceline::bench
