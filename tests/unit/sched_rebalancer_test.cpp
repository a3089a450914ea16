// The rebalancer against ranks whose costs are known, with noise from seeds; docs/rebalancing.md.
#include "paceline/sched/rebalancer.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "paceline/base/hash.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

double uniform(SplitMix64& random) {
  return static_cast<double>(random.next() >> 11) * 0x1p-53;
}

/// Mean 0 and deviation 1, nearly normal: twelve uniform numbers.
double normal(SplitMix64& random) {
  double sum = -6;
  for (int i = 0; i < 12; ++i) sum += uniform(random);
  return sum;
}

std::vector<RankShare> equal_plan(std::int64_t ranks, std::int64_t grains) {
  std::vector<RankShare> plan;
  for (std::int64_t rank = 0; rank < ranks; ++rank) plan.push_back({100 + rank, grains});
  return plan;
}

std::int64_t total_of(const std::vector<RankShare>& plan) {
  std::int64_t total = 0;
  for (const RankShare& share : plan) total += share.grains;
  return total;
}

/// A report of only what was computed.
StepReport report_of(const RankShare& share, double compute_ms) {
  StepReport report;
  report.worker = share.worker;
  report.grains = share.grains;
  report.compute_ms = compute_ms;
  return report;
}

/// Ranks that train under a rebalancer, and what it makes of them.
struct Training {
  std::vector<RankShare> plan;
  std::function<double(std::int64_t step, std::size_t rank)> ms_per_grain;
  double noise = 0;   ///< standard deviation of a rank's step, as a part of it
  double fixed = 0;   ///< grains
  double spikes = 0;  ///< how often a step takes three times as long
  std::uint64_t seed = 1;
  RebalanceRules rules = {};

  Rebalancer rebalancer{rules};
  SplitMix64 random{seed};
  std::int64_t step = 0;
  std::vector<std::int64_t> moved_at = {};
  /// Of each step, the ranks' speeds summed up over what they would have to be for its time, noise left out.
  std::vector<double> efficiency = {};

  void run(std::int64_t steps) {
    for (const std::int64_t end = step + steps; step < end; ++step) {
      std::vector<StepReport> reports;
      double slowest = 0, speeds = 0;
      for (std::size_t rank = 0; rank < plan.size(); ++rank) {
        const double cost = ms_per_grain(step, rank);
        const double ms = cost * (static_cast<double>(plan[rank].grains) + fixed);
        slowest = std::max(slowest, ms);
        speeds += 1 / cost;
        const double spike = uniform(random) < spikes ? 3 : 1;
        reports.push_back(report_of(plan[rank], ms * spike * std::max(0.2, 1 + noise * normal(random))));
      }
      efficiency.push_back((static_cast<double>(total_of(plan)) + fixed * static_cast<double>(plan.size())) /
                           speeds / slowest);
      rebalancer.observe(step, plan, reports);
      take(rebalancer.decide(plan, {.step = step + 1, .remaining_steps = 1000}));
    }
  }
  [[nodiscard]] double mean_efficiency(std::size_t first, std::size_t last) const {
    return std::accumulate(efficiency.begin() + static_cast<std::ptrdiff_t>(first),
                           efficiency.begin() + static_cast<std::ptrdiff_t>(last), 0.0) /
           static_cast<double>(last - first);
  }
  /// Whether one of these steps is as good as that.
  [[nodiscard]] bool reaches(double least, std::size_t first, std::size_t last) const {
    return std::any_of(efficiency.begin() + static_cast<std::ptrdiff_t>(first),
                       efficiency.begin() + static_cast<std::ptrdiff_t>(last + 1),
                       [&](double value) { return value >= least; });
  }

