#pragma once

#include <string>
#include <vector>

#include "doctor/crew.hpp"

namespace paceline::doctor {

/// What the nodes and this machine must be able to do with each other: connect, and see in `folder` what
/// others do. Clocks go to the checks of each node.
[[nodiscard]] std::vector<Check> examine_together(Crew& crew, const std::string& folder,
                                                  StopSignals& signals);

}  // namespace paceline::doctor
