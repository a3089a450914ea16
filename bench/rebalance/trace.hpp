#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "paceline/base/result.hpp"

namespace paceline::bench {

/// One step of a job, as it was measured with equal shares.
struct TraceIteration {
  std::int64_t number = 0;    ///< in the file
  std::vector<double> times;  ///< by rank, all above 0; the unit is the file's
  /// By rank, of a pipeline, what each stage took; else empty. A rank's time is then its slowest stage's.
  std::vector<std::vector<double>> stages;
};

struct Trace {
  std::vector<std::int64_t> workers;       ///< by rank, as the file calls them
  std::vector<TraceIteration> iterations;  ///< at least two, by number
  std::vector<std::string> notes;          ///< for people: what was left out
};

/// The text of a CSV file of one of two kinds, which its first line tells apart:
///
///     ,worker,gpu,time,batch_time_norm                             a worker's whole iteration `time`
///     step,dp_rank,pp_stage,n_microbatches,forward_s,backward_s    one stage of a rank's pipeline
///
/// Lines may stand in any order. Errors name `name`, the line and the column. Iterations that lack a worker
/// are left out, and noted; more than a tenth of them is an error.
[[nodiscard]] Result<Trace> parse_trace(std::string_view text, const std::string& name);

}  // namespace paceline::bench
