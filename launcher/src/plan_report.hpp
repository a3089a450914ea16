#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "paceline/sched/placement.hpp"

namespace paceline {

/// What `paceline plan` has to show.
struct PlanReport {
  std::string job;
  std::vector<NodeResources> nodes;
  RankNeeds needs;
  Placement placement;
};

/// The table of ranks, and that of the nodes without one, for people.
[[nodiscard]] std::string to_text(const PlanReport& report);
/// The same with everything that the nodes have; `--inventory` reads it.
[[nodiscard]] nlohmann::json to_json(const PlanReport& report);

}  // namespace paceline
