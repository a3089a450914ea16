#pragma once

#include <string>
#include <vector>

#include "paceline/sched/placement.hpp"

namespace paceline {

/// The network cards that are up, loopback left out: interfaces of `sys`/class/net, and ports of
/// `sys`/class/infiniband. By name.
[[nodiscard]] std::vector<NetworkCard> find_network_cards(const std::string& sys = "/sys");

}  // namespace paceline
