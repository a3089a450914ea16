#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "paceline/sched/placement.hpp"

namespace paceline {

/// One node as an entry of an inventory file (docs/planning.md).
[[nodiscard]] nlohmann::json to_inventory_json(const NodeResources& node);

/// The nodes of an inventory file: what to_inventory_json writes, and the shorter forms for people. `source`
/// stands for the file in errors. Any bytes. invalid_argument: one sentence with node and key.
[[nodiscard]] Result<std::vector<NodeResources>> parse_inventory(const std::string& text,
                                                                 const std::string& source);
/// The same for one entry.
[[nodiscard]] Result<NodeResources> parse_inventory_node(const nlohmann::json& entry);

}  // namespace paceline
