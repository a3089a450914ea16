#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "paceline/base/clock.hpp"
#include "paceline/base/result.hpp"

namespace paceline::bench {

/// What `paceline bench allreduce` was asked for.
struct AllreduceOptions {
  int ranks = 2;
  int nodes = 1;
  std::vector<int> layout;  ///< ranks of each node; always filled in
  std::string hosts_file;   ///< empty: all ranks on this machine
  double wire_gbits = 0;    ///< what a host's wire carries each way; 0: not known
  std::string transport = "auto";
  std::string memory = "shared";
  std::string dtype = "f32";
  std::string codec = "none";
  std::uint64_t min_bytes = 4;
  std::uint64_t max_bytes = std::uint64_t{64} << 20;
  int factor = 4;
  int rounds = 5;
  std::vector<std::string> peers;
  std::string json;
  Duration timeout = std::chrono::seconds(60);  ///< for each thing that a contender is asked
};

/// The arguments after "bench allreduce". A request for help is an error with code aborted whose message is
/// the help.
[[nodiscard]] Result<AllreduceOptions> parse_allreduce(std::vector<std::string> arguments);

}  // namespace paceline::bench
