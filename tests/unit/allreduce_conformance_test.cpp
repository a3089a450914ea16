// One suite for every layout of ranks over nodes and for both kinds of memory: what a transport must pass.
// Expected values are in closed form: ranks contribute (rank + 1) * f(i), so a sum is n(n+1)/2 * f(i).

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <numeric>

#include "support/ranks.hpp"

namespace paceline::testing {
namespace {

struct Case {
  Ranks ranks;
  bool shared = true;
};

void PrintTo(const Case& test, std::ostream* out) {
  *out << name_of(test.ranks) << (test.shared ? " shared" : " plain");
}

class Conformance : public ::testing::TestWithParam<Case> {};

/// Small values that every type holds exactly, also when 8 ranks add them up.
template <class T>
T term(std::size_t i) {
  return static_cast<T>(static_cast<int>(i % 1000) - 500);
}

template <class T>
constexpr DataType type_of() {
  if constexpr (std::is_same_v<T, float>) return DataType::f32;
  if constexpr (std::is_same_v<T, double>) return DataType::f64;
  if constexpr (std::is_same_v<T, std::int32_t>) return DataType::i32;
  return DataType::i64;
}

template <class T>
std::string check_all_reduce(Communicator& communicator, T* data, std::size_t count, ReduceOp op) {
  const auto n = static_cast<T>(communicator.size());
  for (std::size_t i = 0; i < count; ++i) data[i] = static_cast<T>(communicator.rank() + 1) * term<T>(i);
  const Status status = communicator.all_reduce(data, count, type_of<T>(), op);
  if (!status.ok()) return status.error().message;
  for (std::size_t i = 0; i < count; ++i) {
    const T f = term<T>(i);
    T expected = n * (n + 1) / 2 * f;
    if (op == ReduceOp::min) expected = f < 0 ? n * f : f;
    if (op == ReduceOp::max) expected = f < 0 ? f : n * f;
    if (data[i] != expected)
      return concat("all_reduce of ", count, " ", to_string(type_of<T>()), ": element ", i, " is ", data[i],
                    " where ", expected, " is due");
  }
  return {};
}

// From nothing over one cache line, the inline limit and a page to more than two segments.
constexpr std::size_t counts[] = {0, 1, 7, 16, 511, 512, 513, 4099, 262144, 2200001};

template <class T>
void all_reduce_everything(const Case& test) {
  expect_all_well(run_ranks(test.ranks, [&](Result<Communicator>& communicator, int) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    auto buffer = make_buffer(*communicator, test.shared, counts[std::size(counts) - 1] * sizeof(T));
    if (!buffer.ok()) return buffer.error().message;
    for (const std::size_t count : counts) {
      for (const ReduceOp op : {ReduceOp::sum, ReduceOp::min, ReduceOp::max}) {
        if (op != ReduceOp::sum && count > 300000) continue;
        std::string failure = check_all_reduce(*communicator, static_cast<T*>(buffer->data()), count, op);
        if (!failure.empty()) return failure;
      }
    }
    return {};
  }));
}

TEST_P(Conformance, AllReduceF32) {
  all_reduce_everything<float>(GetParam());
}
TEST_P(Conformance, AllReduceF64) {
  all_reduce_everything<double>(GetParam());
}
TEST_P(Conformance, AllReduceI32) {
  all_reduce_everything<std::int32_t>(GetParam());
}
TEST_P(Conformance, AllReduceI64) {
  all_reduce_everything<std::int64_t>(GetParam());
}

// Sums of numbers that round: whatever the order was, it must have been the same for everyone.
TEST_P(Conformance, AllReduceGivesTheSameBitsToAll) {
  expect_all_well(
      run_ranks(GetParam().ranks, [&](Result<Communicator>& communicator, int rank) -> std::string {
        if (!communicator.ok()) return communicator.error().message;
        constexpr std::size_t count = 30011;
        const auto n = static_cast<std::size_t>(communicator->size());
        auto buffer = make_buffer(*communicator, GetParam().shared, count * sizeof(float));
        auto all = make_buffer(*communicator, GetParam().shared, n * count * sizeof(std::int32_t));
        if (!buffer.ok() || !all.ok()) return "no memory";
        auto* data = static_cast<float*>(buffer->data());
        for (std::size_t i = 0; i < count; ++i)
          data[i] = 1.0F / static_cast<float>(i + 3) * static_cast<float>(rank * rank + 1);
        Status status = communicator->all_reduce(data, count, DataType::f32);
        if (!status.ok()) return status.error().message;
        auto* gathered = static_cast<std::int32_t*>(all->data());
        std::memcpy(gathered + static_cast<std::size_t>(rank) * count, data, count * sizeof(float));
        status = communicator->all_gather(gathered, count, DataType::i32);
        if (!status.ok()) return status.error().message;
        for (std::size_t other = 0; other < n; ++other)
          if (std::memcmp(gathered + other * count, data, count * sizeof(float)) != 0)
            return concat("rank ", other, " has other bits than rank ", rank);
        return {};
      }));
}

TEST_P(Conformance, BroadcastFromEveryRank) {
  expect_all_well(
      run_ranks(GetParam().ranks, [&](Result<Communicator>& communicator, int rank) -> std::string {
        if (!communicator.ok()) return communicator.error().message;
        auto buffer = make_buffer(*communicator, GetParam().shared, std::size_t{1500000} * sizeof(double));
        if (!buffer.ok()) return buffer.error().message;
        auto* data = static_cast<std::int64_t*>(buffer->data());
        for (int root = 0; root < communicator->size(); ++root) {
          for (const std::size_t count :
               {std::size_t{0}, std::size_t{1}, std::size_t{777}, std::size_t{1500000}}) {
            if (count > 100000 && root > 1) continue;
            for (std::size_t i = 0; i < count; ++i)
              data[i] = rank == root ? static_cast<std::int64_t>(i) * (root + 1) : -1;
            const Status status = communicator->broadcast(data, count, DataType::i64, root);
            if (!status.ok()) return status.error().message;
            for (std::size_t i = 0; i < count; ++i)
              if (data[i] != static_cast<std::int64_t>(i) * (root + 1))
                return concat("broadcast of ", count, " from ", root, ": element ", i, " is ", data[i]);
          }
        }
        return {};
      }));
}

TEST_P(Conformance, ABroadcastToSomeWhoHaveItReachesTheOthers) {
  expect_all_well(
      run_ranks(GetParam().ranks, [&](Result<Communicator>& communicator, int rank) -> std::string {
        if (!communicator.ok()) return communicator.error().message;
        constexpr std::size_t most = 3000000;
        auto buffer = make_buffer(*communicator, GetParam().shared, most * sizeof(double));
        if (!buffer.ok()) return buffer.error().message;
        auto* data = static_cast<std::int64_t*>(buffer->data());
        for (const std::size_t count : {std::size_t{3}, std::size_t{70000}, most}) {
          for (int root = 0; root < std::min(communicator->size(), 2); ++root) {
            const bool has_it = rank == root || rank % 3 == 1;
            for (std::size_t i = 0; i < count; ++i)
              data[i] = has_it ? static_cast<std::int64_t>(i) * (root + 1) : -1;
            Work work = communicator->broadcast_async(data, count, DataType::i64, root, 0, has_it);
            const Status status = work.wait();
            if (!status.ok()) return status.error().message;
            for (std::size_t i = 0; i < count; ++i)
              if (data[i] != static_cast<std::int64_t>(i) * (root + 1))
                return concat("broadcast of ", count, " from ", root, ": element ", i, " is ", data[i]);
          }
        }
        return {};
      }));
}

TEST_P(Conformance, AllGatherPutsEveryBlockInItsPlace) {
  expect_all_well(
      run_ranks(GetParam().ranks, [&](Result<Communicator>& communicator, int rank) -> std::string {
        if (!communicator.ok()) return communicator.error().message;
        const auto n = static_cast<std::size_t>(communicator->size());
        auto buffer = make_buffer(*communicator, GetParam().shared, n * 300007 * sizeof(float));
        if (!buffer.ok()) return buffer.error().message;
        auto* data = static_cast<float*>(buffer->data());
        for (const std::size_t count :
             {std::size_t{0}, std::size_t{1}, std::size_t{1000}, std::size_t{300007}}) {
          for (std::size_t i = 0; i < n * count; ++i) data[i] = -1;
          for (std::size_t i = 0; i < count; ++i)
            data[static_cast<std::size_t>(rank) * count + i] =
                static_cast<float>(rank * 1000) + static_cast<float>(i % 997);
          const Status status = communicator->all_gather(data, count, DataType::f32);
          if (!status.ok()) return status.error().message;
          for (std::size_t r = 0; r < n; ++r)
            for (std::size_t i = 0; i < count; ++i)
              if (data[r * count + i] != static_cast<float>(r * 1000) + static_cast<float>(i % 997))
                return concat("block ", r, " element ", i, " of ", count, " is ", data[r * count + i]);
        }
        return {};
      }));
}

// Many in flight, of changing sizes, with blocking calls in between: order is what matches them.
TEST_P(Conformance, AsynchronousCollectivesKeepTheirOrder) {
  expect_all_well(
      run_ranks(GetParam().ranks, [&](Result<Communicator>& communicator, int rank) -> std::string {
        if (!communicator.ok()) return communicator.error().message;
        constexpr std::size_t flights = 40;
        constexpr std::size_t room = 2000;
        auto buffer = make_buffer(*communicator, GetParam().shared, flights * room * sizeof(std::int64_t));
        if (!buffer.ok()) return buffer.error().message;
        auto* data = static_cast<std::int64_t*>(buffer->data());
        const std::int64_t n = communicator->size();
        for (int round = 0; round < 5; ++round) {
          std::vector<Work> works;
          for (std::size_t flight = 0; flight < flights; ++flight) {
            std::int64_t* mine = data + flight * room;
            const std::size_t count = 1 + flight * 49;
            std::fill_n(mine, count, static_cast<std::int64_t>(flight) * (rank + 1));
            works.push_back(communicator->all_reduce_async(mine, count, DataType::i64));
          }
          std::int64_t check = rank + 1;
          const Status status = communicator->all_reduce(&check, 1, DataType::i64, ReduceOp::max);
          if (!status.ok()) return status.error().message;
          if (check != n) return concat("the maximum is ", check);
          for (std::size_t flight = 0; flight < flights; ++flight) {
            const Status ended = works[flight].wait();
            if (!ended.ok()) return ended.error().message;
            for (std::size_t i = 0; i < 1 + flight * 49; ++i)
              if (data[flight * room + i] != static_cast<std::int64_t>(flight) * n * (n + 1) / 2)
                return concat("flight ", flight, " element ", i, " is ", data[flight * room + i]);
          }
        }
        return {};
      }));
}

// The barrier's promise in numbers: nobody is past round r before everybody has reached it.
TEST_P(Conformance, BarrierHoldsEveryoneBack) {
  if (GetParam().ranks.run_as == RunAs::processes) GTEST_SKIP() << "counts in memory that only threads share";
  std::atomic<int> arrived = 0;
  expect_all_well(run_ranks(GetParam().ranks, [&](Result<Communicator>& communicator, int) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    for (int round = 1; round <= 200; ++round) {
      ++arrived;
      const Status status = communicator->barrier();
      if (!status.ok()) return status.error().message;
      if (arrived < round * communicator->size()) return concat("round ", round, " was not held back");
    }
    return {};
  }));
}

