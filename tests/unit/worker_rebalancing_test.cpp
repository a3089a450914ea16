// How ranks agree on their shares: many of them in one thread, with commits that are a minimum.
#include "rebalancing.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "paceline/train/trainer.hpp"

namespace paceline {
namespace {

constexpr std::int64_t batch = 512;
constexpr std::int64_t grain = 8;
constexpr std::int64_t grains = batch / grain;

JobPlan plan_of(std::int64_t ranks, std::int64_t samples = 100 * batch) {
  Job job;
  job.batch = {batch, 0, grain};
  job.epochs = 100;
  Result<JobPlan> plan = make_plan(job, samples, ranks);
  EXPECT_TRUE(plan.ok());
  return *plan;
}

/// A generation's ranks, each with what it knows.
struct Ranks {
  explicit Ranks(std::int64_t count, std::int64_t samples = 100 * batch) {
    for (std::int64_t rank = 0; rank < count; ++rank) {
      all.emplace_back().begin(rank, count);
      plans.push_back(plan_of(count, samples));
      cost.push_back(1);
    }
  }

  /// One step: what the loader, the passes and the commit do. Gives the first change that was heard.
  std::optional<SharesChange> train() {
    std::vector<std::int64_t> heard;
    for (std::size_t rank = 0; rank < all.size(); ++rank) {
      const double grains_here = static_cast<double>(plans[rank].shares_at(step)[rank]);
      const auto computed = std::chrono::duration_cast<Duration>(std::chrono::duration<double, std::milli>(
          (cost[rank] * grains_here + (step < slow_steps && rank == 0 ? 30 : 0)) * noise()));
      const std::vector<std::int64_t> words = all[rank].words(step, {computed, {}, {}}, plans[rank]);
      if (rank == 0) heard = words;
      EXPECT_EQ(words.size(), heard.size());
      for (std::size_t i = 0; i < words.size(); ++i) heard[i] = std::min(heard[i], words[i]);
    }
    std::optional<SharesChange> change;
    for (std::size_t rank = 0; rank < all.size(); ++rank) {
      JobPlan& plan = plans[rank];
      EXPECT_EQ(plan.hash(step), plans[0].hash(step)) << "step " << step << " is cut in two ways";
      auto own = all[rank].hear(step, heard, plan);
      EXPECT_TRUE(own.ok());
      if (*own) {
        plan.change((*own)->first_step, (*own)->shares);
        if (rank == 0) change = **own;
        EXPECT_TRUE(change && change->shares == (*own)->shares && change->first_step == (*own)->first_step);
        EXPECT_EQ(rank == 0, !(*own)->reason.empty());
      }
    }
    ++step;
    return change;
  }
  /// The sum of the ranks' speeds that is used.
  [[nodiscard]] double efficiency() const {
    double slowest = 0;
    double speeds = 0;
    for (std::size_t rank = 0; rank < all.size(); ++rank) {
      slowest = std::max(slowest, cost[rank] * static_cast<double>(plans[0].shares_at(step)[rank]));
      speeds += 1 / cost[rank];
    }
    return static_cast<double>(grains) / speeds / slowest;
  }
  double noise() { return std::uniform_real_distribution<>(1 - jitter, 1 + jitter)(random); }

