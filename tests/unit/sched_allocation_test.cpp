#include "paceline/sched/allocation.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <random>
#include <set>

namespace paceline {
namespace {

/// NUMA nodes with so many cores each; core c has CPUs c and, with hyper-threads, cores + c.
Inventory machine(const std::vector<int>& cores_per_numa_node, bool hyper_threads = false) {
  const int total = std::accumulate(cores_per_numa_node.begin(), cores_per_numa_node.end(), 0);
  Inventory inventory;
  for (std::size_t node = 0; node < cores_per_numa_node.size(); ++node) {
    for (int i = 0; i < cores_per_numa_node[node]; ++i) {
      const int cpu = static_cast<int>(inventory.cores.size());
      Core core{static_cast<std::int64_t>(node), {cpu}};
      if (hyper_threads) core.cpus.push_back(total + cpu);
      inventory.cores.push_back(core);
    }
  }
  return inventory;
}

std::vector<RankPlace> places(const Inventory& inventory, std::int64_t ranks, std::int64_t threads = 0) {
  Result<std::vector<RankPlace>> result = allocate_ranks(inventory, ranks, threads);
  EXPECT_TRUE(result.ok());
  return result.ok() ? *result : std::vector<RankPlace>{};
}

std::vector<std::string> pins(const std::vector<RankPlace>& table) {
  std::vector<std::string> lists;
  for (const RankPlace& place : table) lists.push_back(cpu_list(place.cpus));
  return lists;
}

using Lists = std::vector<std::string>;

TEST(Allocation, OneCorePerRankIsPinnedWithOneThread) {
  const auto table = places(machine({2}), 2);
  EXPECT_EQ(pins(table), (Lists{"0", "1"}));
  for (std::int64_t rank = 0; rank < 2; ++rank) {
    EXPECT_EQ(table[static_cast<std::size_t>(rank)].rank, rank);
    EXPECT_EQ(table[static_cast<std::size_t>(rank)].threads, 1);
  }
}

TEST(Allocation, ThreadsFollowTheCoresUnlessGiven) {
  EXPECT_EQ(places(machine({8}), 2)[1].threads, 4);
  EXPECT_EQ(places(machine({8}), 2, 3)[1].threads, 3);
  EXPECT_EQ(places(machine({8}), 2, 3)[1].cores, 4);
}

TEST(Allocation, HyperThreadsGoWithTheirCore) {
  EXPECT_EQ(pins(places(machine({4}, true), 2)), (Lists{"0-1,4-5", "2-3,6-7"}));
  EXPECT_EQ(places(machine({4}, true), 2)[0].threads, 2);
}

TEST(Allocation, UnevenCoresGoToTheFirstRanks) {
  EXPECT_EQ(pins(places(machine({8}), 3)), (Lists{"0-2", "3-5", "6-7"}));
}

TEST(Allocation, NoRunCrossesNumaNodesWhereThatCostsNothing) {
  // Even runs would be 3, 3, 2 with the second across the border; the smallest run is 2 either way.
  EXPECT_EQ(pins(places(machine({4, 4}), 3)), (Lists{"0-1", "2-3", "4-7"}));
  EXPECT_EQ(pins(places(machine({6, 2}), 4)), (Lists{"0-1", "2-3", "4-5", "6-7"}));
}

TEST(Allocation, EvennessWinsOverNumaBorders) {
  // Whole NUMA nodes would leave a rank with 4 of 16 cores; even runs give 5 at least.
  EXPECT_EQ(pins(places(machine({4, 4, 4, 4}), 3)), (Lists{"0-5", "6-10", "11-15"}));
  EXPECT_EQ(pins(places(machine({5, 1}), 2)), (Lists{"0-2", "3-5"}));
}

TEST(Allocation, MoreRanksThanCoresAreNotPinned) {
  for (const RankPlace& place : places(machine({2}), 3)) {
    EXPECT_TRUE(place.cpus.empty());
    EXPECT_EQ(place.cores, 0);
    EXPECT_EQ(place.threads, 1);
  }
}

TEST(Allocation, EveryCoreHasOneOwnerAndRunsAreEven) {
  for (const auto& shape : {std::vector<int>{1}, {2}, {7}, {3, 5}, {8, 8}, {4, 4, 4, 4}, {1, 9, 2}}) {
    const Inventory inventory = machine(shape);
    const auto cores = static_cast<std::int64_t>(inventory.cores.size());
    for (std::int64_t ranks = 1; ranks <= cores; ++ranks) {
      std::multiset<int> used;
      std::int64_t smallest = cores;
      for (const RankPlace& place : places(inventory, ranks)) {
        used.insert(place.cpus.begin(), place.cpus.end());
        smallest = std::min(smallest, place.cores);
      }
      EXPECT_EQ(static_cast<std::int64_t>(used.size()), cores);
      EXPECT_EQ(static_cast<std::int64_t>(std::set<int>(used.begin(), used.end()).size()), cores);
      EXPECT_EQ(smallest, cores / ranks) << cores << " cores, " << ranks << " ranks";
    }
  }
}

TEST(Allocation, RefusesZeroRanksAndZeroCores) {
  EXPECT_EQ(allocate_ranks(machine({2}), 0, 0).error().code, ErrorCode::invalid_argument);
  EXPECT_EQ(allocate_ranks(Inventory{}, 1, 0).error().code, ErrorCode::not_found);
}

TEST(BoundAllocation, UnboundAgentsTakeTheirRunOfTheNode) {
  EXPECT_EQ(cpu_list(allocate_bound_rank(machine({8}), 8, 1, 2, 0)->cpus), "4-7");
}

TEST(BoundAllocation, ABoundAgentKeepsWhatItWasGiven) {
  Inventory own;
  own.cores = {{0, {5}}};
  const Result<RankPlace> place = allocate_bound_rank(own, 8, 1, 2, 0);
  EXPECT_EQ(place.value().cpus, std::vector<int>{5});
  EXPECT_EQ(place.value().threads, 1);
  EXPECT_EQ(place.value().cores, 1);
}

TEST(BoundAllocation, AgentsBoundToOneSocketShareItsCores) {
  // 16 cores in two sockets, 8 agents bound to sockets of 8: four share each, so 2 threads for each.
  const Result<RankPlace> place = allocate_bound_rank(machine({8}), 16, 3, 8, 0);
  EXPECT_EQ(place.value().threads, 2);
  EXPECT_EQ(place.value().cores, 0);
  EXPECT_EQ(cpu_list(place.value().cpus), "0-7");
}

TEST(Spread, TakesTheFewestNodesWithACoreForEveryRank) {
  using Shares = std::vector<std::int64_t>;
  EXPECT_EQ(spread_ranks({4, 4, 4}, 4), (Shares{4, 0, 0}));
  EXPECT_EQ(spread_ranks({4, 4, 4}, 5), (Shares{3, 2, 0}));
  EXPECT_EQ(spread_ranks({2, 8, 4}, 8), (Shares{0, 8, 0}));
  EXPECT_EQ(spread_ranks({2, 8, 4}, 9), (Shares{0, 6, 3}));
  EXPECT_EQ(spread_ranks({4, 4, 4}, 4, true), (Shares{2, 1, 1}));
  EXPECT_EQ(spread_ranks({2, 1}, 6), (Shares{4, 2}));
  EXPECT_EQ(spread_ranks({0, 1}, 2), (Shares{0, 2}));
  EXPECT_EQ(spread_ranks({0, 0}, 2), (Shares{0, 0}));
  EXPECT_EQ(spread_ranks({}, 2), Shares{});
}

TEST(Spread, NoRankSharesACoreWhileAnotherIsFree) {
  std::mt19937_64 random(5);
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::int64_t> cores(1 + random() % 12);
    for (std::int64_t& node : cores) node = static_cast<std::int64_t>(random() % 9);
    const auto ranks = static_cast<std::int64_t>(1 + random() % 80);
    const std::int64_t room = std::accumulate(cores.begin(), cores.end(), std::int64_t{0});
    if (room == 0) continue;
    for (const bool all : {false, true}) {
      const std::vector<std::int64_t> shares = spread_ranks(cores, ranks, all);
      ASSERT_EQ(shares.size(), cores.size());
      EXPECT_EQ(std::accumulate(shares.begin(), shares.end(), std::int64_t{0}), ranks);
      for (std::size_t node = 0; node < cores.size(); ++node) {
        EXPECT_GE(shares[node], 0);
        EXPECT_TRUE(cores[node] > 0 || shares[node] == 0);
        EXPECT_TRUE(ranks > room || shares[node] <= cores[node]);
      }
    }
  }
}

TEST(CpuList, JoinsRuns) {
  EXPECT_EQ(cpu_list({}), "");
  EXPECT_EQ(cpu_list({8, 3, 1, 2, 0}), "0-3,8");
}

}  // namespace
}  // namespace paceline
