// The gradient noise scale under unequal shares, and the universal scalability law; docs/efficiency.md.
#include "paceline/sched/gradient_noise.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>

#include "paceline/base/hash.hpp"
#include "paceline/sched/scalability_law.hpp"

namespace paceline {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// Exactly normal.
double normal(SplitMix64& random) {
  const auto uniform = [&] { return (static_cast<double>(random.next() >> 11) + 0.5) * 0x1p-53; };
  const double radius = std::sqrt(-2 * std::log(uniform()));
  return radius * std::cos(2 * std::numbers::pi * uniform());
}

constexpr std::size_t dimensions = 16;
constexpr double true_gradient = 0.25;  ///< in each dimension: |G|^2 is 1
constexpr double true_variance = 30;    ///< tr(Sigma), uneven over the dimensions
constexpr int steps = 4000;

struct Step {
  std::vector<RankGradient> ranks;
  double squared_norm = 0;
};

/// What ranks with these shares would say of a step.
Step step_of(const std::vector<std::int64_t>& shares, SplitMix64& random) {
  const double batch = static_cast<double>(std::accumulate(shares.begin(), shares.end(), std::int64_t{0}));
  const double even = true_variance / (dimensions * (dimensions + 1) / 2.0);
  std::vector<double> sum(dimensions, 0);
  Step step;
  for (const std::int64_t share : shares) {
    double squared = 0;
    for (std::size_t d = 0; d < dimensions; ++d) {
      const double deviation = std::sqrt(even * static_cast<double>(d + 1) / static_cast<double>(share));
      const double mean = true_gradient + deviation * normal(random);
      squared += mean * mean;
      sum[d] += mean * static_cast<double>(share) / batch;
    }
    step.ranks.push_back({share, squared});
  }
  for (const double each : sum) step.squared_norm += each * each;
  return step;
}

/// McCandlish et al., equations A.1 to A.3, with the mean of the ranks' norms as that of a batch of B / n.
double naive_variance(const Step& step) {
  double batch = 0, mean = 0;
  const auto ranks = static_cast<double>(step.ranks.size());
  for (const RankGradient& rank : step.ranks) {
    batch += static_cast<double>(rank.samples);
    mean += rank.squared_norm / ranks;
  }
  return (mean - step.squared_norm) / (ranks / batch - 1 / batch);
}

TEST(GradientNoise, IsUnbiasedUnderAnyShares) {
  for (const std::vector<std::int64_t>& shares :
       std::vector<std::vector<std::int64_t>>{{32, 32}, {1, 63}, {1, 7, 56}, {3, 5, 8, 16, 32}}) {
    SplitMix64 random(mix64(11, shares.size()));
    GradientNoise noise(1e6);  // smooths so little away that it is a plain mean
    for (int i = 0; i < steps; ++i) {
      const Step step = step_of(shares, random);
      ASSERT_TRUE(noise.observe(step.ranks, step.squared_norm).ok());
    }
    EXPECT_NEAR(noise.variance(), true_variance, 0.03 * true_variance) << testing::PrintToString(shares);
    EXPECT_NEAR(noise.squared_gradient(), 1, 0.03) << testing::PrintToString(shares);
    EXPECT_NEAR(noise.noise_scale().value(), true_variance, 0.05 * true_variance);
  }
}

TEST(GradientNoise, NaiveEstimateIsFarOffUnderUnequalShares) {
  double equal = 0, unequal = 0;
  SplitMix64 random(5);
  for (int i = 0; i < steps; ++i) {
    equal += naive_variance(step_of({32, 32}, random)) / steps;
    unequal += naive_variance(step_of({1, 7, 56}, random)) / steps;
  }
  EXPECT_NEAR(equal, true_variance, 0.03 * true_variance);
  // (1 + 1/7 + 1/56) / 3 - 1/64 over 3/64 - 1/64: twelve times too much.
  const double factor = ((1 + 1 / 7. + 1 / 56.) / 3 - 1 / 64.) / (2 / 64.);
  EXPECT_NEAR(unequal / true_variance, factor, 0.05 * factor);
  EXPECT_GT(factor, 10);
}

TEST(GradientNoise, FollowsANoiseThatGrowsAndGivesTheEfficiencyOfABatch) {
  GradientNoise noise(10);
  EXPECT_FALSE(noise.noise_scale());
  EXPECT_FALSE(noise.efficiency(128, 64));
  // Two ranks of 32 samples, |G|^2 of 1, and tr(Sigma) of 64 and 640 in the mean.
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(noise.observe({{32, 3}, {32, 3}}, 2).ok());
  EXPECT_NEAR(noise.noise_scale().value(), 64, 1e-9);
  EXPECT_NEAR(noise.efficiency(192, 64).value(), 128. / 256, 1e-9);
  EXPECT_NEAR(noise.efficiency(64, 64).value(), 1, 1e-12);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(noise.observe({{32, 21}, {32, 21}}, 11).ok());
  EXPECT_NEAR(noise.noise_scale().value(), 640, 1);
  EXPECT_EQ(noise.steps(), 200);
}

TEST(GradientNoise, SaysNothingWhereNoiseHidesTheGradient) {
  GradientNoise noise;
  ASSERT_TRUE(noise.observe({{32, 4}, {32, 4}}, 1).ok());  // tr(Sigma) / B is 3
  EXPECT_LT(noise.squared_gradient(), 0);
  EXPECT_FALSE(noise.noise_scale());
}

TEST(GradientNoise, RefusesWhatMakesNoSenseAndChangesNothing) {
  GradientNoise noise;
  ASSERT_TRUE(noise.observe({{32, 3}, {32, 3}}, 2).ok());
  EXPECT_FALSE(noise.observe({{64, 3}}, 3).ok());
  EXPECT_FALSE(noise.observe({}, 3).ok());
  EXPECT_FALSE(noise.observe({{32, nan}, {32, 3}}, 2).ok());
  EXPECT_FALSE(noise.observe({{32, 3}, {32, -3}}, 2).ok());
  EXPECT_FALSE(noise.observe({{32, 3}, {0, 3}}, 2).ok());
  EXPECT_FALSE(noise.observe({{32, 3}, {32, 3}}, nan).ok());
  EXPECT_FALSE(noise.observe({{32, 1e308}, {32, 1e308}}, 1).ok());
  const Status contradiction = noise.observe({{32, 3}, {32, 3}}, 4);
  ASSERT_FALSE(contradiction.ok());
  EXPECT_NE(contradiction.error().message.find("mean"), std::string::npos);
  EXPECT_EQ(noise.steps(), 1);
  EXPECT_NEAR(noise.noise_scale().value(), 64, 1e-9);
}

double throughput(double ranks, double contention, double coherence) {
  return 500 * ranks / (1 + contention * (ranks - 1) + coherence * ranks * (ranks - 1));
}

TEST(ScalabilityLaw, IsFoundExactly) {
  std::vector<ScalabilityPoint> points;
  for (const std::int64_t ranks : {1, 2, 4, 8})
    points.push_back({ranks, throughput(static_cast<double>(ranks), 0.05, 0.002)});
  const ScalabilityLaw law = *fit_scalability_law(points);
  EXPECT_NEAR(law.one_rank.value, 500, 1e-6);
  EXPECT_NEAR(law.contention.value, 0.05, 1e-9);
  EXPECT_NEAR(law.coherence.value, 0.002, 1e-10);
  EXPECT_LT(law.contention.standard_error.value(), 1e-6);
  EXPECT_NEAR(law.samples_per_second(64), throughput(64, 0.05, 0.002), 1e-3);
  EXPECT_NEAR(law.peak_ranks().value(), std::sqrt(0.95 / 0.002), 1e-6);
}

TEST(ScalabilityLaw, StandardErrorsAreThoseOfRepeatedFits) {
  for (const bool known : {true, false}) {
    double sum = 0, squares = 0, claimed = 0;
    constexpr int trials = 400;
    SplitMix64 random(21);
    for (int trial = 0; trial < trials; ++trial) {
      std::vector<ScalabilityPoint> points;
      for (const std::int64_t ranks : {1, 2, 3, 4, 6, 8, 12, 16})
        points.push_back({ranks,
                          throughput(static_cast<double>(ranks), 0.1, 0.01) * (1 + 0.01 * normal(random)),
                          known ? 0.01 : 0});
      const ScalabilityLaw law = *fit_scalability_law(points);
      sum += law.contention.value / trials;
      squares += law.contention.value * law.contention.value / trials;
      claimed += law.contention.standard_error.value() / trials;
    }
    EXPECT_NEAR(sum, 0.1, 0.002);
    EXPECT_NEAR(claimed / std::sqrt(squares - sum * sum), 1, 0.15);
  }
}

TEST(ScalabilityLaw, PerfectAndBetterScalingHasNoPeak) {
  std::vector<ScalabilityPoint> points = {{1, 100}, {2, 200}, {4, 400}};
  ScalabilityLaw law = *fit_scalability_law(points);
  EXPECT_NEAR(law.samples_per_second(8), 800, 1e-6);
  EXPECT_FALSE(law.contention.standard_error) << "three points say nothing about errors";
  points = {{1, 100}, {2, 210}, {4, 450}, {8, 1000}};
  law = *fit_scalability_law(points);
  EXPECT_EQ(law.contention.value, 0);
  EXPECT_EQ(law.coherence.value, 0);
  EXPECT_FALSE(law.peak_ranks());
}

TEST(ScalabilityLaw, SaysWhatIsMissingOrMakesNoSense) {
  const auto message = [](const std::vector<ScalabilityPoint>& points) {
    const Result<ScalabilityLaw> law = fit_scalability_law(points);
    return law.ok() ? std::string() : law.error().message;
  };
  EXPECT_NE(message({{1, 100}, {2, 190}, {2, 191}}).find("there are 2"), std::string::npos);
  EXPECT_NE(message({{1, 100}, {2, nan}, {4, 300}}).find("2 ranks"), std::string::npos);
  EXPECT_NE(message({{1, 100}, {2, 190}, {4, 0}}).find("4 ranks"), std::string::npos);
  EXPECT_NE(message({{0, 100}, {2, 190}, {4, 300}}).find("less than one"), std::string::npos);
  EXPECT_NE(message({{1, 100, -1}, {2, 190}, {4, 300}}).find("relative error"), std::string::npos);
}

}  // namespace
}  // namespace paceline
