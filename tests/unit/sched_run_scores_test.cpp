// The performance score and the resource efficiency of runs, in closed form.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>

#include "paceline/sched/run_scores.hpp"

namespace paceline {
namespace {

constexpr double no_number = std::numeric_limits<double>::quiet_NaN();
constexpr double infinite = std::numeric_limits<double>::infinity();

TEST(ResourceEfficiency, IsUsefulSamplesOverWhatWasUsed) {
  const ResourceEfficiency eta =
      resource_efficiency({.useful_samples = 6000, .energy_j = 1500, .memory_byte_s = 3e12});
  EXPECT_DOUBLE_EQ(eta.samples_per_joule.value(), 4);
  EXPECT_DOUBLE_EQ(eta.samples_per_byte_s.value(), 2e-9);
}

TEST(ResourceEfficiency, IsAbsentWhereSomethingWasNotMeasured) {
  EXPECT_FALSE(resource_efficiency({.useful_samples = 6000, .memory_byte_s = 1}).samples_per_joule);
  EXPECT_EQ(resource_efficiency({.useful_samples = 5}), ResourceEfficiency{});
  for (const double nonsense : {0.0, -1.0, no_number, infinite})
    EXPECT_EQ(resource_efficiency({5, nonsense, nonsense}), ResourceEfficiency{}) << nonsense;
  EXPECT_EQ(resource_efficiency({-5, 1.0, 1.0}), ResourceEfficiency{});
}

TEST(ResourceEfficiency, ARunThatCameToNothingHasNone) {
  EXPECT_EQ(resource_efficiency({0, 10.0, 10.0}), (ResourceEfficiency{0.0, 0.0}));
}

TEST(MemoryHeld, IsEachValueUntilTheNext) {
  const std::array samples = {MemorySample{10, 100}, MemorySample{12, 300}, MemorySample{13, 7}};
  EXPECT_DOUBLE_EQ(held_byte_s(samples), 2 * 100 + 1 * 300);
  EXPECT_EQ(held_byte_s({}), 0);
  EXPECT_EQ(held_byte_s(std::span(samples).first(1)), 0);
}

TEST(MemoryHeld, ClocksThatJumpBackAndNonsenseAddNothing) {
  const std::array samples = {MemorySample{10, 100},      MemorySample{9, 100},  MemorySample{11, no_number},
                              MemorySample{no_number, 5}, MemorySample{20, -50}, MemorySample{21, 10},
                              MemorySample{23, 1}};
  EXPECT_DOUBLE_EQ(held_byte_s(samples), 2 * 100 + 2 * 10);
}

constexpr RunResult reference = {.completed = true, .seconds = 100, .cost = 8};

TEST(PerformanceScore, IsOneForARunAsGoodAsTheReference) {
  EXPECT_DOUBLE_EQ(performance_score(reference, reference).value(), 1);
}

TEST(PerformanceScore, CountsTimeAndCostAlike) {
  EXPECT_DOUBLE_EQ(performance_score({true, 125, 8}, reference).value(), std::sqrt(0.8));
  EXPECT_DOUBLE_EQ(performance_score({true, 100, 10}, reference).value(), std::sqrt(0.8));
  EXPECT_DOUBLE_EQ(performance_score({true, 50, 4}, reference).value(), 2);
  // Twice the ranks for half the time is neither gain nor loss.
  EXPECT_DOUBLE_EQ(performance_score({true, 50, 16}, reference).value(), 1);
}

TEST(PerformanceScore, IsZeroForRunsThatFailOrComeTooLate) {
  EXPECT_EQ(performance_score({false, 10, 1}, reference), 0);
  EXPECT_EQ(performance_score({false, no_number, 0}, reference), 0);
  EXPECT_EQ(performance_score({true, 150.001, 1}, reference), 0);
  EXPECT_GT(performance_score({true, 150, 8}, reference).value(), 0);
}

TEST(PerformanceScore, IsAbsentWhereNothingCanBeCompared) {
  for (const double nonsense : {0.0, -1.0, no_number, infinite}) {
    EXPECT_FALSE(performance_score({true, nonsense, 8}, reference)) << nonsense;
    EXPECT_FALSE(performance_score({true, 100, nonsense}, reference)) << nonsense;
    EXPECT_FALSE(performance_score(reference, {true, nonsense, 8})) << nonsense;
  }
  EXPECT_FALSE(performance_score(reference, {false, 100, 8}));
}

TEST(OverallScore, IsRateOfSuccessTimesGeometricMean) {
  EXPECT_DOUBLE_EQ(overall_score(std::array{2.0, 0.5}).value(), 1);
  EXPECT_DOUBLE_EQ(overall_score(std::array{0.9, 0.0, 0.9, 0.9}).value(), 0.75 * 0.9);
  EXPECT_EQ(overall_score(std::array{0.0, no_number}), 0);
  EXPECT_FALSE(overall_score({}));
}

}  // namespace
}  // namespace paceline