 private:
  /// What holds for every decision, whatever the ranks do.
  void take(const RebalanceDecision& decision) {
    SCOPED_TRACE(concat("seed ", seed, ", step ", step));
    EXPECT_FALSE(decision.reason.empty());
    EXPECT_EQ(decision.before, plan);
    if (decision.verdict != RebalanceVerdict::move) return;
    ASSERT_EQ(decision.after.size(), plan.size());
    EXPECT_EQ(total_of(decision.after), total_of(plan));
    EXPECT_NE(decision.after, plan);
    for (std::size_t rank = 0; rank < plan.size(); ++rank) {
      EXPECT_EQ(decision.after[rank].worker, plan[rank].worker);
      EXPECT_GE(decision.after[rank].grains, 1);
      EXPECT_LE(decision.after[rank].grains, 2 * plan[rank].grains);
      EXPECT_GE(2 * decision.after[rank].grains, plan[rank].grains);
    }
    EXPECT_GT(decision.gain, 0.03);
    EXPECT_GT(decision.gain, decision.gain_needed);
    EXPECT_LT(decision.predicted_after_ms, decision.predicted_before_ms);
    EXPECT_GT(decision.saves_ms, decision.move_cost_ms);
    plan = decision.after;
    moved_at.push_back(step);
  }
};

double always(std::int64_t, std::size_t) {
  return 2;
}

/// Rank 1 is slowed to half its speed from step 100 to step 200.
double slowed(std::int64_t step, std::size_t rank) {
  return rank == 1 && step >= 100 && step < 200 ? 4 : 2;
}

// ---- shares ----------------------------------------------------------------------------------------

TEST(AssignGrains, NoOtherSharesFinishSooner) {
  SplitMix64 random(7);
  for (int round = 0; round < 300; ++round) {
    std::vector<RankTime> ranks(3);
    for (RankTime& rank : ranks)
      rank = {4 * uniform(random), 0.2 + uniform(random), 1, 4 + static_cast<std::int64_t>(random.below(9))};
    const std::vector<std::int64_t> shares = assign_grains(ranks, 12);
    EXPECT_EQ(std::accumulate(shares.begin(), shares.end(), std::int64_t{0}), 12);
    const double ours = last_of(ranks, shares).finish_ms;
    for (std::int64_t a = 1; a <= ranks[0].most; ++a)
      for (std::int64_t b = 1; b <= ranks[1].most; ++b) {
        const std::int64_t c = 12 - a - b;
        if (c < 1 || c > ranks[2].most) continue;
        EXPECT_LE(ours, last_of(ranks, {a, b, c}).finish_ms * (1 + 1e-12)) << "round " << round;
      }
  }
}

TEST(AssignGrains, EqualRanksGetEqualShares) {
  const std::vector<RankTime> ranks(4, RankTime{0, 1, 1, 100});
  EXPECT_EQ(assign_grains(ranks, 64), (std::vector<std::int64_t>{16, 16, 16, 16}));
  EXPECT_EQ(assign_grains(ranks, 6), (std::vector<std::int64_t>{2, 2, 1, 1}));
  EXPECT_EQ(assign_grains(ranks, 4), (std::vector<std::int64_t>{1, 1, 1, 1}));
}

// ---- costs -----------------------------------------------------------------------------------------

TEST(CostEstimate, BadNewsAfterThreeStepsGoodNewsAfterSix) {
  CostEstimate cost{CostRules{}};
  for (int i = 0; i < 50; ++i) cost.observe(1);
  for (int i = 0; i < 2; ++i) cost.observe(2);
  EXPECT_EQ(cost.changes(), 0);
  cost.observe(2);
  EXPECT_EQ(cost.changes(), 1);
  EXPECT_DOUBLE_EQ(cost.level(), 2);
  EXPECT_EQ(cost.count(), 3);
  for (int i = 0; i < 5; ++i) cost.observe(1);
  EXPECT_EQ(cost.changes(), 1);
  cost.observe(1);
  EXPECT_EQ(cost.changes(), 2);
  EXPECT_DOUBLE_EQ(cost.level(), 1);
}

