#pragma once

#include <cstdint>
#include <string>

#include "listener.hpp"

namespace paceline {

/// What was decided when a job was launched, and a coordinator must know whenever it begins: RUN/launch.json.
struct LaunchFacts {
  std::int64_t agents = 1;     ///< that the launch has; others may join later
  std::int64_t ranks = 1;      ///< to begin with
  std::int64_t min_ranks = 1;  ///< and later on between these
  std::int64_t max_ranks = 1;
  std::string host;  ///< where coordinators listen; empty: the address at which other machines reach it
  PortRange ports;
  friend bool operator==(const LaunchFacts&, const LaunchFacts&) = default;
};

[[nodiscard]] Status write_launch_facts(const std::string& run_dir, const LaunchFacts& facts);
[[nodiscard]] Result<LaunchFacts> read_launch_facts(const std::string& run_dir);

}  // namespace paceline