  std::vector<Rebalancing> all;
  std::vector<JobPlan> plans;
  std::vector<double> cost;  // ms per grain
  std::int64_t step = 0;
  double jitter = 0.02;
  std::int64_t slow_steps = 0;  // the first ones, on rank 0
  std::mt19937_64 random{7};
};

TEST(Rebalancing, EqualRanksNeverMove) {
  Ranks ranks(2);
  ranks.jitter = 0.05;
  for (int i = 0; i < 2000; ++i) EXPECT_FALSE(ranks.train()) << "at step " << i;
}

TEST(Rebalancing, SlowFirstStepsOfARankMoveNothing) {
  Ranks ranks(2);
  ranks.slow_steps = 10;
  for (int i = 0; i < 200; ++i) EXPECT_FALSE(ranks.train()) << "at step " << i;
}

TEST(Rebalancing, AllRanksChangeTogetherWithinTenStepsAndBack) {
  for (const std::int64_t count : {2, 3, 4}) {
    Ranks ranks(count);
    for (int i = 0; i < 30; ++i) EXPECT_FALSE(ranks.train());
    ranks.cost[1] = 2;
    for (int i = 0; i < 10; ++i) static_cast<void>(ranks.train());
    EXPECT_GE(ranks.efficiency(), 0.93) << count;
    for (int i = 0; i < 50; ++i) static_cast<void>(ranks.train());
    EXPECT_GE(ranks.efficiency(), 0.93) << count;
    ranks.cost[1] = 1;
    for (int i = 0; i < 10; ++i) static_cast<void>(ranks.train());
    EXPECT_GE(ranks.efficiency(), 0.93) << count;
  }
}

TEST(Rebalancing, ShortStepsAndEpochsDontDisturb) {
  Ranks ranks(2, 3 * batch + 100);  // each fourth step is short
  ranks.cost[0] = 1.5;
  int changes = 0;
  for (int i = 0; i < 300; ++i) changes += ranks.train() ? 1 : 0;
  EXPECT_GE(ranks.efficiency(), 0.93);
  EXPECT_LE(changes, 4);
}

TEST(Rebalancing, ANewGenerationBeginsAnew) {
  Ranks ranks(2);
  ranks.cost[1] = 2;
  while (!ranks.train() && ranks.step < 100) continue;
  ASSERT_LT(ranks.step, 100);
  for (std::size_t rank = 0; rank < 2; ++rank) {
    ranks.all[rank].begin(static_cast<std::int64_t>(rank), 2);
    ranks.plans[rank] = plan_of(2);
  }
  EXPECT_FALSE(ranks.train());
  for (int i = 0; i < 20; ++i) static_cast<void>(ranks.train());
  EXPECT_GE(ranks.efficiency(), 0.93);
}

TEST(Rebalancing, OneRankSaysNothing) {
  Rebalancing alone;
  alone.begin(0, 1);
  EXPECT_TRUE(alone.words(0, {}, plan_of(1)).empty());
  EXPECT_FALSE(alone.hear(0, {}, plan_of(1)).value());
}

TEST(Rebalancing, ManyRanksSpeakMoreSeldom) {
  Rebalancing one;
  one.begin(3, 256);
  const JobPlan plan = plan_of(2);
  EXPECT_EQ(one.words(8, {}, plan).size(), 4 * 256U);
  for (std::int64_t step : {9, 10, 11}) EXPECT_TRUE(one.words(step, {}, plan).empty());
}

TEST(Rebalancing, SharesThatDoNotAddUpAreRefused) {
  const JobPlan plan = plan_of(2);
  for (const auto& [first, second] : {std::pair{1, 2}, {0, 64}, {-1, 65}, {65, -1}, {64, 1}}) {
    Rebalancing one;
    one.begin(1, 2);
    std::vector<std::int64_t> words(8, StepSpec::nothing_said);
    words[6] = first;
    words[7] = second;
    EXPECT_EQ(one.hear(5, words, plan).error().code, ErrorCode::corrupt) << first << " " << second;
  }
}

TEST(PlanChange, HoldsFromItsStepOn) {
  JobPlan plan = plan_of(2);
  const std::uint64_t before = plan.hash(9);
  plan.change(10, {40, 24});
  EXPECT_EQ(plan.shares_at(9), (Shares{32, 32}));
  EXPECT_EQ(plan.shares_at(10), (Shares{40, 24}));
  EXPECT_EQ(plan.hash(9), before);
  EXPECT_NE(plan.hash(10), before);
  EXPECT_EQ(plan.part_of(9, 1).count, batch / 2);
  EXPECT_EQ(plan.part_of(10, 1).count, 24 * grain);
  plan.change(20, {30, 34});
  EXPECT_EQ(plan.shares_at(19), (Shares{40, 24}));
  EXPECT_EQ(plan.shares_at(20), (Shares{30, 34}));
}

}  // namespace
}  // namespace paceline
