#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "paceline/sched/pause_meter.hpp"
#include "paceline/sched/size_meter.hpp"

namespace paceline {
namespace {

constexpr SizeMeterRules rules{.warm_up_steps = 10, .least_steps = 20, .least_s = 1.95};
const JobSize two_ranks{2, 1, 256};

/// Two ranks: the second computes longer, and the first waits for it.
class Ranks {
 public:
  void run(std::int64_t steps, double slowdown = 1) {
    for (auto& rank : ranks) rank.sums.steps += steps;
    const auto n = static_cast<double>(steps);
    add(0, n * 0.001, n * 0.004, n * 0.006, n * (0.0115 * slowdown - 0.01));
    add(1, n * 0.001, n * 0.005 * slowdown, n * 0.006 * slowdown, n * 0.0005 * slowdown);
    now_s += n * 0.0125;
  }
  std::optional<SizeObservation> tell(SizeMeter& meter) const {
    return meter.take(now_s, generation, two_ranks, ranks);
  }

  std::vector<RankSums> ranks{{3, {}}, {5, {}}};
  std::int64_t generation = 1;
  double now_s = 100;

 private:
  void add(std::size_t rank, double data, double forward, double backward, double reduce) {
    MeasuredSums& sums = ranks[rank].sums;
    sums.data_s += data, sums.forward_s += forward, sums.backward_s += backward;
    sums.reduce_s += 0.8 * reduce, sums.commit_s += 0.2 * reduce;
  }
};

std::vector<SizeObservation> observe(SizeMeter& meter, Ranks& ranks, int rounds, std::int64_t steps = 8) {
  std::vector<SizeObservation> made;
  for (int i = 0; i < rounds; ++i) {
    ranks.run(steps);
    if (const auto one = ranks.tell(meter)) made.push_back(*one);
  }
  return made;
}

TEST(SizeMeter, GivesTheSlowestRanksComputingAndTheLeastWaiting) {
  SizeMeter meter(rules);
  Ranks ranks;
  const std::vector<SizeObservation> made = observe(meter, ranks, 24);
  ASSERT_EQ(made.size(), 1u) << "after warming up, and two seconds of 12.5 ms steps";
  EXPECT_EQ(made[0].size, two_ranks);
  EXPECT_EQ(made[0].steps, 160);
  EXPECT_NEAR(made[0].compute_ms, 11, 1e-9);
  EXPECT_NEAR(made[0].exposed_reduce_ms, 0.5, 1e-9);
  EXPECT_NEAR(made[0].step_ms, 12.5, 1e-9);
  EXPECT_NEAR(made[0].step_deviation_ms, 0, 1e-5);
}

TEST(SizeMeter, GoesOnWithStepsOfTheirOwn) {
  SizeMeter meter(rules);
  Ranks ranks;
  std::int64_t steps = 0;
  const std::vector<SizeObservation> made = observe(meter, ranks, 103);
  for (const SizeObservation& one : made) steps += one.steps;
  EXPECT_EQ(made.size(), 5u);
  EXPECT_EQ(steps, 800) << "no step is in two, and none but the first of the generation are in none";
}

TEST(SizeMeter, KnowsHowMuchOneStepVaries) {
  SizeMeter meter({.warm_up_steps = 1, .least_steps = 400, .least_s = 1});
  Ranks ranks;
  std::optional<SizeObservation> made;
  // Rounds of four steps whose means lie 10% above and below: a step's deviation is twice that of such a
  // mean.
  for (int i = 0; i < 200 && !made; ++i) {
    ranks.run(4, i % 2 == 0 ? 1.1 : 0.9);
    made = ranks.tell(meter);
  }
  ASSERT_TRUE(made);
  EXPECT_NEAR(made->step_deviation_ms, 2 * 0.1 * 11.5, 0.05);
}

TEST(SizeMeter, OtherRanksAreAnotherSize) {
  SizeMeter meter(rules);
  Ranks ranks;
  EXPECT_TRUE(observe(meter, ranks, 20).empty());
  ranks.generation = 2;
  EXPECT_TRUE(observe(meter, ranks, 20).empty()) << "what was measured before the change counts no more";
  EXPECT_EQ(observe(meter, ranks, 10).size(), 1u);
  ranks.ranks[1].worker = 7;
  EXPECT_TRUE(observe(meter, ranks, 20).empty());
}

TEST(SizeMeter, SumsThatGetLessOrAreNoNumbersBeginAnew) {
  for (const double bad :
       {-1.0, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    SizeMeter meter(rules);
    Ranks ranks;
    EXPECT_TRUE(observe(meter, ranks, 20).empty());
    Ranks broken = ranks;
    broken.ranks[0].sums.forward_s = bad;
    EXPECT_FALSE(broken.tell(meter));
    EXPECT_TRUE(observe(meter, ranks, 20).empty()) << bad;
    EXPECT_FALSE(observe(meter, ranks, 20).empty()) << "and then it goes on";
  }
}

TEST(SizeMeter, RanksThatStandStillAreNotMeasured) {
  SizeMeter meter(rules);
  Ranks ranks;
  ranks.run(20);
  for (int i = 0; i < 1000; ++i) {
    ranks.now_s += 0.1;
    EXPECT_FALSE(ranks.tell(meter));
  }
  EXPECT_FALSE(meter.take(ranks.now_s, 1, two_ranks, {})) << "nor are none";
  EXPECT_FALSE(meter.take(ranks.now_s, 1, two_ranks, {}));
}

/// Steps of 20 ms.
void commit(PauseMeter& meter, double& time_s, int steps, std::int64_t epoch = 1) {
  for (int i = 0; i < steps; ++i) meter.committed(time_s += 0.02, epoch);
}

TEST(PauseMeter, IsTheLongestGapNearAChangeBeyondAStep) {
  PauseMeter meter;
  double time_s = 1000;
  meter.changed();  // a job begins
  commit(meter, time_s, 50);
  EXPECT_LT(meter.total_s(), 0.001);
  meter.changed();
  commit(meter, time_s, 5);
  time_s += 0.3;  // the switch itself comes some steps after it was announced
  commit(meter, time_s, 30);
  EXPECT_NEAR(meter.last_s(), 0.3, 1e-6);
  time_s += 0.5;  // a checkpoint, a busy disk: nobody changed
  commit(meter, time_s, 30);
  EXPECT_NEAR(meter.last_s(), 0.3, 1e-6);
  meter.changed();
  time_s += 0.1;
  commit(meter, time_s, 3);
  EXPECT_NEAR(meter.total_s(), 0.4, 0.01) << "also while it is still watched";
}

TEST(PauseMeter, LooksAtNoGapInWhichAnEpochEndsOrAClockJumps) {
  PauseMeter meter;
  double time_s = 1000;
  commit(meter, time_s, 50);
  meter.changed();
  time_s += 4;  // evaluation
  commit(meter, time_s, 5, 2);
  meter.committed(time_s - 100, 2);
  meter.committed(std::numeric_limits<double>::quiet_NaN(), 2);
  commit(meter, time_s, 30, 2);
  EXPECT_LT(meter.total_s(), 0.001);
}

}  // namespace
}  // namespace paceline