/// As that of a rank which is stopped a dozen times in a step: its noise must not hide that it gets faster,
/// and what came before that must not be in the new level.
TEST(CostEstimate, ANoisyCostThatGetsBetterIsSeenAsSoon) {
  CostEstimate cost{CostRules{}};
  for (int i = 0; i < 60; ++i) cost.observe(i % 3 == 0 ? 1.5 : 2.4);
  ASSERT_EQ(cost.changes(), 0);
  EXPECT_FALSE(cost.may_be_faster());
  int steps = 0;
  for (; cost.changes() == 0 && steps < 20; ++steps) {
    cost.observe(steps % 2 == 0 ? 0.95 : 1.05);
    EXPECT_TRUE(steps != 4 || cost.may_be_faster());
  }
  EXPECT_LE(steps, 8);
  EXPECT_NEAR(cost.level(), 1, 0.06);
}

TEST(CostEstimate, OneLongStepIsNoChange) {
  for (const double spike : {3.0, 100.0, 1e9}) {
    CostEstimate cost{CostRules{}};
    for (int i = 0; i < 200; ++i) {
      cost.observe(i % 20 == 19 ? spike : 1);
      EXPECT_LT(cost.level(), 1.05);
    }
    EXPECT_EQ(cost.changes(), 0);
  }
}

TEST(CostEstimate, AbsurdValuesAreForgottenSoon) {
  CostEstimate cost{CostRules{}};
  for (int i = 0; i < 50; ++i) cost.observe(1);
  for (int i = 0; i < 3; ++i) cost.observe(1e12);
  EXPECT_LT(cost.level(), 20);
  for (int i = 0; i < 12; ++i) cost.observe(1);
  EXPECT_NEAR(cost.level(), 1, 0.01);
}

TEST(CostEstimate, ErrorIsThatOfAMean) {
  SplitMix64 random(3);
  std::vector<double> levels;
  double told = 0;
  for (int round = 0; round < 400; ++round) {
    CostEstimate cost{CostRules{}};
    for (int i = 0; i < 60; ++i) cost.observe(1 + 0.05 * normal(random));
    levels.push_back(cost.level());
    told += cost.error() / 400;
  }
  double squares = 0;
  for (const double level : levels) squares += (level - 1) * (level - 1);
  EXPECT_NEAR(told, std::sqrt(squares / 400), 0.25 * told);
}

// ---- ranks that differ -----------------------------------------------------------------------------

TEST(Rebalancer, EqualRanksStayEqual) {
  for (const std::int64_t ranks : {2, 3, 10})
    for (const double noise : {0.0, 0.02, 0.05, 0.1})
      for (std::uint64_t seed = 1; seed <= 10; ++seed) {
        Training training{equal_plan(ranks, 16), always, noise};
        training.random = SplitMix64(seed);
        training.run(1000);
        EXPECT_TRUE(training.moved_at.empty())
            << ranks << " ranks, noise " << noise << ", seed " << seed << ", step " << training.moved_at[0];
      }
}

TEST(Rebalancer, LongStepsNowAndThenMoveLittle) {
  double moves = 0;
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    Training training{equal_plan(4, 16), always, 0.03};
    training.spikes = 0.01;
    training.random = SplitMix64(seed);
    training.run(1000);
    moves += static_cast<double>(training.moved_at.size()) / 10;
    EXPECT_GT(training.mean_efficiency(0, 1000), 0.99) << "seed " << seed;
  }
  EXPECT_LT(moves, 3);
}

/// Two ranks, one slowed to half: 93% of what they can do together within ten steps, and again when it ends.
TEST(Rebalancer, FollowsARankThatIsSlowedAndItsRecovery) {
  for (const std::int64_t grains : {16, 32})
    for (const double noise : {0.02, 0.05, 0.1}) {
      double slow = 0, recovered = 0;
      int late = 0;
      constexpr int seeds = 40;
      for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        SCOPED_TRACE(concat(grains, " grains, noise ", noise, ", seed ", seed));
        Training training{equal_plan(2, grains), slowed, noise};
        training.random = SplitMix64(seed);
        training.run(300);
        slow += training.mean_efficiency(110, 200) / seeds;
        recovered += training.mean_efficiency(210, 300) / seeds;
        EXPECT_GT(training.mean_efficiency(110, 200), noise > 0.05 ? 0.90 : 0.93);
        EXPECT_GT(training.mean_efficiency(210, 300), noise > 0.05 ? 0.88 : 0.93);
        EXPECT_LT(training.moved_at.size(), 12U);
        if (!training.reaches(0.93, 100, 110) || !training.reaches(0.93, 200, 210)) ++late;
      }
      EXPECT_TRUE(noise > 0.05 || late <= 2) << late << " late, " << grains << " grains, noise " << noise;
      EXPECT_GT(slow, 0.95) << grains << " grains, noise " << noise;
      EXPECT_GT(recovered, 0.95) << grains << " grains, noise " << noise;
    }
}

