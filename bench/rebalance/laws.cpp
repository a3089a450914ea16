#include "rebalance/laws.hpp"

#include <algorithm>
#include <numeric>

#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

std::int64_t total_of(const TraceShares& shares) {
  return std::accumulate(shares.begin(), shares.end(), std::int64_t{0});
}

class EqualLaw : public Law {
 public:
  [[nodiscard]] std::string name() const override { return "equal"; }
  [[nodiscard]] TraceShares next(const Replayed& past) override { return past.shares; }
};

/// What one might do first. At balance all step times are equal, and it goes back to equal shares.
class InverseStepTimeLaw : public Law {
 public:
  [[nodiscard]] std::string name() const override { return "inverse_step_time"; }
  [[nodiscard]] TraceShares next(const Replayed& past) override {
    double speeds = 0;
    for (const double time : past.times) speeds += 1 / time;
    const auto total = static_cast<double>(total_of(past.shares));
    TraceShares shares(past.shares.size(), 1);
    std::vector<double> lacking;
    for (const double time : past.times) lacking.push_back(total / time / speeds - 1);
    for (std::int64_t left = total_of(past.shares) - total_of(shares); left > 0; --left) {
      const auto most = std::ranges::max_element(lacking);
      ++shares[static_cast<std::size_t>(most - lacking.begin())];
      --*most;
    }
    return shares;
  }
};

/// An exponential average of the time per grain; moves when the step is predicted to gain more than a part.
class AverageLaw : public Law {
 public:
  AverageLaw(std::string name, double weight, double least_gain)
      : name_(std::move(name)), weight_(weight), least_gain_(least_gain) {}
  [[nodiscard]] std::string name() const override { return name_; }
  [[nodiscard]] TraceShares next(const Replayed& past) override {
    const std::int64_t total = total_of(past.shares);
    averages_.resize(past.shares.size());
    for (std::size_t rank = 0; rank < averages_.size(); ++rank) {
      const double cost = past.times[rank] / static_cast<double>(past.shares[rank]);
      double& average = averages_[rank].ms_per_grain;
      average = past.iteration == 0 ? cost : average + weight_ * (cost - average);
      averages_[rank].most = total;
    }
    TraceShares shares = assign_grains(averages_, total);
    const double before = last_of(averages_, past.shares).finish_ms;
    const double after = last_of(averages_, shares).finish_ms;
    return after < before * (1 - least_gain_) ? shares : past.shares;
  }

 private:
  std::string name_;
  double weight_, least_gain_;
  std::vector<RankTime> averages_;
};

}  // namespace

TraceShares PacelineLaw::next(const Replayed& past) {
  std::vector<RankShare> plan;
  std::vector<StepReport> reports;
  for (std::size_t rank = 0; rank < past.shares.size(); ++rank) {
    const auto worker = static_cast<WorkerId>(rank);
    plan.push_back({worker, past.shares[rank]});
    StepReport report;
    report.worker = worker;
    report.grains = past.shares[rank];
    report.compute_ms = past.times[rank];
    if (!past.trace.stages.empty()) report.stages_ms = past.trace.stages[rank];
    reports.push_back(std::move(report));
  }
  rebalancer_.observe(past.iteration, plan, reports);
  const RebalanceDecision decision =
      rebalancer_.decide(plan, {.step = past.iteration + 1, .remaining_steps = past.remaining});
  ++verdicts_[name_of(decision.verdict)];
  reasons_[name_of(decision.verdict)] = decision.reason;
  if (decision.verdict != RebalanceVerdict::move) return past.shares;
  TraceShares shares;
  for (const RankShare& share : decision.after) shares.push_back(share.grains);
  return shares;
}

const std::string& PacelineLaw::says() const {
  const auto most =
      std::ranges::max_element(verdicts_, std::less<>(), [](const auto& verdict) { return verdict.second; });
  return reasons_.at(most->first);
}

std::vector<std::unique_ptr<Law>> other_laws() {
  std::vector<std::unique_ptr<Law>> laws;
  laws.push_back(std::make_unique<EqualLaw>());
  laws.push_back(std::make_unique<InverseStepTimeLaw>());
  laws.push_back(std::make_unique<AverageLaw>("average_0.3", 0.3, 0));
  laws.push_back(std::make_unique<AverageLaw>("average_0.1_gain_0.03", 0.1, 0.03));
  return laws;
}

}  // namespace paceline::bench
