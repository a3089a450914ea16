#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "elastic/stage.hpp"

namespace paceline::bench {

/// Where a benchmark with trainings of its own works, and where its figures go.
struct StageRun {
  std::string folder;    ///< see Stage::make
  double timeout_s = 0;  ///< for each thing that is waited for
  std::string json;      ///< the file for the report; empty: none
  std::string heading;   ///< a line after the machine's; empty: none
};

/// Prints the machine, measures on a stage and writes `report`, to which the machine and what `measure` adds
/// come. Gives the exit status: 0, 1 for a failure, 2 for wrong arguments, 128 and a signal.
[[nodiscard]] int run_on_stage(const StageRun& run, nlohmann::json report,
                               const std::function<Status(Stage&, nlohmann::json& report)>& measure);

}  // namespace paceline::bench
