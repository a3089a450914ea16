#include "job_size.hpp"

#include <algorithm>

#include "paceline/base/text.hpp"
#include "paceline/job/plan.hpp"

namespace paceline {

Result<std::optional<std::int64_t>> parse_ranks(const std::string& text) {
  if (text.empty()) return {std::nullopt};
  if (text.find(':') != std::string::npos)
    return Error{
        ErrorCode::invalid_argument,
        concat("--ranks ", text, ": a job whose size changes is not in this version: give one number")};
  const std::optional<std::int64_t> ranks = parse_integer(text, 1, most_ranks);
  if (!ranks)
    return Error{ErrorCode::invalid_argument,
                 concat("--ranks ", text, ": the number of ranks must be from 1 to ", most_ranks)};
  return {ranks};
}

std::int64_t step_grains(const Job& job, std::int64_t ranks) {
  return grain_count(job.batch.global, job_grain(job, ranks));
}

Status check_ranks(const Job& job, std::int64_t ranks) {
  if (ranks < job.ranks.min || ranks > job.ranks.max)
    return Error{
        ErrorCode::invalid_argument,
        concat(ranks, ranks == 1 ? " rank is" : " ranks are", " outside the job's limits of ", job.ranks.min,
               " to ", job.ranks.max, ": change --ranks, or ranks.min and ranks.max in the job file")};
  PACELINE_TRY(equal_shares(step_grains(job, ranks), ranks));
  return {};
}

std::int64_t default_ranks(const Job& job, std::int64_t cores) {
  std::int64_t ranks = std::clamp(cores, job.ranks.min, job.ranks.max);
  while (ranks > job.ranks.min && step_grains(job, ranks) < ranks) --ranks;
  return ranks;
}

}  // namespace paceline
