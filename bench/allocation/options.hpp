#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "paceline/base/result.hpp"
#include "rebalance/options.hpp"

namespace paceline::bench {

/// What `paceline bench allocation` was asked for.
struct AllocationOptions {
  std::vector<std::string> parts;  ///< of allocation_parts; none: all
  std::int64_t runs = 100;         ///< of each way
  std::uint64_t seed = 1;          ///< of the first run; each further one has the next
  std::int64_t ranks = 2;
  std::int64_t steps = 100;            ///< of a job
  std::int64_t checkpoint_steps = 20;  ///< from one to the next
  std::string model = "cnn";
  std::int64_t batch = 256;
  std::int64_t images = 4096;  ///< of the dataset that is made
  SlowRank slow{.rank = 1, .factor = 1.25};
  std::string objective = "throughput";  ///< of the resize policy
  double price = 0.05;                   ///< of a rank's hour
  double wanted_failures = 0.05;         ///< of static allocation
  std::vector<std::int64_t> tasks = {10, 50, 100};
  std::int64_t grain = 8;     ///< samples of a task
  double tasks_seconds = 10;  ///< for which each number of them is measured
  std::string folder;         ///< in which a temporary one is made; empty: where temporary files go
  double timeout_s = 300;     ///< for each thing that is waited for
  std::string json;

  [[nodiscard]] bool wants(const std::string& part) const;
};

inline const std::vector<std::string> allocation_parts = {"jobs", "tasks"};

/// The arguments after "bench allocation". A request for help is an error with code aborted whose message is
/// the help.
[[nodiscard]] Result<AllocationOptions> parse_allocation(std::vector<std::string> arguments);

}  // namespace paceline::bench