/// The smaller a gain, the longer it must have been there.
TEST(Rebalancer, WaitsForWhatHasJustCome) {
  const auto first_move = [](double factor) {
    Training training{
        equal_plan(2, 32),
        [factor](std::int64_t step, std::size_t rank) { return rank == 1 && step >= 50 ? factor : 1.0; },
        0.01};
    training.run(150);
    return training.moved_at.empty() ? 1000 : training.moved_at.front() - 50;
  };
  const auto at_half_speed = first_move(2), little_slower = first_move(1.2);
  EXPECT_LE(at_half_speed, 5);
  EXPECT_GE(little_slower, 6);
  EXPECT_LE(little_slower, 20);
}

TEST(Rebalancer, BalancesLastingDifferences) {
  const std::vector<double> costs = {1, 1.3, 2, 0.8, 1, 3};
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Training training{equal_plan(6, 16), [&](auto, std::size_t rank) { return costs[rank]; }, 0.03};
    training.random = SplitMix64(seed);
    training.run(500);
    EXPECT_GT(training.mean_efficiency(20, 500), 0.93) << "seed " << seed;
    EXPECT_LE(training.moved_at.size(), 8U) << "seed " << seed;
  }
}

TEST(Rebalancer, ARankThatIsFarSlowerKeepsOneGrain) {
  Training training{equal_plan(2, 16), [](auto, std::size_t rank) { return rank == 0 ? 1.0 : 500.0; }, 0.02};
  training.run(60);
  EXPECT_EQ(training.plan[1].grains, 1);
  EXPECT_EQ(training.plan[0].grains, 31);
}

/// One that is slow every other while: moves become rare, since they are taken back.
TEST(Rebalancer, BacksOffWhereMovesAreTakenBack) {
  const auto alternating = [](std::int64_t step, std::size_t rank) {
    return rank == 1 && step / 7 % 2 == 1 ? 2.3 : 2.0;
  };
  Training calm{equal_plan(2, 32), alternating, 0.01}, eager = calm;
  eager.rules.backoff = 1;
  eager.rebalancer = Rebalancer(eager.rules);
  calm.run(2000);
  eager.run(2000);
  EXPECT_LT(calm.moved_at.size(), 50U);
  EXPECT_LE(calm.moved_at.size(), eager.moved_at.size());
}

TEST(Rebalancer, LearnsTheFixedPart) {
  for (const double fixed : {0.0, 8.0, 16.0}) {
    double learnt = 0, efficiency = 0;
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
      Training training{equal_plan(2, 32), slowed, 0.02, fixed};
      training.random = SplitMix64(seed);
      training.run(200);
      learnt += training.rebalancer.fixed_grains() / 20;
      efficiency += training.mean_efficiency(115, 200) / 20;
    }
    // Two moves tell about half of it: costs that wander look like it.
    EXPECT_GE(learnt, 0.35 * fixed);
    EXPECT_LE(learnt, fixed + 1);
    EXPECT_GT(efficiency, 0.95) << fixed;
  }
}

TEST(Rebalancer, NoRandomCostsBreakAPlan) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    SplitMix64 random(seed);
    const auto ranks = static_cast<std::int64_t>(2 + random.below(6));
    Training training{equal_plan(ranks, static_cast<std::int64_t>(1 + random.below(20))),
                      [&](auto, auto) { return std::exp(3 * normal(random)); }, 0.1};
    training.random = SplitMix64(seed);
    training.run(100);  // checks each decision
  }
}

// ---- what shares can't help ------------------------------------------------------------------------

