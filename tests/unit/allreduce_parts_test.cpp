#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>

#include "../../allreduce/src/kernels/kernels.hpp"
#include "../../allreduce/src/kernels/table.hpp"
#include "../../allreduce/src/topology.hpp"
#include "../../allreduce/src/wire.hpp"
#include "support/ranks.hpp"

namespace paceline::testing {
namespace {

Layout layout_of(const std::string& nodes, int rank) {
  std::vector<std::string> keys;
  for (const char node : nodes) keys.emplace_back(1, node);
  return {rank, keys, keys};
}

TEST(Layout, EveryFragmentHasOneOwnerPerNodeAndItsNeighboursAreLinked) {
  for (const std::string nodes : {"a", "ab", "aabb", "aaab", "abbbbb", "aaaabccc", "abcabcab"}) {
    for (int rank = 0; rank < static_cast<int>(nodes.size()); ++rank) {
      const Layout layout = layout_of(nodes, rank);
      const std::vector<int> linked = layout.linked_ranks();
      for (int fragment = 0; fragment < layout.fragments(); ++fragment) {
        for (int node = 0; node < layout.nodes(); ++node) {
          const auto& ranks = layout.ranks_of(node);
          EXPECT_NE(std::ranges::find(ranks, layout.owner(node, fragment)), ranks.end());
        }
        if (layout.nodes() == 1 || layout.owner(layout.node(), fragment) != rank) continue;
        const int next = layout.owner((layout.node() + 1) % layout.nodes(), fragment);
        EXPECT_NE(std::ranges::find(linked, next), linked.end()) << nodes << " rank " << rank;
      }
      // A link has two ends.
      for (const int peer : linked) {
        const std::vector<int> back = layout_of(nodes, peer).linked_ranks();
        EXPECT_NE(std::ranges::find(back, rank), back.end()) << nodes << " ranks " << rank << ", " << peer;
      }
    }
  }
}

TEST(PartOf, TilesAnyRange) {
  for (const std::size_t size : {0, 1, 15, 16, 17, 1000, 4096, 1 << 20})
    for (const int parts : {1, 2, 3, 7, 16}) {
      std::size_t at = 5;
      for (int part = 0; part < parts; ++part) {
        const ElementRange range = part_of({5, 5 + size}, part, parts);
        EXPECT_EQ(range.begin, at);
        EXPECT_LE(range.size(), size / static_cast<std::size_t>(parts) + 32);
        at = range.end;
      }
      EXPECT_EQ(at, 5 + size);
    }
  const std::size_t huge = std::size_t{1} << 60;
  EXPECT_EQ(part_of({0, huge}, 255, 256).end, huge);
}

// The kernels of all instruction sets that this CPU has, bit for bit, on values that round.
TEST(Kernels, GiveTheSameBitsOnEveryInstructionSet) {
  constexpr std::size_t count = 1003;
  std::mt19937 random(9);
  std::vector<double> a(count);
  std::vector<double> b(count);
  for (std::size_t i = 0; i < count * sizeof(double); ++i) {
    reinterpret_cast<unsigned char*>(a.data())[i] = static_cast<unsigned char>(random() % 127);
    reinterpret_cast<unsigned char*>(b.data())[i] = static_cast<unsigned char>(random() % 127);
  }
  std::vector<kernels::ReduceTable> wider;
  if (__builtin_cpu_supports("avx2")) wider.push_back(kernels::avx2::table());
  if (__builtin_cpu_supports("avx512f")) wider.push_back(kernels::avx512::table());
  if (wider.empty()) GTEST_SKIP() << "this CPU has no wider vectors than the generic kernels";
  for (std::size_t type = 0; type < 4; ++type)
    for (std::size_t op = 0; op < 3; ++op) {
      std::vector<double> expected(count);
      kernels::generic::table().kernel[type][op](expected.data(), a.data(), b.data(), count);
      for (const kernels::ReduceTable& table : wider) {
        std::vector<double> got(count);
        table.kernel[type][op](got.data(), a.data(), b.data(), count);
        EXPECT_EQ(std::memcmp(got.data(), expected.data(), count * sizeof(double)), 0) << type << " " << op;
      }
    }
}

wire::Hello some_hello() {
  wire::Hello hello;
  hello.secret = "s3cret";
  hello.generation = 7;
  hello.rank = 2;
  hello.size = 5;
  hello.node_key = "host:x";
  hello.node_name = "x";
  hello.host = "10.0.0.2";
  hello.port = 4711;
  hello.local_socket = "paceline-00";
  return hello;
}

TEST(Wire, MessagesComeBackAsTheyWere) {
  const auto hello = wire::decode_hello(wire::encode(some_hello()));
  ASSERT_TRUE(hello.has_value());
  EXPECT_EQ(wire::encode(*hello), wire::encode(some_hello()));
  const auto roster = wire::decode_roster(wire::encode(std::vector<wire::Hello>(3, some_hello())));
  ASSERT_TRUE(roster.has_value());
  EXPECT_EQ(roster->size(), 3U);
  EXPECT_EQ(wire::decode_notice(wire::encode(wire::Notice{3, 1, "gone"}))->message, "gone");
  EXPECT_EQ(wire::decode_goodbye(wire::encode(wire::Goodbye{4, 99}))->operations, 99U);
}

TEST(Wire, AnyBytesGiveAMessageOrNothing) {
  std::mt19937 random(1);
  const std::string seeds[] = {wire::encode(some_hello()),
                               wire::encode(std::vector<wire::Hello>(4, some_hello())),
                               wire::encode(wire::Notice{1, 2, "text"}),
                               wire::encode(wire::LinkHello{"s", 1, 2}), std::string(40, '\xff')};
  std::size_t read = 0;
  for (int round = 0; round < 60'000; ++round) {
    std::string bytes = seeds[static_cast<std::size_t>(round) % std::size(seeds)];
    for (int i = 0; i < 3; ++i) bytes[random() % bytes.size()] = static_cast<char>(random());
    if (round % 2 == 0) bytes.resize(random() % (bytes.size() + 1));
    if (round % 7 == 0) bytes += static_cast<char>(random());
    read += wire::decode_hello(bytes).has_value() + wire::decode_roster(bytes).has_value() +
            wire::decode_notice(bytes).has_value() + wire::decode_link_hello(bytes).has_value() +
            wire::decode_goodbye(bytes).has_value();
  }
  EXPECT_GT(read, 0U);
  EXPECT_LT(read, 60'000U);
}

TEST(Wire, SecretsAreEqualOnlyWhole) {
  EXPECT_TRUE(wire::same_secret("", ""));
  EXPECT_TRUE(wire::same_secret("abc", "abc"));
  for (const char* other : {"", "ab", "abd", "abcd"}) EXPECT_FALSE(wire::same_secret("abc", other)) << other;
}

UniqueFd connect_to_port(std::uint16_t port) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  return fd;
}

CommunicatorOptions with_secret(const std::string& secret, Duration timeout = std::chrono::seconds(20)) {
  CommunicatorOptions options;
  options.secret = secret;
  options.connect_timeout = timeout;
  return options;
}

// Two ranks meet while strangers send rubbish, say nothing, or know the wrong secret.
TEST(Meeting, StrangersAreRefusedAndDisturbNobody) {
  Listener listener = free_listener();
  const std::vector<Member> members = members_of({"ab"}, listener.port);
  const UniqueFd rubbish = connect_to_port(listener.port);
  ASSERT_TRUE(write_all(rubbish.get(), "GET / HTTP/1.0\r\n\r\n", "socket").ok());
  const UniqueFd silent = connect_to_port(listener.port);
  std::string refusal;
  std::thread impostor([&] {
    auto communicator = Communicator::connect(1, members, with_secret("guess"));
    refusal = communicator.ok() ? "admitted" : communicator.error().message;
  });
  std::thread second([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    auto communicator = Communicator::connect(1, members, with_secret("right"));
    EXPECT_TRUE(communicator.ok()) << communicator.error().message;
    if (communicator.ok()) {
      EXPECT_TRUE(communicator->barrier().ok());
    }
  });
  CommunicatorOptions options = with_secret("right");
  options.listener = std::move(listener.fd);
  auto communicator = Communicator::connect(0, members, std::move(options));
  ASSERT_TRUE(communicator.ok()) << communicator.error().message;
  EXPECT_TRUE(communicator->barrier().ok());
  impostor.join();
  second.join();
  EXPECT_NE(refusal.find("its secret is not this job's"), std::string::npos) << refusal;
}

TEST(Meeting, RanksThatDoNotComeAreNamed) {
  Listener listener = free_listener();
  CommunicatorOptions options = with_secret("", std::chrono::milliseconds(200));
  const std::vector<Member> members = members_of({"aaa"}, listener.port);
  options.listener = std::move(listener.fd);
  const auto communicator = Communicator::connect(0, members, std::move(options));
  ASSERT_FALSE(communicator.ok());
  EXPECT_EQ(communicator.error().code, ErrorCode::timeout);
  EXPECT_NE(communicator.error().message.find("rank(s) 1, 2 of 3"), std::string::npos);
}

TEST(Meeting, NobodyAtRankZeroIsAnErrorWithItsAddress) {
  const std::uint16_t port = free_listener().port;  // closed again
  const auto communicator =
      Communicator::connect(1, members_of({"aa"}, port), with_secret("", std::chrono::milliseconds(200)));
  ASSERT_FALSE(communicator.ok());
  EXPECT_NE(communicator.error().message.find(concat("127.0.0.1 port ", port)), std::string::npos)
      << communicator.error().message;
}

TEST(Meeting, ATakenPortIsSaid) {
  const Listener taken = free_listener();
  const auto communicator = Communicator::connect(0, members_of({"aa"}, taken.port));
  ASSERT_FALSE(communicator.ok());
  EXPECT_EQ(communicator.error().code, ErrorCode::already_exists);
}

TEST(Communicator, MistakesThatNeedNobodyElseKillNothing) {
  auto communicator = Communicator::connect(0, std::vector<Member>(1));
  ASSERT_TRUE(communicator.ok());
  alignas(8) char bytes[16] = {};
  EXPECT_FALSE(communicator->all_reduce(nullptr, 1, DataType::f32).ok());
  EXPECT_FALSE(communicator->all_reduce(bytes + 1, 1, DataType::f32).ok());
  EXPECT_FALSE(communicator->all_reduce(bytes, std::numeric_limits<std::size_t>::max(), DataType::f64).ok());
  EXPECT_FALSE(communicator->broadcast(bytes, 1, DataType::f32, 1).ok());
  EXPECT_FALSE(communicator->broadcast(bytes, 1, DataType::f32, -1).ok());
  EXPECT_FALSE(communicator->all_reduce_async(bytes + 1, 1, DataType::f32).wait().ok());
  EXPECT_TRUE(communicator->all_reduce(bytes, 2, DataType::f64).ok());
  EXPECT_TRUE(communicator->health().ok());
  EXPECT_FALSE(Communicator::connect(2, std::vector<Member>(2)).ok());
  EXPECT_FALSE(Communicator::connect(0, {}).ok());
}

TEST(Communicator, SharedMemoryOutlivesIt) {
  SharedBuffer buffer;
  {
    auto communicator = Communicator::connect(0, std::vector<Member>(1));
    ASSERT_TRUE(communicator.ok());
    buffer = communicator->allocate(1 << 20).value();
  }
  std::fill_n(buffer.data(), buffer.bytes(), std::byte{7});
  EXPECT_EQ(buffer.data()[(1 << 20) - 1], std::byte{7});
}

TEST(Communicator, DifferentSizesInAllocateAreNamed) {
  const auto failures = run_ranks({"aa"}, [](Result<Communicator>& communicator, int rank) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    return communicator->allocate(rank == 0 ? 4096 : 8192).error().message;
  });
  for (const std::string& failure : failures)
    EXPECT_NE(failure.find("takes the same size on all ranks"), std::string::npos) << failure;
}

TEST(Communicator, ARankThatDoesNotComeIsNamedAfterTheDeadline) {
  const auto options = [] {
    CommunicatorOptions short_patience;
    short_patience.operation_timeout = std::chrono::milliseconds(300);
    return short_patience;
  };
  for (const char* nodes : {"aa", "ab"}) {
    const auto failures = run_ranks(
        {nodes},
        [](Result<Communicator>& communicator, int rank) -> std::string {
          if (!communicator.ok()) return communicator.error().message;
          if (rank == 1) {
            std::this_thread::sleep_for(std::chrono::seconds(2));
            return communicator->health().ok() ? "nobody complained" : "";
          }
          const Status status = communicator->barrier();
          return status.ok() || status.error().rank != 1 ? "rank 1 was not blamed" : "";
        },
        options);
    expect_all_well(failures);
  }
}

class Environment : public ::testing::Test {
 protected:
  static constexpr const char* names[] = {"RANK",         "WORLD_SIZE",           "LOCAL_WORLD_SIZE",
                                          "MASTER_ADDR",  "PACELINE_PORT",        "OMPI_COMM_WORLD_RANK",
                                          "SLURM_PROCID", "OMPI_COMM_WORLD_SIZE", "SLURM_NTASKS"};
  void SetUp() override {
    for (const char* name : names) ::unsetenv(name);
  }
  void TearDown() override { SetUp(); }
};

TEST_F(Environment, SaysWhatIsMissingOrWrong) {
  EXPECT_EQ(Communicator::from_environment().error().code, ErrorCode::not_found);
  ::setenv("RANK", "3", 1);
  ::setenv("WORLD_SIZE", "2", 1);
  EXPECT_NE(Communicator::from_environment().error().message.find("RANK is \"3\""), std::string::npos);
  ::setenv("RANK", "1", 1);
  EXPECT_NE(Communicator::from_environment().error().message.find("MASTER_ADDR"), std::string::npos);
  ::setenv("MASTER_ADDR", "127.0.0.1", 1);
  ::setenv("PACELINE_PORT", "http", 1);
  EXPECT_NE(Communicator::from_environment().error().message.find("PACELINE_PORT is \"http\""),
            std::string::npos);
}

TEST_F(Environment, OneRankNeedsNothingMore) {
  ::setenv("OMPI_COMM_WORLD_RANK", "0", 1);
  ::setenv("OMPI_COMM_WORLD_SIZE", "1", 1);
  const auto communicator = Communicator::from_environment();
  ASSERT_TRUE(communicator.ok()) << communicator.error().message;
  EXPECT_EQ(communicator->size(), 1);
}

}  // namespace
}  // namespace paceline::testing
