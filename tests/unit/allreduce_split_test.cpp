#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "support/ranks.hpp"

namespace paceline::testing {
namespace {

/// The sum of rank + 1 over `group`, which every rank of it must get from the communicator.
std::string check_sum(Communicator& communicator, const std::vector<int>& group, int outer_rank) {
  std::vector<std::int64_t> data(1000, outer_rank + 1);
  const Status status = communicator.all_reduce(data.data(), data.size(), DataType::i64);
  if (!status.ok()) return status.error().message;
  const std::int64_t sum =
      std::accumulate(group.begin(), group.end(), static_cast<std::int64_t>(group.size()));
  for (const std::int64_t value : data)
    if (value != sum) return concat("rank ", outer_rank, " has ", value, " where the sum is ", sum);
  return {};
}

class Split : public ::testing::TestWithParam<Ranks> {};

TEST_P(Split, EveryGroupAddsUpItsOwnRanks) {
  const std::vector<std::vector<int>> groups = {{0, 4, 5}, {3, 4, 7}, {7, 6, 5, 4, 3, 2, 1, 0}, {2}};
  expect_all_well(run_ranks(GetParam(), [&](Result<Communicator>& outer, int rank) -> std::string {
    if (!outer.ok()) return outer.error().message;
    auto parts = outer->split(groups);
    if (!parts.ok()) return parts.error().message;
    std::size_t part = 0;
    for (const std::vector<int>& group : groups) {
      const auto place = std::find(group.begin(), group.end(), rank);
      if (place == group.end()) continue;
      Communicator& own = (*parts)[part++];
      if (own.rank() != place - group.begin()) return concat("wrong rank ", own.rank());
      if (own.size() != static_cast<int>(group.size())) return concat("wrong size ", own.size());
      if (std::string wrong = check_sum(own, group, rank); !wrong.empty()) return wrong;
    }
    return part == parts->size() ? "" : "wrong number of parts";
  }));
}

INSTANTIATE_TEST_SUITE_P(Layouts, Split,
                         ::testing::Values(Ranks{"aaaabccc", RunAs::threads},
                                           Ranks{"aaaabccc", RunAs::processes},
                                           Ranks{"aaaaaaaa", RunAs::threads}),
                         [](const auto& instance) { return name_of(instance.param); });

TEST(SplitAlone, PartsKeepTheNodesOfTheWhole) {
  expect_all_well(run_ranks({"aab"}, [](Result<Communicator>& outer, int rank) -> std::string {
    if (!outer.ok()) return outer.error().message;
    const std::vector<std::vector<int>> groups = {{2, 1, 0}};
    auto parts = outer->split(groups);
    if (!parts.ok()) return parts.error().message;
    const Topology& topology = parts->front().topology();
    if (topology.nodes != std::vector<std::string>{"b", "a"}) return topology.describe();
    return topology.local_ranks.size() == (rank == 2 ? 1U : 2U) ? "" : topology.describe();
  }));
}

TEST(SplitAlone, GroupsThatMakeNoSenseAreRefused) {
  expect_all_well(run_ranks({"ab"}, [](Result<Communicator>& outer, int) -> std::string {
    if (!outer.ok()) return outer.error().message;
    for (const std::vector<int>& group : {std::vector<int>{}, {0, 0}, {2}, {-1, 0}}) {
      const std::vector<std::vector<int>> groups = {group};
      const auto parts = outer->split(groups);
      if (parts.ok()) return "a group that makes no sense was taken";
      if (parts.error().code != ErrorCode::invalid_argument) return parts.error().message;
    }
    return outer->barrier().ok() ? "" : "the communicator did not survive";
  }));
}

TEST(SplitAlone, APartMayBeLessPatient) {
  expect_all_well(run_ranks({"ab"}, [](Result<Communicator>& outer, int rank) -> std::string {
    if (!outer.ok()) return outer.error().message;
    const std::vector<std::vector<int>> groups = {{0, 1}};
    auto parts = outer->split(groups, std::chrono::milliseconds(200));
    if (!parts.ok()) return parts.error().message;
    if (rank == 0) {
      const Status status = parts->front().barrier();
      if (status.ok() || status.error().code != ErrorCode::timeout) return "rank 1 was waited for";
    }
    return outer->barrier().ok() ? "" : "the whole is not well";
  }));
}

TEST(SplitAlone, APartOutlivesTheWhole) {
  expect_all_well(run_ranks({"aab"}, [](Result<Communicator>& outer, int rank) -> std::string {
    if (!outer.ok()) return outer.error().message;
    const std::vector<std::vector<int>> groups = {{0, 1, 2}};
    auto parts = outer->split(groups);
    if (!parts.ok()) return parts.error().message;
    if (!outer->barrier().ok()) return "the whole is not well";
    { const Communicator ended = std::move(*outer); }
    return check_sum(parts->front(), groups.front(), rank);
  }));
}

}  // namespace
}  // namespace paceline::testing