using Fill = std::function<void(StepReport&)>;
RebalanceDecision after_steps(Rebalancer& rebalancer, const std::vector<RankShare>& plan, const Fill& fill,
                              std::int64_t steps = 20, const RebalanceOutlook& outlook = {21, 1000, 0}) {
  for (std::int64_t step = 1; step <= steps; ++step) {
    std::vector<StepReport> reports;
    for (const RankShare& share : plan) {
      reports.push_back(report_of(share, 2 * static_cast<double>(share.grains)));
      fill(reports.back());
    }
    rebalancer.observe(step, plan, reports);
  }
  return rebalancer.decide(plan, outlook);
}

RebalanceVerdict verdict_of(const Fill& fill, const RebalanceOutlook& outlook = {21, 1000, 0}) {
  Rebalancer rebalancer;
  const RebalanceDecision decision = after_steps(rebalancer, equal_plan(4, 16), fill, 20, outlook);
  EXPECT_FALSE(decision.reason.empty());
  EXPECT_EQ(decision.reason.find('\n'), std::string::npos);
  return decision.verdict;
}

TEST(Rebalancer, SaysWhySharesCannotHelp) {
  EXPECT_EQ(verdict_of([](StepReport&) {}), RebalanceVerdict::balanced);
  EXPECT_EQ(verdict_of([](StepReport& report) { report.data_wait_ms = 50; }), RebalanceVerdict::data_bound);
  EXPECT_EQ(verdict_of([](StepReport& report) { report.exposed_reduce_ms = 50; }),
            RebalanceVerdict::network_bound);
  EXPECT_EQ(verdict_of([](StepReport& report) {
              report.stages_ms = {8, 8, 8, 14};
            }),
            RebalanceVerdict::stages_uneven);
  EXPECT_EQ(verdict_of([](StepReport& report) {
              report.stages_ms = {8, 8, 8, 8.2};
            }),
            RebalanceVerdict::balanced);
}

/// The others' reduction is long because they wait in it for the slow rank.
TEST(Rebalancer, WaitingForASlowRankIsNotTheNetwork) {
  EXPECT_EQ(verdict_of([](StepReport& report) {
              if (report.worker == 101)
                report.compute_ms *= 4;
              else
                report.exposed_reduce_ms = 96;
            }),
            RebalanceVerdict::move);
}

TEST(Rebalancer, AGainInComputingIsWeighedAgainstTheWholeStep) {
  const auto uneven = [](double network) {
    return [network](StepReport& report) {
      if (report.worker == 101) report.compute_ms *= 1.5;
      report.exposed_reduce_ms = network + (report.worker == 101 ? 0 : 16);
    };
  };
  EXPECT_EQ(verdict_of(uneven(0)), RebalanceVerdict::move);
  EXPECT_EQ(verdict_of(uneven(1000)), RebalanceVerdict::network_bound);
}

TEST(Rebalancer, OneSlowStageOfOneRankIsMovedAwayFrom) {
  EXPECT_EQ(verdict_of([](StepReport& report) {
              report.stages_ms = {8, 8, 8, 8};
              if (report.worker != 101) return;
              report.compute_ms *= 2;
              report.stages_ms = {16, 8, 8, 8};
            }),
            RebalanceVerdict::move);
}

TEST(Rebalancer, AMoveMustPayForItself) {
  const Fill slow = [](StepReport& report) {
    if (report.worker == 101) report.compute_ms *= 2;
  };
  EXPECT_EQ(verdict_of(slow, {21, 1000, 100}), RebalanceVerdict::move);
  EXPECT_EQ(verdict_of(slow, {21, 3, 100}), RebalanceVerdict::does_not_pay);
  EXPECT_EQ(verdict_of(slow, {21, 0, 0}), RebalanceVerdict::does_not_pay);
  EXPECT_EQ(verdict_of(slow, {21, 1'000'000, 1e6}), RebalanceVerdict::does_not_pay);
  EXPECT_EQ(verdict_of(slow, {21, 1000, nan}), RebalanceVerdict::does_not_pay);
}

