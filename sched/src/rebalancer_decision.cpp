// What the rebalancer does about it.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "paceline/base/assert.hpp"
#include "paceline/base/text.hpp"
#include "paceline/sched/rebalancer.hpp"

namespace paceline {
namespace {

/// Of the step: what takes as much bounds it, whatever the shares are.
constexpr double bounding_part = 0.5;

std::string rounded(double number, const char* unit) {
  char text[64];
  std::snprintf(text, sizeof text, number >= 1000 ? "%.0f%s" : "%.3g%s", number, unit);
  return text;
}

std::string shown_ms(double ms) {
  return rounded(ms, " ms");
}

std::string shown_part(double part) {
  return rounded(100 * part, "%");
}

std::vector<RankShare> with_shares(std::vector<RankShare> plan, const std::vector<std::int64_t>& shares) {
  for (std::size_t rank = 0; rank < plan.size(); ++rank) plan[rank].grains = shares[rank];
  return plan;
}

std::vector<std::int64_t> shares_of(const std::vector<RankShare>& plan) {
  std::vector<std::int64_t> shares;
  for (const RankShare& share : plan) shares.push_back(share.grains);
  return shares;
}

void decide_on(RebalanceDecision& decision, RebalanceVerdict verdict, std::string reason) {
  decision.verdict = verdict;
  decision.reason = std::move(reason);
}

}  // namespace

const char* name_of(RebalanceVerdict verdict) noexcept {
  switch (verdict) {
    case RebalanceVerdict::move: return "move";
    case RebalanceVerdict::balanced: return "balanced";
    case RebalanceVerdict::stages_uneven: return "stages_uneven";
    case RebalanceVerdict::data_bound: return "data_bound";
    case RebalanceVerdict::network_bound: return "network_bound";
    case RebalanceVerdict::noise: return "noise";
    case RebalanceVerdict::backing_off: return "backing_off";
    case RebalanceVerdict::does_not_pay: return "does_not_pay";
    case RebalanceVerdict::unknown_rank: return "unknown_rank";
    case RebalanceVerdict::move_pending: return "move_pending";
    case RebalanceVerdict::measuring: return "measuring";
    case RebalanceVerdict::no_choice: return "no_choice";
  }
  return "";
}

RebalanceDecision Rebalancer::decide(const std::vector<RankShare>& plan,
                                     const RebalanceOutlook& outlook) const {
  RebalanceDecision decision;
  decision.step = outlook.step;
  decision.before = plan;
  decision.move_cost_ms = outlook.move_cost_ms;
  if (cannot_decide(decision)) return decision;
  decision.inputs = times_of(plan);
  predict(decision);
  judge(decision, outlook);
  return decision;
}

bool Rebalancer::cannot_decide(RebalanceDecision& decision) const {
  const std::vector<RankShare>& plan = decision.before;
  const bool movable =
      plan.size() > 1 && std::ranges::any_of(plan, [](auto& share) { return share.grains > 1; });
  if (!movable) {
    decide_on(decision, RebalanceVerdict::no_choice, "there are no other shares");
    return true;
  }
  bool observed = plan.size() == ranks_.size();
  for (const RankShare& share : plan) {
    const auto known = ranks_.find(share.worker);
    observed = observed && known != ranks_.end() && known->second.grains == share.grains;
  }
  if (!observed) {
    decide_on(decision, RebalanceVerdict::move_pending, "no step of this plan has been committed yet");
    return true;
  }
  for (const RankShare& share : plan) {
    const Rank& rank = ranks_.at(share.worker);
    if (!rank.silent && rank.cost.count() > 0) continue;
    decision.worker = share.worker;
    decide_on(decision, RebalanceVerdict::unknown_rank,
              concat("rank ", share.worker, " has not said what its last step took: shares stay"));
    return true;
  }
  return false;
}

std::vector<RankTime> Rebalancer::times_of(const std::vector<RankShare>& plan) const {
  const std::int64_t factor = rules_.most_factor;
  std::vector<RankTime> times;
  for (const RankShare& share : plan) {
    const Rank& rank = ranks_.at(share.worker);
    const double ms = rank.cost.cautious();
    times.push_back({rank.data_wait_ms.median() + fixed_grains_ * ms, ms,
                     std::max<std::int64_t>(1, (share.grains + factor - 1) / factor), share.grains * factor});
  }
  return times;
}

/// What is left of the reduction when the last rank has come; the others' also has their waiting for it.
double Rebalancer::network_ms() const {
  double least_ms = ranks_.begin()->second.exposed_reduce_ms.median();
  for (const auto& [worker, rank] : ranks_) least_ms = std::min(least_ms, rank.exposed_reduce_ms.median());
  return least_ms;
}

void Rebalancer::predict(RebalanceDecision& decision) const {
  std::int64_t total = 0;
  for (const RankShare& share : decision.before) total += share.grains;
  decision.after = with_shares(decision.before, assign_grains(decision.inputs, total));
  const double network = network_ms();
  const LastRank before = last_of(decision.inputs, shares_of(decision.before));
  const LastRank after = last_of(decision.inputs, shares_of(decision.after));
  decision.worker = decision.before[before.rank].worker;
  decision.predicted_before_ms = before.finish_ms + network;
  decision.predicted_after_ms = after.finish_ms + network;
  decision.gain = 1 - decision.predicted_after_ms / decision.predicted_before_ms;
  const auto error_of = [&](const LastRank& last) {
    const Rank& rank = ranks_.at(decision.before[last.rank].worker);
    const double wait = rank.data_wait_ms.median();
    return std::hypot(rank.cost.error() * (last.finish_ms - wait), rank.data_wait_ms.scatter()) /
           last.finish_ms;
  };
  decision.gain_error = decision.predicted_after_ms / decision.predicted_before_ms *
                        std::hypot(error_of(before), error_of(after));
}

/// The costs that a gain depends on: those of the ranks that would be last before and after.
std::array<const CostEstimate*, 2> Rebalancer::decisive_costs(const RebalanceDecision& decision) const {
  const auto of_last = [&](const std::vector<RankShare>& plan) {
    const std::size_t last = last_of(decision.inputs, shares_of(plan)).rank;
    return &ranks_.at(plan[last].worker).cost;
  };
  return {of_last(decision.before), of_last(decision.after)};
}

void Rebalancer::judge(RebalanceDecision& decision, const RebalanceOutlook& outlook) const {
  const auto ranks = static_cast<double>(decision.before.size());
  const double by_noise =
      rules_.least_certainty * (1 + rules_.certainty_growth * std::log(ranks / 2)) * decision.gain_error;
  const double by_backoff =
      rules_.least_gain * std::pow(rules_.backoff, static_cast<double>(backoffs_at(outlook.step)));
  const auto [slowest_before, slowest_after] = decisive_costs(decision);
  // Of many ranks one may always seem slower by chance: only of those two it counts.
  const bool unsettled =
      learning_ || slowest_before->may_be_slower() || slowest_after->may_be_slower() ||
      std::ranges::any_of(ranks_, [](auto& rank) { return rank.second.cost.may_be_faster(); });
  const double by_measuring = unsettled ? rules_.least_gain_measuring : 0;
  const double by_age =
      rules_.lasting_gain / static_cast<double>(std::min(slowest_before->count(), slowest_after->count()));
  decision.gain_needed = std::max({by_noise, by_backoff, by_measuring, by_age});
  const std::int64_t counted = std::clamp<std::int64_t>(outlook.remaining_steps, 0, rules_.horizon_steps);
  decision.saves_ms =
      (decision.predicted_before_ms - decision.predicted_after_ms) * static_cast<double>(counted);
  const std::string change =
      concat("rank ", *decision.worker, " is the slowest; with other shares a step takes ",
             shown_ms(decision.predicted_after_ms), " instead of ", shown_ms(decision.predicted_before_ms));
  if (decision.gain <= rules_.least_gain)
    explain_balance(decision);
  else if (decision.gain <= by_noise)
    decide_on(decision, RebalanceVerdict::noise,
              concat(change, ", but up to ", shown_part(by_noise), " may be noise"));
  else if (decision.gain <= by_backoff)
    decide_on(
        decision, RebalanceVerdict::backing_off,
        concat(change, ", but after moves that were taken back the gain must be ", shown_part(by_backoff)));
  else if (decision.gain <= by_age)
    decide_on(decision, RebalanceVerdict::measuring,
              concat(change, ", but that has been so for too few steps"));
  else if (decision.gain <= by_measuring)
    decide_on(decision, RebalanceVerdict::measuring,
              concat(change, learning_ ? ", but what the last move did is still being measured"
                                       : ", but what it takes is just changing"));
  else if (!(decision.saves_ms > decision.move_cost_ms))
    decide_on(decision, RebalanceVerdict::does_not_pay,
              concat(change, ", which saves ", shown_ms(decision.saves_ms), " in ", counted,
                     counted == 1 ? " step" : " steps", " and costs ", shown_ms(decision.move_cost_ms)));
  else
    decide_on(decision, RebalanceVerdict::move, concat(change, ": ", shown_part(decision.gain), " less"));
}

/// Why no other shares help.
void Rebalancer::explain_balance(RebalanceDecision& decision) const {
  const Rank& slowest = ranks_.at(*decision.worker);
  const double step_ms = decision.predicted_before_ms, network = network_ms();
  const double wait = slowest.data_wait_ms.median();
  double stages = slowest.stage_ratio.median();
  for (const auto& [worker, rank] : ranks_) stages = std::min(stages, rank.stage_ratio.median());
  if (stages > rules_.uneven_stages)
    decide_on(decision, RebalanceVerdict::stages_uneven,
              concat("on every rank the slowest stage of the pipeline takes at least ", rounded(stages, ""),
                     " times the mean of all: no shares change that, other layers in the stages would"));
  else if (network > bounding_part * step_ms)
    decide_on(decision, RebalanceVerdict::network_bound,
              concat(shown_ms(network), " of a step of ", shown_ms(step_ms),
                     " is reduction that all ranks wait for: no shares change that"));
  else if (wait > bounding_part * step_ms)
    decide_on(decision, RebalanceVerdict::data_bound,
              concat("rank ", *decision.worker, " is the slowest and waits for data for ", shown_ms(wait),
                     " of a step of ", shown_ms(step_ms), ": no shares change that"));
  else
    decide_on(decision, RebalanceVerdict::balanced,
              concat("the best other shares make a step of ", shown_ms(step_ms), " shorter by ",
                     shown_part(std::max(0.0, decision.gain)), ", too little"));
}

}  // namespace paceline
