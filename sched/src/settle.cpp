#include "paceline/sched/settle.hpp"

#include <algorithm>

#include "paceline/base/text.hpp"

namespace paceline {

bool can_reach(const Standing& standing, std::int64_t base_step) noexcept {
  return standing.complete &&
         (standing.applied == base_step || (standing.applied == base_step - 1 && standing.reduced));
}

Result<std::int64_t> settle(const std::vector<Standing>& standings) {
  std::vector<Standing> complete;
  std::ranges::copy_if(standings, std::back_inserter(complete),
                       [](const Standing& standing) { return standing.complete; });
  if (complete.empty())
    return Error{ErrorCode::not_found, "no rank is left that holds the whole training state"};
  const std::int64_t most = std::ranges::max(complete, {}, &Standing::applied).applied;
  for (const Standing& standing : complete)
    if (!can_reach(standing, most))
      return Error{ErrorCode::internal,
                   concat("one rank has applied ", most, " steps and another ", standing.applied,
                          standing.reduced ? ", with one more reduced" : "",
                          ": they cannot be brought together (this should be impossible, please report it)")};
  const bool all_hold_more = std::ranges::all_of(
      complete, [most](const Standing& standing) { return standing.applied == most && standing.reduced; });
  return most + (all_hold_more ? 1 : 0);
}

}  // namespace paceline
