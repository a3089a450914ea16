#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "paceline/base/result.hpp"

namespace paceline::bench {

/// What `paceline bench data` was asked for.
struct DataOptions {
  std::vector<std::string> folders;   ///< datasets, each measured by itself
  std::vector<int> threads = {1, 2};  ///< of the loader and of its limits
  std::int64_t batch = 256;
  std::int64_t window = 256;     ///< tokens per sample, where a dataset has tokens
  std::int64_t budget_mib = 32;  ///< of the loader that must read everything again in every pass
  int rounds = 5;
  bool cold = false;               ///< drop the page cache before every pass, too
  std::vector<std::string> peers;  ///< h5dread, torch
  std::string train;               ///< a job file: how long its training waits for data
  std::string json;
};

/// The arguments after "bench data". A request for help is an error with code aborted whose message is the
/// help.
[[nodiscard]] Result<DataOptions> parse_data(std::vector<std::string> arguments);

}  // namespace paceline::bench