TEST(Rebalancer, ADecisionTellsWhatItWasMadeFrom) {
  Rebalancer rebalancer;
  const RebalanceDecision decision = after_steps(rebalancer, equal_plan(2, 32), [](StepReport& report) {
    if (report.worker == 101) report.compute_ms *= 2;
  });
  EXPECT_EQ(decision.verdict, RebalanceVerdict::move);
  EXPECT_STREQ(name_of(decision.verdict), "move");
  EXPECT_EQ(decision.step, 21);
  EXPECT_EQ(decision.worker, 101);
  EXPECT_EQ(decision.after, (std::vector<RankShare>{{100, 43}, {101, 21}}));
  EXPECT_NEAR(decision.gain, 1 - 86.0 / 128, 0.01);
  ASSERT_EQ(decision.inputs.size(), 2U);
  EXPECT_NEAR(decision.inputs[1].ms_per_grain, 4, 0.2);
  EXPECT_NEAR(decision.predicted_before_ms, 128, 5);
  EXPECT_NEAR(decision.saves_ms, 100 * (decision.predicted_before_ms - decision.predicted_after_ms), 1e-6);
}

// ---- ranks that say nothing, come and go -----------------------------------------------------------

TEST(Rebalancer, SharesStayWhileARankSaysNothing) {
  const Fill slow = [](StepReport& report) {
    if (report.worker == 101) report.compute_ms *= 2;
  };
  const std::vector<RankShare> plan = equal_plan(3, 16);
  const std::vector<Fill> bad = {
      [](StepReport& report) { report.compute_ms = nan; },
      [](StepReport& report) { report.compute_ms = -1; },
      [](StepReport& report) { report.compute_ms = 0; },
      [](StepReport& report) { report.compute_ms = infinity; },
      [](StepReport& report) { report.compute_ms = 1e12; },
      [](StepReport& report) { report.data_wait_ms = nan; },
      [](StepReport& report) { report.exposed_reduce_ms = -3; },
      [](StepReport& report) {
        report.stages_ms = {1, nan};
      },
      [](StepReport& report) { report.grains = 0; },
      [](StepReport& report) { report.worker = 999; },  // and none of 102
      [](StepReport& report) { report.worker = 100; },  // two of 100, and none of 102
  };
  for (std::size_t which = 0; which < bad.size(); ++which) {
    SCOPED_TRACE(which);
    Rebalancer rebalancer;
    EXPECT_EQ(after_steps(rebalancer, plan, slow).verdict, RebalanceVerdict::move);
    const double known = rebalancer.cost_of(102)->level();
    std::vector<StepReport> reports;
    for (const RankShare& share : plan) reports.push_back(report_of(share, 32));
    bad[which](reports[2]);
    rebalancer.observe(21, plan, reports);
    const RebalanceDecision decision = rebalancer.decide(plan, {22, 1000, 0});
    EXPECT_EQ(decision.verdict, RebalanceVerdict::unknown_rank);
    EXPECT_EQ(decision.worker, which + 1 == bad.size() ? 100 : 102);
    EXPECT_EQ(rebalancer.cost_of(102)->level(), known);
    for (StepReport& report : reports) report = report_of(plan[&report - reports.data()], 32);
    reports[1].compute_ms = 64;
    rebalancer.observe(22, plan, reports);
    EXPECT_EQ(rebalancer.decide(plan, {23, 1000, 0}).verdict, RebalanceVerdict::move);
  }
}

TEST(Rebalancer, KnowsNothingBeforeTheFirstStep) {
  const Rebalancer rebalancer;
  EXPECT_EQ(rebalancer.decide(equal_plan(2, 16), {0, 100, 0}).verdict, RebalanceVerdict::move_pending);
  EXPECT_EQ(rebalancer.decide(equal_plan(1, 16), {0, 100, 0}).verdict, RebalanceVerdict::no_choice);
  EXPECT_EQ(rebalancer.decide(equal_plan(4, 1), {0, 100, 0}).verdict, RebalanceVerdict::no_choice);
  EXPECT_EQ(rebalancer.split({5, 6, 7}, 48), (std::vector<RankShare>{{5, 16}, {6, 16}, {7, 16}}));
}

