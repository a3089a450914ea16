#include "paceline/sched/settle.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace paceline {
namespace {

constexpr bool reduced = true, not_reduced = false, incomplete = false;

std::int64_t base(const std::vector<Standing>& standings) {
  const auto result = settle(standings);
  EXPECT_TRUE(result.ok()) << result.error().message;
  return result.ok() ? *result : -1;
}

ErrorCode refusal(const std::vector<Standing>& standings) {
  const auto result = settle(standings);
  EXPECT_FALSE(result.ok());
  return result.ok() ? ErrorCode::internal : result.error().code;
}

TEST(Settle, NobodyHasAppliedTheStepAndOneLacksItsGradients) {
  EXPECT_EQ(base({{7, reduced}, {7, not_reduced}}), 7);
}

TEST(Settle, AllHoldTheStepReduced) {
  EXPECT_EQ(base({{7, reduced}, {7, reduced}}), 8);
  EXPECT_EQ(base({{7, reduced}}), 8);
}

TEST(Settle, SomebodyHasAppliedWhatTheOthersHoldReduced) {
  EXPECT_EQ(base({{8, not_reduced}, {7, reduced}, {7, reduced}}), 8);
  EXPECT_EQ(base({{7, reduced}, {8, not_reduced}}), 8);
}

TEST(Settle, AStepFurtherCountsOnlyWhereAllHoldIt) {
  EXPECT_EQ(base({{8, reduced}, {7, reduced}}), 8);
  EXPECT_EQ(base({{8, reduced}, {8, reduced}}), 9);
}

TEST(Settle, NothingHasBeenTrainedYet) {
  EXPECT_EQ(base({{0, not_reduced}, {0, not_reduced}}), 0);
}

TEST(Settle, WhoHasNotReceivedTheStateCountsForNothing) {
  EXPECT_EQ(base({{7, reduced}, {0, not_reduced, incomplete}}), 8);
  EXPECT_EQ(base({{7, not_reduced}, {99, reduced, incomplete}}), 7);
  EXPECT_EQ(refusal({{7, reduced, incomplete}}), ErrorCode::not_found);
  EXPECT_EQ(refusal({}), ErrorCode::not_found);
}

TEST(Settle, WhatNoLossOfRanksExplainsIsAnError) {
  EXPECT_EQ(refusal({{8, not_reduced}, {7, not_reduced}}), ErrorCode::internal);
  EXPECT_EQ(refusal({{9, not_reduced}, {7, reduced}}), ErrorCode::internal);
}

TEST(Settle, TheOrderOfTheReportsDoesNotMatter) {
  std::vector<Standing> standings = {
      {3, reduced}, {4, not_reduced}, {4, reduced}, {0, not_reduced, incomplete}};
  const auto less = [](const Standing& a, const Standing& b) {
    return std::tie(a.applied, a.reduced, a.complete) < std::tie(b.applied, b.reduced, b.complete);
  };
  std::ranges::sort(standings, less);
  do EXPECT_EQ(base(standings), 4);
  while (std::ranges::next_permutation(standings, less).found);
}

TEST(Settle, NobodyGoesBackAndAllReachTheBase) {
  // Every pair of standings: whatever is settled, both can go on from it, and neither has applied more.
  for (std::int64_t applied = 5; applied <= 7; ++applied)
    for (const bool mine : {false, true})
      for (const bool theirs : {false, true}) {
        const Standing a{6, mine}, b{applied, theirs};
        const auto result = settle({a, b});
        if (!result.ok()) continue;
        EXPECT_TRUE(can_reach(a, *result) && can_reach(b, *result));
        EXPECT_GE(*result, std::max(a.applied, b.applied));
      }
}

TEST(CanReach, WithTheStepOrItsGradients) {
  EXPECT_TRUE(can_reach({7, not_reduced}, 7));
  EXPECT_TRUE(can_reach({7, reduced}, 8));
  EXPECT_FALSE(can_reach({7, not_reduced}, 8));
  EXPECT_FALSE(can_reach({7, reduced}, 6));
  EXPECT_FALSE(can_reach({6, reduced}, 8));
  EXPECT_FALSE(can_reach({7, reduced, incomplete}, 7));
}

}  // namespace
}  // namespace paceline