TEST_P(Conformance, DifferentCallsAreNamedAndEndEverywhere) {
  const int last = GetParam().ranks.size() - 1;
  if (last == 0) GTEST_SKIP() << "one rank always agrees with itself";
  const auto failures =
      run_ranks(GetParam().ranks, [&](Result<Communicator>& communicator, int rank) -> std::string {
        if (!communicator.ok()) return communicator.error().message;
        auto buffer = make_buffer(*communicator, GetParam().shared, 200000 * sizeof(float));
        if (!buffer.ok()) return buffer.error().message;
        const std::size_t count = rank == last ? 100000 : 100001;
        const Status status = communicator->all_reduce(buffer->data(), count, DataType::f32);
        if (status.ok()) return "the sum was made";
        if (communicator->health().ok()) return "the communicator lives on";
        return status.error().message;
      });
  for (const std::string& failure : failures) {
    EXPECT_NE(failure.find("100000 f32"), std::string::npos) << failure;
    EXPECT_NE(failure.find("100001 f32"), std::string::npos) << failure;
    EXPECT_NE(failure.find("do not call the same"), std::string::npos) << failure;
  }
}

TEST_P(Conformance, AbortFreesEveryWaiter) {
  const int last = GetParam().ranks.size() - 1;
  if (last == 0) GTEST_SKIP() << "nobody else waits";
  const auto failures =
      run_ranks(GetParam().ranks, [&](Result<Communicator>& communicator, int rank) -> std::string {
        if (!communicator.ok()) return communicator.error().message;
        auto buffer = make_buffer(*communicator, GetParam().shared, 200000 * sizeof(float));
        if (!buffer.ok()) return buffer.error().message;
        if (rank == last) {
          std::this_thread::sleep_for(std::chrono::milliseconds(50));
          communicator->abort("enough");
        }
        return communicator->all_reduce(buffer->data(), 200000, DataType::f32).error().message;
      });
  for (const std::string& failure : failures) EXPECT_EQ(failure, concat("rank ", last, " aborted: enough"));
}

