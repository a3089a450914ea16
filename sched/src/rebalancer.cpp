// What the rebalancer knows: costs, waits, the fixed part, and how it moved before.
#include "paceline/sched/rebalancer.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include "paceline/base/assert.hpp"

namespace paceline {
namespace {

/// A month; and a time that no computation is below.
constexpr double most_ms = 31.0 * 24 * 3600 * 1000, least_ms = 1e-6;
/// Only a share that changes by so much says something of the fixed part.
constexpr double telling_change = 0.15;
/// Of a rank's time, what a move says the fixed part is of it. What noise makes of none is below 0, and
/// counts so that it is none on average; beyond these the rank itself has changed.
constexpr double least_fixed_fraction = -0.5, most_fixed_fraction = 1.5;
/// In shares: what is believed, and what is expected before a move has told anything.
constexpr double most_fixed_shares = 2, usual_fixed_shares = 0.15;
/// Costs wander by themselves: what a few steps take is known no better, however little they differ.
constexpr double least_error_of_times = 0.1;
/// Of what earlier moves said, after one more.
constexpr double fixed_decay = 0.9;
/// The cosine of two moves, below which the second takes the first back.
constexpr double reversal_cosine = -0.5;

bool is_time(double ms) {
  return std::isfinite(ms) && ms >= 0 && ms <= most_ms;
}

bool says_something(const StepReport& report) {
  return report.grains >= 1 && is_time(report.compute_ms) && report.compute_ms >= least_ms &&
         is_time(report.data_wait_ms) && is_time(report.exposed_reduce_ms) &&
         std::ranges::all_of(report.stages_ms, [](double ms) { return is_time(ms) && ms >= least_ms; });
}

double stage_ratio_of(const std::vector<double>& stages_ms) {
  if (stages_ms.size() < 2) return 0;
  double total = 0;
  for (const double ms : stages_ms) total += ms;
  return std::ranges::max(stages_ms) * static_cast<double>(stages_ms.size()) / total;
}

bool names_each_once(const std::vector<RankShare>& plan) {
  std::set<WorkerId> workers;
  return std::ranges::all_of(
      plan, [&](const RankShare& share) { return share.grains >= 1 && workers.insert(share.worker).second; });
}

double middle_of(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>((values.size() - 1) / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

CostEstimate Rebalancer::median_cost() const {
  std::vector<double> levels, deviations;
  for (const auto& [worker, rank] : ranks_) {
    if (rank.cost.level() == 0) continue;
    levels.push_back(rank.cost.level());
    deviations.push_back(rank.cost.deviation());
  }
  if (levels.empty()) return CostEstimate(rules_.cost);
  return CostEstimate::assumed(rules_.cost, middle_of(levels), middle_of(deviations));
}

/// Whether the same workers have other shares than before.
bool Rebalancer::take_plan(const std::vector<RankShare>& plan) {
  PACELINE_ASSERT(names_each_once(plan), "a plan names each worker once, with a grain at least");
  bool same_workers = plan.size() == ranks_.size(), same_shares = true;
  for (const RankShare& share : plan) {
    const auto known = ranks_.find(share.worker);
    same_workers = same_workers && known != ranks_.end();
    same_shares = same_shares && known != ranks_.end() && known->second.grains == share.grains;
  }
  if (same_workers) return !same_shares;
  const Rank newcomer(median_cost());
  Ranks next;
  for (const RankShare& share : plan) {
    const auto known = ranks_.find(share.worker);
    next.emplace(share.worker, known == ranks_.end() ? newcomer : known->second).first->second.grains =
        share.grains;
  }
  ranks_ = std::move(next);
  learning_ = false;
  last_move_.clear();
  return false;
}

std::int64_t Rebalancer::backoffs_at(std::int64_t step) const noexcept {
  return step - last_reversal_step_ > rules_.backoff_steps ? 0 : reversals_;
}

void Rebalancer::note_move(std::int64_t step, const std::vector<RankShare>& plan) {
  std::map<WorkerId, std::int64_t> move;
  double back = 0, length = 0, last_length = 0;
  for (const RankShare& share : plan) {
    Rank& rank = ranks_.at(share.worker);
    rank.before_ms = rank.cost.level() * (static_cast<double>(rank.grains) + fixed_grains_);
    rank.before_error = rank.cost.error();
    rank.before_grains = rank.grains;
    rank.after_ms = 0;
    const auto gained = static_cast<double>(share.grains - rank.grains);
    const auto last = last_move_.empty() ? 0.0 : static_cast<double>(last_move_.at(share.worker));
    back += gained * last;
    length += gained * gained;
    last_length += last * last;
    move.emplace(share.worker, share.grains - rank.grains);
    rank.grains = share.grains;
  }
  if (!last_move_.empty() && step - last_move_step_ <= rules_.reversal_steps &&
      back < reversal_cosine * std::sqrt(length * last_length)) {
    reversals_ = std::min(backoffs_at(step) + 1, rules_.most_backoffs);
    last_reversal_step_ = step;
  }
  last_move_ = std::move(move);
  last_move_step_ = step;
  steps_since_move_ = 0;
  learning_ = true;
}

bool Rebalancer::take_report(const StepReport& report, Rank& rank) const {
  if (!says_something(report)) return false;
  rank.cost.observe(report.compute_ms / (static_cast<double>(report.grains) + fixed_grains_));
  rank.data_wait_ms.observe(report.data_wait_ms);
  rank.exposed_reduce_ms.observe(report.exposed_reduce_ms);
  rank.stage_ratio.observe(stage_ratio_of(report.stages_ms));
  rank.after_ms += report.compute_ms;
  return report.grains == rank.grains;
}

void Rebalancer::observe(std::int64_t step, const std::vector<RankShare>& plan,
                         const std::vector<StepReport>& reports) {
  if (step <= last_step_) return;
  last_step_ = step;
  if (take_plan(plan)) note_move(step, plan);
  std::map<WorkerId, const StepReport*> by_worker;  // null: several
  for (const StepReport& report : reports) {
    const auto [place, is_first] = by_worker.emplace(report.worker, &report);
    if (!is_first) place->second = nullptr;
  }
  bool whole = true;
  for (auto& [worker, rank] : ranks_) {
    const auto found = by_worker.find(worker);
    const StepReport* report = found == by_worker.end() ? nullptr : found->second;
    rank.silent = report == nullptr || !says_something(*report);
    whole = !rank.silent && take_report(*report, rank) && whole;
  }
  // A step that is short, or of which not all is known, ends the measurement: it would not be of one time.
  if (!whole) learning_ = false;
  if (learning_ && ++steps_since_move_ == rules_.fixed_steps) learn_fixed_part();
}

/// With a share s before and s' after a move, times t and t', and the fixed part f in grains: t'/t = (s' + f)
/// / (s + f). Of t the part p = f / (s + f) is fixed, and t'/t - s'/s = p (1 - s'/s). What ranks say of f is
/// weighed by the inverse of its variance, as is what was expected of it.
void Rebalancer::learn_fixed_part() {
  learning_ = false;
  const double was = fixed_grains_;
  double sum = 0, weight = 0, shares = 0;
  for (const auto& [worker, rank] : ranks_) {
    const auto before = static_cast<double>(rank.before_grains), after = static_cast<double>(rank.grains);
    shares += after;
    if (rank.before_ms <= 0 || std::abs(after - before) < telling_change * before) continue;
    const double ratio = rank.after_ms / static_cast<double>(rules_.fixed_steps) / rank.before_ms;
    const double fraction = (ratio - after / before) / (1 - after / before);
    if (fraction < least_fixed_fraction || fraction > most_fixed_fraction) continue;
    const double believed = std::min(fraction, most_fixed_shares / (1 + most_fixed_shares));
    const double error_of_times =
        std::max(least_error_of_times, std::hypot(rank.before_error, rank.cost.error_of(rules_.fixed_steps)));
    const double error = error_of_times * (after + was) * (before + was) / std::abs(after - before);
    sum += before * believed / (1 - believed) / (error * error);
    weight += 1 / (error * error);
  }
  if (weight == 0) return;
  fixed_sum_ = fixed_decay * fixed_sum_ + sum;
  fixed_weight_ = fixed_decay * fixed_weight_ + weight;
  const double share = shares / static_cast<double>(ranks_.size());
  const double expected = 1 / std::pow(usual_fixed_shares * share, 2);
  fixed_grains_ = std::clamp(fixed_sum_ / (fixed_weight_ + expected), 0.0, most_fixed_shares * share);
  for (auto& [worker, rank] : ranks_) {
    const auto grains = static_cast<double>(rank.grains);
    rank.cost.rescale((grains + was) / (grains + fixed_grains_));
  }
}

const CostEstimate* Rebalancer::cost_of(WorkerId worker) const {
  const auto found = ranks_.find(worker);
  return found == ranks_.end() ? nullptr : &found->second.cost;
}

std::vector<RankShare> Rebalancer::split(const std::vector<WorkerId>& workers, std::int64_t grains) const {
  PACELINE_ASSERT(grains >= static_cast<std::int64_t>(workers.size()), "a grain for each worker");
  const CostEstimate newcomer = median_cost();
  std::vector<RankTime> times;
  for (const WorkerId worker : workers) {
    const auto found = ranks_.find(worker);
    const CostEstimate& cost = found == ranks_.end() ? newcomer : found->second.cost;
    const double ms = cost.level() > 0 ? cost.cautious() : 1;
    const double wait_ms = found == ranks_.end() ? 0 : found->second.data_wait_ms.median();
    times.push_back({wait_ms + fixed_grains_ * ms, ms, 1, grains});
  }
  const std::vector<std::int64_t> shares = assign_grains(times, grains);
  std::vector<RankShare> plan;
  for (std::size_t rank = 0; rank < workers.size(); ++rank) plan.push_back({workers[rank], shares[rank]});
  return plan;
}

}  // namespace paceline
