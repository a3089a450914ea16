#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "paceline/base/result.hpp"
#include "paceline/job/job.hpp"

namespace paceline::bench {

/// What `paceline bench scaling` was asked for.
struct ScalingOptions {
  std::string job_file;
  std::vector<std::int64_t> ranks;  ///< ascending; empty: 1, 2, 4 and so on up to the cores
  bool weak = false;                ///< also with as many samples for each rank, whatever their number
  std::vector<std::string> sets;    ///< key=value, in place of what the job file says
  int rounds = 3;
  std::int64_t steps = 100;   ///< of each training
  std::int64_t threads = 0;   ///< compute threads of each rank; 0: the job's, or an equal part of the cores
  std::int64_t simulate = 0;  ///< show what the model says of up to so many ranks; 0: nothing
  std::string compare;        ///< the --json of an earlier run
  std::string json;
  std::string html;
  std::string folder;        ///< in which a temporary one is made; empty: where temporary files go
  double timeout_s = 14400;  ///< for each training
};

/// The arguments after "bench scaling". A request for help is an error with code aborted whose message is the
/// help.
[[nodiscard]] Result<ScalingOptions> parse_scaling(std::vector<std::string> arguments);

/// The job, with --set. Errors name the file, or the option that doesn't suit the job.
[[nodiscard]] Result<Job> load_scaling_job(const ScalingOptions& options);

/// `options` with what depends on job and machine: --ranks and --threads where they were not given, within
/// the job's limits. An error names sizes that the job can't have.
[[nodiscard]] Result<ScalingOptions> settled(ScalingOptions options, const Job& job, std::int64_t cores);

}  // namespace paceline::bench