TEST_P(Conformance, ALostRankIsNamedByAllOthers) {
  if (GetParam().ranks.run_as == RunAs::threads) GTEST_SKIP() << "only a process can be killed";
  const int last = GetParam().ranks.size() - 1;
  if (last == 0) GTEST_SKIP() << "nobody is left to notice";
  const auto failures =
      run_ranks(GetParam().ranks, [&](Result<Communicator>& communicator, int rank) -> std::string {
        if (!communicator.ok()) return communicator.error().message;
        auto buffer = make_buffer(*communicator, GetParam().shared, 3000000 * sizeof(float));
        if (!buffer.ok()) return buffer.error().message;
        for (int round = 0; round < 1000000; ++round) {
          if (rank == last && round == 20) ::kill(::getpid(), SIGKILL);
          const Status status = communicator->all_reduce(buffer->data(), 3000000, DataType::f32);
          if (!status.ok()) return concat("lost ", status.error().rank, ": ", status.error().message);
        }
        return "nobody noticed";
      });
  for (int rank = 0; rank < last; ++rank)
    EXPECT_EQ(failures[static_cast<std::size_t>(rank)].find(concat("lost ", last, ": rank ", last)), 0U)
        << failures[static_cast<std::size_t>(rank)];
  EXPECT_EQ(failures.back(), "signal 9");
}