TEST(Rebalancer, DecidesNothingWhileAMoveIsOnItsWay) {
  Rebalancer rebalancer;
  const RebalanceDecision decision = after_steps(rebalancer, equal_plan(2, 32), [](StepReport& report) {
    if (report.worker == 101) report.compute_ms *= 2;
  });
  ASSERT_EQ(decision.verdict, RebalanceVerdict::move);
  EXPECT_EQ(rebalancer.decide(decision.after, {22, 1000, 0}).verdict, RebalanceVerdict::move_pending);
}

TEST(Rebalancer, JoinersAreTakenForTheMedianAndLeaversForgotten) {
  Rebalancer rebalancer;
  const std::vector<RankShare> three = equal_plan(3, 16);
  after_steps(rebalancer, three, [](StepReport& report) {
    if (report.worker == 101) report.compute_ms *= 2;
  });
  // 101 costs twice as much. 104 is new, and less is known of it than of 100.
  EXPECT_EQ(rebalancer.split({100, 101, 104}, 50), (std::vector<RankShare>{{100, 21}, {101, 10}, {104, 19}}));
  const std::vector<RankShare> next = {{100, 20}, {101, 10}, {104, 20}};
  EXPECT_EQ(rebalancer.decide(next, {22, 1000, 0}).verdict, RebalanceVerdict::move_pending);
  rebalancer.observe(21, next, {report_of(next[0], 40), report_of(next[1], 40)});
  EXPECT_EQ(rebalancer.cost_of(102), nullptr);
  EXPECT_NEAR(rebalancer.cost_of(104)->level(), 2, 1e-9);
  EXPECT_EQ(rebalancer.cost_of(104)->count(), 0);
  EXPECT_NEAR(rebalancer.cost_of(101)->level(), 4, 1e-9);
  EXPECT_EQ(rebalancer.decide(next, {22, 1000, 0}).verdict, RebalanceVerdict::unknown_rank);
  rebalancer.observe(22, next, {report_of(next[0], 40), report_of(next[1], 40), report_of(next[2], 60)});
  EXPECT_NEAR(rebalancer.cost_of(104)->level(), 3, 1e-9);
}

/// A successor of the coordinator, that observes what its predecessor did, and asks at other steps.
TEST(Rebalancer, WhoObservesTheSameDecidesAlike) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SplitMix64 random(seed);
    Rebalancer first, second;
    std::vector<RankShare> plan = equal_plan(4, 16);
    for (std::int64_t step = 1; step <= 200; ++step) {
      std::vector<StepReport> reports;
      for (const RankShare& share : plan)
        reports.push_back(
            report_of(share, static_cast<double>(share.grains) * (step > 60 && share.worker == 102 ? 3 : 1) *
                                 (1 + 0.05 * normal(random))));
      first.observe(step, plan, reports);
      second.observe(step, plan, reports);
      second.observe(step - 1, plan, {});  // late: ignored
      const RebalanceDecision decision = first.decide(plan, {step + 1, 1000, 0});
      if (step % 10 == 0) {
        const RebalanceDecision again = second.decide(plan, {step + 1, 1000, 0});
        EXPECT_EQ(again.after, decision.after);
        EXPECT_EQ(again.reason, decision.reason);
      }
      if (decision.verdict == RebalanceVerdict::move) plan = decision.after;
    }
  }
}

/// The last step of an epoch has fewer grains. It says what a grain costs, and is no move.
TEST(Rebalancer, ShortStepsAreNoMoves) {
  Rebalancer rebalancer;
  const std::vector<RankShare> plan = equal_plan(2, 32);
  for (std::int64_t step = 0; step < 100; ++step) {
    std::vector<StepReport> reports;
    for (const RankShare& share : plan) {
      const std::int64_t grains = step % 5 == 4 ? 7 : share.grains;
      reports.push_back(report_of({share.worker, grains}, 2 * static_cast<double>(grains)));
    }
    rebalancer.observe(step, plan, reports);
    EXPECT_EQ(rebalancer.decide(plan, {step + 1, 100, 0}).verdict, RebalanceVerdict::balanced);
  }
}

}  // namespace
}  // namespace paceline
