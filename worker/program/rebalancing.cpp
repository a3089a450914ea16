#include "rebalancing.hpp"

#include <algorithm>
#include <numeric>

#include "paceline/base/text.hpp"
#include "paceline/train/trainer.hpp"

namespace paceline {
namespace {

constexpr std::int64_t nothing_said = StepSpec::nothing_said;
// computed, waited for data, waited for sums: of each rank; and behind them the share of each rank.
constexpr std::int64_t times_of_rank = 3;
// So many ranks can speak with every commit: 2 KiB, which a commit takes along at no cost.
constexpr std::int64_t ranks_at_every_step = 64;
// Steps between the commit that tells of new shares and the first step that is cut by them.
constexpr std::int64_t steps_ahead = 1;
// Of a generation, to which nobody listens.
constexpr std::int64_t warm_up_steps = 10;
// What a loader has made in vain is made again beside a step.
constexpr double move_cost_ms = 5;

double ms(std::int64_t nanoseconds) {
  return static_cast<double>(nanoseconds) / 1e6;
}

std::vector<RankShare> plan_of(const Shares& shares) {
  std::vector<RankShare> plan;
  for (const std::int64_t share : shares) plan.push_back({std::ssize(plan), share});
  return plan;
}

}  // namespace

void Rebalancing::begin(std::int64_t rank, std::int64_t ranks) {
  rank_ = rank;
  ranks_ = ranks;
  steps_heard_ = 0;
  rebalancer_ = Rebalancer();
  proposal_.reset();
}

bool Rebalancing::speaks_at(std::int64_t step) const {
  return ranks_ > 1 && step % std::max<std::int64_t>(1, ranks_ / ranks_at_every_step) == 0;
}

std::vector<std::int64_t> Rebalancing::words(std::int64_t step, const StepTimes& times,
                                             const JobPlan& plan) const {
  if (!speaks_at(step)) return {};
  std::vector<std::int64_t> words(static_cast<std::size_t>(ranks_ * (times_of_rank + 1)), nothing_said);
  if (plan.is_whole(step)) {
    const auto own = words.begin() + rank_ * times_of_rank;
    own[0] = times.computed.count();
    own[1] = times.waited_for_data.count();
    own[2] = times.waited_for_sums.count();
  }
  if (proposal_) std::ranges::copy(proposal_->shares, words.begin() + ranks_ * times_of_rank);
  return words;
}

Result<std::optional<SharesChange>> Rebalancing::hear(std::int64_t step,
                                                      const std::vector<std::int64_t>& words,
                                                      const JobPlan& plan) {
  if (words.empty()) return {std::nullopt};
  const auto shares_said = words.begin() + ranks_ * times_of_rank;
  if (*shares_said == nothing_said) {
    if (rank_ == 0) decide(step, words, plan);
    return {std::nullopt};
  }
  SharesChange change;
  if (proposal_) change = *std::exchange(proposal_, std::nullopt);
  change.first_step = step + 1 + steps_ahead;
  change.shares.assign(shares_said, words.end());
  const std::int64_t grains = std::accumulate(plan.shares.begin(), plan.shares.end(), std::int64_t{0});
  const bool fits =
      std::ranges::all_of(change.shares, [&](std::int64_t share) { return share >= 1 && share <= grains; }) &&
      std::accumulate(change.shares.begin(), change.shares.end(), std::int64_t{0}) == grains;
  if (!fits)
    return Error{ErrorCode::corrupt, concat("rank 0 said shares with the commit of step ", step,
                                            " that are not of ", grains, " grains")};
  return {std::move(change)};
}

/// From what was said with the commit of `step`.
void Rebalancing::decide(std::int64_t step, const std::vector<std::int64_t>& words, const JobPlan& plan) {
  if (proposal_) return;
  std::vector<StepReport> reports;
  const std::vector<RankShare> of_step = plan_of(plan.shares_at(step));
  for (std::int64_t rank = 0; rank < ranks_; ++rank) {
    const auto said = words.begin() + rank * times_of_rank;
    if (said[0] == nothing_said) continue;
    StepReport& report = reports.emplace_back();
    report.worker = rank;
    report.grains = of_step[static_cast<std::size_t>(rank)].grains;
    report.compute_ms = ms(said[0]);
    report.data_wait_ms = ms(said[1]);
    report.exposed_reduce_ms = ms(said[2]);
  }
  if (reports.empty() || steps_heard_++ < warm_up_steps) return;  // none: a short step
  rebalancer_.observe(step, of_step, reports);
  const std::int64_t first_step = step + 2 + steps_ahead;
  const RebalanceDecision decision = rebalancer_.decide(
      plan_of(plan.shares_at(first_step)), {first_step, plan.steps.steps() - first_step, move_cost_ms});
  if (decision.verdict != RebalanceVerdict::move) return;
  SharesChange& proposal = proposal_.emplace();
  for (const RankShare& share : decision.after) proposal.shares.push_back(share.grains);
  proposal.gain = decision.gain;
  proposal.reason = decision.reason;
}

}  // namespace paceline
