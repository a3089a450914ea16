#include "paceline/job/plan.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "paceline/base/hash.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

/// Asserts that the ranks' runs lie one behind the other and are together exactly `range`; in a full step
/// each rank has its share, and every run is whole grains but for the end of the range.
void expect_tiles(const PositionRange& range, std::int64_t grain, const Shares& shares) {
  const auto ranks = static_cast<std::int64_t>(shares.size());
  const std::int64_t total = std::accumulate(shares.begin(), shares.end(), std::int64_t{0});
  const bool is_full = grain_count(range.count, grain) == total;
  std::int64_t next = range.first;
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    const PositionRange run = rank_range(range, grain, shares, rank);
    ASSERT_GE(run.count, 0);
    ASSERT_EQ(run.first, next) << "rank " << rank;
    next += run.count;
    const bool is_end = next == range.first + range.count;
    if (!is_end) {
      ASSERT_EQ((next - range.first) % grain, 0) << "a boundary within a grain";
    }
    if (is_full && !is_end) {
      ASSERT_EQ(run.count, shares[static_cast<std::size_t>(rank)] * grain);
    }
  }
  ASSERT_EQ(next, range.first + range.count);
}

TEST(StepPlan, CutsEpochsIntoStepsWithAShortLast) {
  const StepPlan plan(60'000, 256, 5);
  EXPECT_EQ(plan.steps_per_epoch(), 235);
  EXPECT_EQ(plan.steps(), 5 * 235);
  EXPECT_EQ(plan.range(0).positions, (PositionRange{0, 256}));
  EXPECT_EQ(plan.range(234).positions, (PositionRange{59'904, 96}));  // 60000 - 234 * 256
  EXPECT_EQ(plan.range(235).epoch, 1);
  EXPECT_EQ(plan.range(235).positions, (PositionRange{0, 256}));
  EXPECT_EQ(plan.range(5 * 235 - 1).epoch, 4);
}

TEST(StepPlan, EndsWhereTheJobSays) {
  const StepPlan plan(1000, 100, 5, 23);
  EXPECT_EQ(plan.steps(), 23);
  EXPECT_EQ(plan.steps_per_epoch(), 10);
  EXPECT_EQ(plan.epochs(), 3);
  EXPECT_EQ(plan.steps_of_epoch(1), 10);
  EXPECT_EQ(plan.steps_of_epoch(2), 3);
  EXPECT_EQ(plan.steps_of_epoch(3), 0);
  EXPECT_FALSE(plan.ends_epoch(18));
  EXPECT_TRUE(plan.ends_epoch(19));
  EXPECT_FALSE(plan.ends_epoch(21));
  EXPECT_TRUE(plan.ends_epoch(22));
  EXPECT_EQ(plan.range(22).positions, (PositionRange{200, 100}));
  EXPECT_EQ(StepPlan(1000, 100, 2, 50).steps(), 20) << "its epochs end it first";
  EXPECT_EQ(StepPlan(1000, 100, 2).epochs(), 2);
}

TEST(StepPlan, CoversEveryPositionOfEveryEpochOnce) {
  SplitMix64 random(1);
  for (int i = 0; i < 300; ++i) {
    const auto samples = static_cast<std::int64_t>(1 + random.below(5000));
    const auto batch = static_cast<std::int64_t>(1 + random.below(700));
    const StepPlan plan(samples, batch, 2);
    std::int64_t next = 0;
    for (std::int64_t step = 0; step < plan.steps(); ++step) {
      const StepRange range = plan.range(step);
      ASSERT_EQ(range.step, step);
      ASSERT_EQ(range.epoch * samples + range.positions.first, next);
      ASSERT_GT(range.positions.count, 0);
      ASSERT_LE(range.positions.count, batch);
      next += range.positions.count;
    }
    ASSERT_EQ(next, 2 * samples);
  }
}

TEST(Shares, AreAsEqualAsTheyGo) {
  EXPECT_EQ(*equal_shares(64, 3), (Shares{22, 21, 21}));
  EXPECT_EQ(*equal_shares(4, 4), (Shares{1, 1, 1, 1}));
  EXPECT_EQ(equal_shares(3, 4).error().message,
            "4 ranks cannot share 3 grains per step: use fewer ranks, a larger batch.global or a smaller "
            "batch.grain");
  EXPECT_EQ(equal_shares(8, 0).error().message, "a job needs at least one rank");
}

TEST(Grains, AreSmallEnoughForAllRanksThatMayCome) {
  EXPECT_EQ(grain_samples({256, 0, 0}, 4), 4);  // 256 / (16 * 4)
  EXPECT_EQ(grain_samples({256, 0, 7}, 4), 7);
  EXPECT_EQ(grain_samples({256, 0, 0}, 4096), 1);
  EXPECT_EQ(grain_samples({1, 0, 0}, 1), 1);
  for (std::int64_t global = 1; global <= 20'000; global += 37) {
    for (const std::int64_t ranks : {1, 2, 3, 5, 16, 100, 1000, 4096}) {
      const std::int64_t grains = grain_count(global, grain_samples({global, 0, 0}, ranks));
      ASSERT_GE(grains, std::min(global, 16 * ranks)) << global << " samples, " << ranks << " ranks";
    }
  }
}

TEST(Grains, AreTheSameForSmallJobsOfAnySize) {
  Job job;
  job.batch.global = 256;
  EXPECT_EQ(job_grain(job, 1), 4);  // as for four ranks: 256 / (16 * 4)
  EXPECT_EQ(job_grain(job, 4), 4);
  EXPECT_EQ(job_grain(job, 8), 2);
  job.ranks.max = 2;
  EXPECT_EQ(job_grain(job, 2), 8);
}

TEST(RankRange, ThreeRanksShareABatchOf256WithoutRounding) {
  const Shares shares = *equal_shares(64, 3);
  EXPECT_EQ(rank_range({512, 256}, 4, shares, 0), (PositionRange{512, 88}));
  EXPECT_EQ(rank_range({512, 256}, 4, shares, 1), (PositionRange{600, 84}));
  EXPECT_EQ(rank_range({512, 256}, 4, shares, 2), (PositionRange{684, 84}));
}

TEST(RankRange, ShrinksInProportionInAShortStep) {
  // 96 samples are 24 grains of 4: 22, 43 and 64 of 64 become 8.25, 16.125 and 24.
  const Shares shares = *equal_shares(64, 3);
  EXPECT_EQ(rank_range({59'904, 96}, 4, shares, 0), (PositionRange{59'904, 32}));
  EXPECT_EQ(rank_range({59'904, 96}, 4, shares, 1), (PositionRange{59'936, 32}));
  EXPECT_EQ(rank_range({59'904, 96}, 4, shares, 2), (PositionRange{59'968, 32}));
}

TEST(RankRange, AlwaysTilesTheRange) {
  SplitMix64 random(2);
  for (int i = 0; i < 20'000; ++i) {
    const auto grain = static_cast<std::int64_t>(1 + random.below(40));
    Shares shares(1 + random.below(12));
    for (std::int64_t& share : shares) share = static_cast<std::int64_t>(random.below(30));
    if (std::ranges::all_of(shares, [](std::int64_t share) { return share == 0; })) shares.front() = 1;
    const std::int64_t full = grain * std::accumulate(shares.begin(), shares.end(), std::int64_t{0});
    const auto first = static_cast<std::int64_t>(random.below(100'000));
    const auto count = static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(full) + 1));
    ASSERT_NO_FATAL_FAILURE(expect_tiles({first, count}, grain, shares));
    ASSERT_NO_FATAL_FAILURE(expect_tiles({first, full}, grain, shares));
  }
}

// Both ends of a run are rounded to grains, and the last grain of the range may be short.
TEST(RankRange, KeepsEqualRanksWithinThreeGrainsOfEachOther) {
  for (std::int64_t ranks = 1; ranks <= 8; ++ranks) {
    const Shares shares = *equal_shares(64, ranks);
    for (std::int64_t count = 1; count <= 256; ++count) {
      std::int64_t least = count;
      std::int64_t greatest = 0;
      for (std::int64_t rank = 0; rank < ranks; ++rank) {
        const std::int64_t run = rank_range({0, count}, 4, shares, rank).count;
        least = std::min(least, run);
        greatest = std::max(greatest, run);
      }
      ASSERT_LT(greatest - least, 3 * 4) << count << " samples over " << ranks << " ranks";
    }
  }
}

TEST(RankRangeDeathTest, APlanWithoutGrainsIsABug) {
  EXPECT_DEATH((void)rank_range({0, 8}, 1, {0, 0}, 0), "internal error");
  EXPECT_DEATH((void)rank_range({0, 8}, 0, {1, 1}, 0), "internal error");
  EXPECT_DEATH((void)rank_range({0, 8}, 1, {1, 1}, 2), "internal error");
}

TEST(Passes, AreEqualAndNoLargerThanTheCeiling) {
  EXPECT_EQ(passes({10, 88}, 0), (std::vector<PositionRange>{{10, 88}}));
  EXPECT_EQ(passes({10, 88}, 32), (std::vector<PositionRange>{{10, 29}, {39, 29}, {68, 30}}));
  EXPECT_TRUE(passes({10, 0}, 32).empty());
  for (std::int64_t count = 1; count <= 200; ++count) {
    for (std::int64_t micro = 1; micro <= 64; ++micro) {
      const std::vector<PositionRange> cut = passes({7, count}, micro);
      ASSERT_EQ(static_cast<std::int64_t>(cut.size()), (count + micro - 1) / micro);
      std::int64_t next = 7;
      for (const PositionRange& pass : cut) {
        ASSERT_EQ(pass.first, next);
        ASSERT_LE(pass.count, micro);
        ASSERT_GE(pass.count, count / static_cast<std::int64_t>(cut.size()));
        next += pass.count;
      }
      ASSERT_EQ(next, 7 + count);
    }
  }
}

TEST(GrainPasses, AreTheSameWhoeverHasTheGrains) {
  EXPECT_EQ(grain_passes({64, 70}, 32), (std::vector<PositionRange>{{64, 32}, {96, 32}, {128, 6}}));
  EXPECT_TRUE(grain_passes({64, 0}, 32).empty());
  for (std::int64_t count = 1; count <= 256; ++count) {
    const PositionRange step{512, count};
    const std::vector<PositionRange> whole = grain_passes(step, 32);
    EXPECT_EQ(static_cast<std::int64_t>(whole.size()), grain_count(count, 32));
    for (const Shares& shares : {Shares{4, 4}, Shares{3, 3, 2}, Shares{1, 6, 0, 1}, Shares(8, 1)}) {
      std::vector<PositionRange> together;
      for (std::size_t rank = 0; rank < shares.size(); ++rank)
        for (const PositionRange& pass :
             grain_passes(rank_range(step, 32, shares, static_cast<std::int64_t>(rank)), 32))
          together.push_back(pass);
      ASSERT_EQ(together, whole) << count << " samples over " << shares.size() << " ranks";
    }
  }
}

}  // namespace
}  // namespace paceline
