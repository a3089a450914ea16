#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "allreduce/measure.hpp"

namespace paceline::bench {

/// What figures cannot be compared without.
struct Machine {
  std::string processor;
  int cores = 0;  ///< that this process may use
  std::uint64_t memory_bytes = 0;
  std::string kernel;
  std::string huge_pages;         ///< transparent ones, for a process's own memory
  std::string shared_huge_pages;  ///< and for memory that processes share
  double load = 0;                ///< of the last minute, before the run
};
[[nodiscard]] Machine this_machine();
[[nodiscard]] std::string describe(const Machine& machine);
[[nodiscard]] nlohmann::json to_json(const Machine& machine);

/// docs/benchmarks.md names the keys.
[[nodiscard]] std::string report_json(const std::vector<Row>& rows, const AllreduceOptions& options,
                                      const Placement& placement, const Machine& machine);

}  // namespace paceline::bench
