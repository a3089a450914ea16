// What happens when ranks die, freeze, disagree or give up, and what is left afterwards.

#include <dirent.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <fstream>

#include "support/ranks.hpp"

namespace paceline::testing {
namespace {

using Milliseconds = std::chrono::duration<double, std::milli>;

std::size_t entries_of(const char* folder) {
  std::size_t count = 0;
  DIR* open = ::opendir(folder);
  while (open != nullptr && ::readdir(open) != nullptr) ++count;
  if (open != nullptr) ::closedir(open);
  return count;
}

std::size_t mappings_of_shared_memory() {
  std::ifstream maps("/proc/self/maps");
  std::size_t count = 0;
  for (std::string line; std::getline(maps, line);)
    count += line.find("memfd:paceline") != std::string::npos ? 1 : 0;
  return count;
}

/// One communicator's life, with everything that holds something.
std::string live(Result<Communicator>& communicator, bool fails) {
  if (!communicator.ok()) return communicator.error().message;
  auto buffer = communicator->allocate(300000 * sizeof(float));
  if (!buffer.ok()) return buffer.error().message;
  std::vector<float> plain(300000, 1.0F);
  Work work = communicator->all_reduce_async(buffer->data(), 300000, DataType::f32);
  if (const Status s = communicator->all_reduce(plain.data(), 300000, DataType::f32); !s.ok())
    return s.error().message;
  if (const Status s = work.wait(); !s.ok()) return s.error().message;
  if (const Status s = communicator->barrier(); !s.ok()) return s.error().message;
  std::this_thread::sleep_for(
      std::chrono::milliseconds(fails ? 50 : 0));  // the others leave the barrier, too
  if (fails && communicator->rank() == 0) communicator->abort("on purpose");
  if (fails && communicator->barrier().ok()) return "the barrier held after the abort";
  return {};
}

TEST(Connect, EndsWhenItIsCancelledFromAnotherThread) {
  for (const bool before : {false, true}) {
    for (const int rank : {0, 1}) {
      Listener listener = free_listener();  // where nobody answers
      const std::vector<Member> members = members_of({"aa"}, listener.port);
      CommunicatorOptions options;
      options.cancel.emplace();
      ConnectCancel cancel = *options.cancel;
      if (rank == 0) options.listener = std::move(listener.fd);
      if (before) cancel.cancel("it is not wanted");
      std::thread canceller([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        if (!before) cancel.cancel("it is not wanted");
      });
      const auto begin = std::chrono::steady_clock::now();
      const auto communicator = Communicator::connect(rank, members, std::move(options));
      canceller.join();
      ASSERT_FALSE(communicator.ok());
      EXPECT_EQ(communicator.error().code, ErrorCode::aborted) << communicator.error().message;
      EXPECT_NE(communicator.error().message.find("it is not wanted"), std::string::npos);
      EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(30));  // the limit is 60
    }
  }
}

TEST(Leaks, NothingIsLeftOfCommunicatorsThatEndedOrFailed) {
  const Ranks ranks{"aabc", RunAs::threads};
  const auto round = [&](bool fails) {
    expect_all_well(run_ranks(ranks, [&](Result<Communicator>& c, int) { return live(c, fails); }));
  };
  round(false);  // whatever is made once
  const std::size_t files = entries_of("/proc/self/fd");
  const std::size_t threads = entries_of("/proc/self/task");
  for (int i = 0; i < 6; ++i) round(i % 2 == 1);
  EXPECT_EQ(entries_of("/proc/self/fd"), files);
  EXPECT_EQ(entries_of("/proc/self/task"), threads);
  EXPECT_EQ(mappings_of_shared_memory(), 0U);
}

TEST(Leaks, AFailedMeetingLeavesNothing) {
  const std::size_t files = entries_of("/proc/self/fd");
  for (int i = 0; i < 5; ++i) {
    Listener listener = free_listener();
    CommunicatorOptions options;
    options.connect_timeout = std::chrono::milliseconds(30);
    const std::vector<Member> members = members_of({"aab", RunAs::threads}, listener.port);
    options.listener = std::move(listener.fd);
    EXPECT_FALSE(Communicator::connect(0, members, std::move(options)).ok());
  }
  EXPECT_EQ(entries_of("/proc/self/fd"), files);
}

class Failure : public ::testing::TestWithParam<const char*> {};

// A process that is frozen is alive: only the deadline tells.
TEST_P(Failure, AFrozenRankIsNamedAfterTheDeadline) {
  const Ranks ranks{GetParam(), RunAs::processes};
  auto* pids = static_cast<std::atomic<pid_t>*>(
      ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  const int last = ranks.size() - 1;
  const auto options = [] {
    CommunicatorOptions o;
    o.operation_timeout = std::chrono::milliseconds(700);
    return o;
  };
  const auto failures = run_ranks(
      ranks,
      [&](Result<Communicator>& communicator, int rank) -> std::string {
        if (!communicator.ok()) return communicator.error().message;
        pids[rank] = ::getpid();
        std::vector<float> data(200000, 1.0F);
        std::string verdict = "nobody noticed";
        for (int round = 0; round < 100000; ++round) {
          if (rank == 0 && round == 20) {
            while (pids[last] == 0) std::this_thread::yield();
            ::kill(pids[last], SIGSTOP);
          }
          const Status status = communicator->all_reduce(data.data(), data.size(), DataType::f32);
          if (status.ok()) continue;
          verdict = status.error().rank == last || rank == last
                        ? std::string()
                        : concat("rank ", status.error().rank, " is blamed: ", status.error().message);
          break;
        }
        if (rank == 0) {
          // Its shared memory is not safe while it only sleeps, and is when it has woken and noticed.
          const bool has_neighbour = ranks.nodes[static_cast<std::size_t>(last)] == ranks.nodes[0];
          if (has_neighbour && communicator->quiesce(std::chrono::milliseconds(50)).ok())
            verdict += " a frozen rank counts as stopped";
          ::kill(pids[last], SIGCONT);
          if (const Status s = communicator->quiesce(std::chrono::seconds(20)); !s.ok())
            verdict += s.error().message;
        }
        return verdict;
      },
      options);
  expect_all_well(failures);
  ::munmap(pids, 4096);
}

TEST_P(Failure, AfterAnErrorSharedMemoryComesToRest) {
  const Ranks ranks{GetParam(), RunAs::processes};
  const int last = ranks.size() - 1;
  const auto failures = run_ranks(ranks, [&](Result<Communicator>& communicator, int rank) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    auto buffer = communicator->allocate(std::size_t{3} << 20);
    if (!buffer.ok()) return buffer.error().message;
    if (!communicator->quiesce(std::chrono::seconds(1)).ok() && communicator->health().ok()) {
      // it is for after an error
    } else {
      return "a communicator that is well has come to rest";
    }
    for (int round = 0;; ++round) {
      if (rank == last && round == 10) ::kill(::getpid(), SIGKILL);
      if (!communicator->all_reduce(buffer->data(), (std::size_t{3} << 20) / 4, DataType::f32).ok()) break;
    }
    const Status rest = communicator->quiesce(std::chrono::seconds(20));
    if (!rest.ok()) return rest.error().message;
    // Nobody writes any more: what this rank puts there stays.
    std::memset(buffer->data(), rank + 1, buffer->bytes());
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    for (std::size_t i = 0; i < buffer->bytes(); ++i)
      if (buffer->data()[i] != static_cast<std::byte>(rank + 1)) return "somebody still writes";
    return {};
  });
  for (int rank = 0; rank < last; ++rank) EXPECT_EQ(failures[static_cast<std::size_t>(rank)], "");
  EXPECT_EQ(failures.back(), "signal 9");
}

// Far more than what is promised, so that a loaded machine does not fail it; the report has what it took.
TEST_P(Failure, AbortAndDeathAreKnownSoon) {
  for (const bool dies : {false, true}) {
    const Ranks ranks{GetParam(), RunAs::processes};
    auto* at = static_cast<std::atomic<std::int64_t>*>(
        ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    const auto now = [] { return std::chrono::steady_clock::now().time_since_epoch().count(); };
    const int last = ranks.size() - 1;
    run_ranks(ranks, [&](Result<Communicator>& communicator, int rank) -> std::string {
      if (!communicator.ok()) return communicator.error().message;
      if (rank == last) {
        std::this_thread::sleep_for(std::chrono::milliseconds(100));  // the others wait in the barrier
        at[last] = now();
        if (dies) ::kill(::getpid(), SIGKILL);
        communicator->abort("enough");
      }
      const Status status = communicator->barrier();
      if (!status.ok() && rank != last) at[rank] = now();
      return {};
    });
    for (int rank = 0; rank < last; ++rank) {
      ASSERT_NE(at[rank], 0) << "rank " << rank << " was not told";
      const double ms = static_cast<double>(at[rank] - at[last]) / 1e6;
      std::printf("rank %d knew of the %s after %.1f ms\n", rank, dies ? "death" : "abort", ms);
      EXPECT_LT(ms, 5000);
    }
    ::munmap(at, 4096);
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, Failure, ::testing::Values("aaa", "ab", "aabb"),
                         [](const auto& parameter) { return std::string(parameter.param); });

// Two threads may wait for different works, and a third abort; the communicator is then dead and says so.
TEST(Threads, WaitersOnSeveralThreadsAllReturn) {
  expect_all_well(
      run_ranks({"ab", RunAs::threads}, [](Result<Communicator>& communicator, int rank) -> std::string {
        if (!communicator.ok()) return communicator.error().message;
        std::vector<float> data(4 * 100000, 1.0F);
        std::vector<Work> works;
        const int begun = rank == 0 ? 4 : 2;  // rank 1 never begins the last two
        for (int i = 0; i < begun; ++i)
          works.push_back(communicator->all_reduce_async(data.data() + i * 100000, 100000, DataType::f32));
        std::vector<std::thread> waiters;
        std::atomic<int> failed = 0;
        for (Work& work : works) waiters.emplace_back([&] { failed += work.wait().ok() ? 0 : 1; });
        if (rank == 1) {
          waiters[0].join();
          waiters[1].join();
          std::this_thread::sleep_for(std::chrono::milliseconds(50));
          communicator->abort("no more");
          return failed == 0 ? "" : "the sums that both began failed";
        }
        for (std::thread& waiter : waiters) waiter.join();
        if (failed != 2) return concat(failed.load(), " of 4 failed");
        return communicator->all_reduce(data.data(), 1, DataType::f32).ok() ? "the communicator lives on"
                                                                            : "";
      }));
}

TEST(Threads, AWorkMayOutliveItsCommunicator) {
  Work work;
  std::vector<float> data(10, 1.0F);
  {
    auto communicator = Communicator::connect(0, std::vector<Member>(1));
    ASSERT_TRUE(communicator.ok());
    work = communicator->all_reduce_async(data.data(), 10, DataType::f32);
    EXPECT_TRUE(work.wait().ok());
  }
  EXPECT_TRUE(work.done());
  EXPECT_TRUE(work.wait().ok());
}

// More ranks than cores: nobody spins while others need the core.
TEST(Crowd, SixteenRanksOnWhateverCoresThereAre) {
  expect_all_well(run_ranks({"aaaaaaaaaaaaaaaa", RunAs::processes},
                            [](Result<Communicator>& communicator, int rank) -> std::string {
                              if (!communicator.ok()) return communicator.error().message;
                              auto buffer = communicator->allocate(50000 * sizeof(float));
                              if (!buffer.ok()) return buffer.error().message;
                              auto* data = reinterpret_cast<float*>(buffer->data());
                              for (int round = 0; round < 50; ++round) {
                                const std::size_t count = round % 2 == 0 ? 10 : 50000;
                                std::fill_n(data, count, static_cast<float>(rank + 1));
                                if (const Status s = communicator->all_reduce(data, count, DataType::f32);
                                    !s.ok())
                                  return s.error().message;
                                if (data[count - 1] != 136.0F)
                                  return concat("round ", round, ": ", data[count - 1]);
                              }
                              return {};
                            }));
}

TEST(Mismatch, EveryDifferenceIsNamed) {
  struct Difference {
    const char* what;
    std::function<Status(Communicator&, float*, bool)> call;
    const char* expected;
  };
  const Difference differences[] = {
      {"type",
       [](Communicator& c, float* d, bool odd) {
         return c.all_reduce(d, 5000, odd ? DataType::i32 : DataType::f32);
       },
       "i32"},
      {"operation",
       [](Communicator& c, float* d, bool odd) {
         return c.all_reduce(d, 5000, DataType::f32, odd ? ReduceOp::max : ReduceOp::sum);
       },
       "all_reduce(max)"},
      {"root",
       [](Communicator& c, float* d, bool odd) { return c.broadcast(d, 2000, DataType::f32, odd ? 1 : 0); },
       "do not call the same collective"},
      {"kind",
       [](Communicator& c, float* d, bool odd) {
         return odd ? c.barrier() : c.all_reduce(d, 9, DataType::f32);
       },
       "barrier"},
      {"codec",
       [](Communicator& c, float* d, bool odd) {
         ReduceOptions o;
         o.codec = odd ? Codec::bf16 : Codec::none;
         return c.all_reduce(d, d, 5000, DataType::f32, o);
       },
       "as bf16"},
      {"priority",
       [](Communicator& c, float* d, bool odd) {
         ReduceOptions o;
         o.priority = odd ? 3 : 0;
         return c.all_reduce(d, d, 9, DataType::f32, o);
       },
       "at priority 3"},
  };
  for (const char* nodes : {"aa", "ab"})
    for (const Difference& difference : differences) {
      const auto failures = run_ranks(
          {nodes, RunAs::threads}, [&](Result<Communicator>& communicator, int rank) -> std::string {
            if (!communicator.ok()) return communicator.error().message;
            std::vector<float> data(5000, 1.0F);
            const Status status = difference.call(*communicator, data.data(), rank == 1);
            // A root may be through before anyone can object; then the next call tells.
            const Status told = status.ok() ? communicator->barrier() : status;
            return told.ok() ? "nobody noticed" : told.error().message;
          });
      EXPECT_NE(failures[0].find(difference.expected), std::string::npos)
          << nodes << " " << difference.what << ": " << failures[0];
    }
}

TEST(BadInput, IsAnErrorValueAndNothingHappens) {
  auto communicator = Communicator::connect(0, std::vector<Member>(1));
  ASSERT_TRUE(communicator.ok());
  alignas(8) float data[64] = {};
  const auto refused = [&](const ReduceOptions& options, DataType type, const float* input, float* output) {
    const Status status = communicator->all_reduce(input, output, 16, type, options);
    return status.ok() ? std::string("accepted") : status.error().message;
  };
  ReduceOptions options;
  EXPECT_NE(refused(options, DataType::f32, data, data + 8).find("overlap"), std::string::npos);
  EXPECT_NE(refused(options, DataType::f32, nullptr, data).find("null"), std::string::npos);
  EXPECT_NE(refused(options, static_cast<DataType>(77), data, data).find("no such data type"),
            std::string::npos);
  options.op = static_cast<ReduceOp>(9);
  EXPECT_NE(refused(options, DataType::f32, data, data).find("no such operation"), std::string::npos);
  options = {};
  options.codec = static_cast<Codec>(99);
  EXPECT_NE(refused(options, DataType::f32, data, data).find("no such codec"), std::string::npos);
  options = {};
  options.weight = 2;
  EXPECT_NE(refused(options, DataType::i32, data, data).find("weights need"), std::string::npos);
  options.weight = std::numeric_limits<double>::quiet_NaN();
  EXPECT_NE(refused(options, DataType::f32, data, data).find("finite"), std::string::npos);
  options = {};
  options.codec = Codec::int8;
  EXPECT_NE(refused(options, DataType::f64, data, data).find("f32"), std::string::npos);
  options.codec = Codec::fixed_point;
  options.fixed_point_exponent = 65536 + 24;
  EXPECT_NE(refused(options, DataType::f32, data, data).find("exponent"), std::string::npos);
  options = {};
  options.residual = data + 32;
  EXPECT_NE(refused(options, DataType::f32, data, data).find("residual"), std::string::npos);
  EXPECT_FALSE(communicator->reduce_scatter(data, data + 1, 16, DataType::f32, {}).ok());
  EXPECT_FALSE(
      communicator->all_gather(data, std::numeric_limits<std::size_t>::max() / 2, DataType::f32).ok());
  EXPECT_TRUE(communicator->health().ok());
}

TEST(Security, EncryptionNeedsASecretAndTheSameOnAllRanks) {
  CommunicatorOptions without;
  without.encrypt = true;
  const auto refused = Communicator::connect(0, std::vector<Member>(1), std::move(without));
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("secret"), std::string::npos);
  // One encrypts, the other does not.
  Listener listener = free_listener();
  const std::vector<Member> members = members_of({"ab", RunAs::threads}, listener.port);
  std::string other;
  std::thread second([&] {
    CommunicatorOptions options;
    options.secret = "s";
    options.encrypt = true;
    options.connect_timeout = std::chrono::seconds(5);
    const auto communicator = Communicator::connect(1, members, std::move(options));
    other = communicator.ok() ? "admitted" : communicator.error().message;
  });
  CommunicatorOptions options;
  options.secret = "s";
  options.listener = std::move(listener.fd);
  options.connect_timeout = std::chrono::seconds(1);
  EXPECT_FALSE(Communicator::connect(0, members, std::move(options)).ok());
  second.join();
  EXPECT_NE(other.find("encrypts"), std::string::npos) << other;
}

TEST(Choices, CanBeForcedAndAreSaid) {
  ::setenv("PACELINE_ALGORITHM", "sideways", 1);
  const auto refused = Communicator::connect(0, std::vector<Member>(1));
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("exchange, direct, ring"), std::string::npos)
      << refused.error().message;
  ::setenv("PACELINE_ALGORITHM", "direct", 1);
  expect_all_well(
      run_ranks({"ab", RunAs::threads}, [](Result<Communicator>& communicator, int) -> std::string {
        if (!communicator.ok()) return communicator.error().message;
        const std::string plan = communicator->describe_plan();
        return plan.find("sums: direct") != std::string::npos ? "" : plan;
      }));
  ::unsetenv("PACELINE_ALGORITHM");
  ::setenv("PACELINE_PORTS", "40000-30000", 1);
  expect_all_well(
      run_ranks({"a", RunAs::threads}, [](Result<Communicator>& communicator, int) -> std::string {
        return communicator.ok() ? "" : communicator.error().message;  // one rank listens nowhere
      }));
  ::unsetenv("PACELINE_PORTS");
  ::setenv("PACELINE_PORTS", "23000-23999", 1);
  ::setenv("PACELINE_INTERFACE", "lo", 1);
  expect_all_well(
      run_ranks({"ab", RunAs::threads}, [](Result<Communicator>& communicator, int) -> std::string {
        return communicator.ok() ? "" : communicator.error().message;
      }));
  ::unsetenv("PACELINE_PORTS");
  ::unsetenv("PACELINE_INTERFACE");
}

}  // namespace
}  // namespace paceline::testing