TEST_P(Conformance, ALeavingRankIsNamedByThoseWhoWaitForMore) {
  const int last = GetParam().ranks.size() - 1;
  if (last == 0) GTEST_SKIP() << "nobody else waits";
  const auto failures =
      run_ranks(GetParam().ranks, [&](Result<Communicator>& communicator, int rank) -> std::string {
        if (!communicator.ok()) return communicator.error().message;
        for (int round = 0; round < (rank == last ? 3 : 4); ++round) {
          const Status status = communicator->barrier();
          if (!status.ok()) return status.error().message;
        }
        return {};
      });
  EXPECT_EQ(failures.back(), "");
  for (int rank = 0; rank < last; ++rank)
    EXPECT_NE(failures[static_cast<std::size_t>(rank)].find("closed its communicator after 3"),
              std::string::npos)
        << failures[static_cast<std::size_t>(rank)];
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const RunAs run_as : {RunAs::threads, RunAs::processes})
    for (const char* nodes : {"a", "aa", "aaa", "ab", "aabb", "abac", "aaaabccc"})
      for (const bool shared : {true, false}) all.push_back({{nodes, run_as}, shared});
  return all;
}

INSTANTIATE_TEST_SUITE_P(Layouts, Conformance, ::testing::ValuesIn(cases()), [](const auto& parameter) {
  return concat(name_of(parameter.param.ranks), parameter.param.shared ? "_shared" : "_plain");
});

}  // namespace
}  // namespace paceline::testing
