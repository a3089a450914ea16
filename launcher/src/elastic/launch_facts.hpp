#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "listener.hpp"

namespace paceline {

/// Where a run goes on: at its beginning, or where it is resumed.
struct RunPosition {
  std::int64_t term = 1;             ///< of its first coordinator
  std::int64_t base_step = 0;        ///< steps that are trained
  std::string checkpoint{};          ///< folder of the state after those; empty: there are none
  std::int64_t last_generation = 0;  ///< the highest number that is taken
  std::int64_t last_worker = -1;     ///< the same of workers
  friend bool operator==(const RunPosition&, const RunPosition&) = default;
};

/// What was decided when a job was launched, and a coordinator must know whenever it begins: RUN/launch.json.
struct LaunchFacts {
  std::int64_t agents = 1;     ///< that the launch has; others may join later
  std::int64_t ranks = 1;      ///< to begin with
  std::int64_t min_ranks = 1;  ///< and later on between these
  std::int64_t max_ranks = 1;
  std::string host;  ///< where coordinators listen; empty: the address at which other machines reach it
  PortRange ports;
  std::vector<std::string> closed;     ///< nodes that the job is to leave
  std::vector<std::string> attending;  ///< agents, by name, whom a successor waits for
  RunPosition position;
  friend bool operator==(const LaunchFacts&, const LaunchFacts&) = default;
};

[[nodiscard]] Status write_launch_facts(const std::string& run_dir, const LaunchFacts& facts);
[[nodiscard]] Result<LaunchFacts> read_launch_facts(const std::string& run_dir);
/// The file's content; `name` is for messages.
[[nodiscard]] Result<LaunchFacts> parse_launch_facts(const std::string& text, const std::string& name);

}  // namespace paceline
