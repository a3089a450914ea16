#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <thread>

#include "../../allreduce/src/kernels/kernels.hpp"
#include "../../allreduce/src/kernels/table.hpp"
#include "../../allreduce/src/plan.hpp"
#include "../../allreduce/src/sha256.hpp"
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

std::vector<kernels::Table> wider_tables() {
  std::vector<kernels::Table> wider;
  if (__builtin_cpu_supports("avx2")) wider.push_back(kernels::avx2::table());
  if (__builtin_cpu_supports("avx512f")) wider.push_back(kernels::avx512::table());
  return wider;
}

// The kernels of all instruction sets that this CPU has, bit for bit, on values that round.
TEST(Kernels, GiveTheSameBitsOnEveryInstructionSet) {
  constexpr std::size_t count = 1003;
  std::mt19937 random(9);
  std::vector<double> a(count);
  std::vector<double> b(count);
  for (std::size_t i = 0; i < count * sizeof(double); ++i) {
    reinterpret_cast<unsigned char*>(a.data())[i] = static_cast<unsigned char>(random() % 122);
    reinterpret_cast<unsigned char*>(b.data())[i] = static_cast<unsigned char>(random() % 122);
  }
  if (wider_tables().empty()) GTEST_SKIP() << "this CPU has no wider vectors than the generic kernels";
  const double weights[] = {0.7, -1.3, 0.9};
  for (std::size_t type = 0; type < 7; ++type)
    for (std::size_t op = 0; op < 3; ++op)
      for (const int inputs : {1, 2, 3})
        for (const bool weighted : {false, true}) {
          if (weighted && (op != 0 || (type >= 2 && type != 4 && type != 5))) continue;
          const void* ins[] = {a.data(), b.data(), a.data()};
          const auto run = [&](const kernels::Table& table) {
            std::vector<double> first(count);
            std::vector<double> second(count);
            void* outs[] = {first.data(), second.data()};
            table.combine[type][op](
                {outs, 2, ins, inputs, weighted ? weights : nullptr, weighted ? 3.0 : 1.0, count});
            EXPECT_EQ(std::memcmp(first.data(), second.data(), count * sizeof(double)), 0);
            return first;
          };
          const std::vector<double> expected = run(kernels::generic::table());
          for (const kernels::Table& table : wider_tables())
            EXPECT_EQ(std::memcmp(run(table).data(), expected.data(), count * sizeof(double)), 0)
                << type << " " << op << " of " << inputs;
        }
}

/// What a half means, by arithmetic alone.
double value_of_f16(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const int fraction = bits & 1023;
  const double magnitude =
      exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

// All 65,536 halves, there and back, and what lies between them: to the nearest, ties to even.
TEST(Kernels, HalvesAreExactAndRoundToNearest) {
  std::vector<kernels::Table> tables = wider_tables();
  tables.push_back(kernels::generic::table());
  for (const kernels::Table& table : tables) {
    std::vector<std::uint16_t> all(65536);
    std::iota(all.begin(), all.end(), std::uint16_t{0});
    std::vector<float> values(all.size());
    std::vector<std::uint16_t> back(all.size());
    table.decode_f16(values.data(), all.data(), all.size());
    table.encode_f16(back.data(), values.data(), all.size());
    for (std::size_t i = 0; i < all.size(); ++i) {
      if ((i & 0x7c00) == 0x7c00) {  // infinities, and NaNs, which stay NaNs
        EXPECT_EQ(std::isinf(values[i]), (i & 0x3ff) == 0);
        EXPECT_EQ(std::isnan(values[i]), (i & 0x3ff) != 0);
        EXPECT_EQ(back[i], (i & 0x3ff) == 0 ? i : (i | 0x200)) << i;
        continue;
      }
      EXPECT_EQ(static_cast<double>(values[i]), value_of_f16(static_cast<std::uint16_t>(i))) << i;
      EXPECT_EQ(back[i], i);
    }
    for (std::uint16_t half = 0; half < 0x7bff; ++half) {
      const auto low = static_cast<float>(value_of_f16(half));
      const auto high = static_cast<float>(value_of_f16(static_cast<std::uint16_t>(half + 1)));
      const float middle = low + (high - low) / 2;
      const float in[] = {middle, std::nextafter(middle, low), std::nextafter(middle, high), -middle};
      std::uint16_t out[4];
      table.encode_f16(out, in, 4);
      const auto even = static_cast<std::uint16_t>(half + (half & 1));
      EXPECT_EQ(out[0], even);
      EXPECT_EQ(out[1], half);
      EXPECT_EQ(out[2], half + 1);
      EXPECT_EQ(out[3], even | 0x8000);
    }
    const float beyond[] = {65519.0F, 65520.0F, 1e30F, 1.0F + 1.0F / 256, 1.0F + 3.0F / 256};
    std::uint16_t out[5];
    table.encode_f16(out, beyond, 3);
    EXPECT_EQ(out[0], 0x7bff);
    EXPECT_EQ(out[1], 0x7c00);
    EXPECT_EQ(out[2], 0x7c00);
    table.encode_bf16(out, beyond + 3, 2);  // halfway: down to even, up to even
    EXPECT_EQ(out[0], 0x3f80);
    EXPECT_EQ(out[1], 0x3f82);
  }
}

TEST(Kernels, FixedPointIsExactAndDoesNotDependOnTheWay) {
  std::mt19937 random(3);
  std::vector<kernels::Table> tables = wider_tables();
  tables.push_back(kernels::generic::table());
  constexpr std::size_t count = 2500;
  constexpr double factor = 1 << 20;
  std::vector<std::vector<float>> inputs(3, std::vector<float>(count));
  for (auto& input : inputs)
    for (float& x : input)
      x = std::ldexp(static_cast<float>(random()) - 2e9F, -static_cast<int>(random() % 30) - 2);
  inputs[1][7] = std::ldexp(1.0F, 22);  // just out of range
  inputs[2][8] = std::numeric_limits<float>::quiet_NaN();
  inputs[0][9] = -std::numeric_limits<float>::infinity();
  const void* ins[] = {inputs[0].data(), inputs[1].data(), inputs[2].data()};
  std::vector<float> expected(count);
  for (std::size_t i = 0; i < count; ++i) {
    double sum = 0;
    bool out_of_range = false;
    for (const auto& input : inputs) {
      const double scaled = static_cast<double>(input[i]) * factor;
      out_of_range = out_of_range || !(std::abs(scaled) < std::ldexp(1.0, 42));
      sum += std::nearbyint(scaled);
    }
    expected[i] = out_of_range ? std::numeric_limits<float>::quiet_NaN() : static_cast<float>(sum / factor);
  }
  EXPECT_TRUE(std::isnan(expected[7]) && std::isnan(expected[8]) && std::isnan(expected[9]));
  for (const kernels::Table& table : tables) {
    std::vector<float> at_once(count);
    std::vector<float> by_parts(count);
    void* out = at_once.data();
    table.fixed_combine[0]({&out, 1, ins, 3, nullptr, 1.0, count}, factor);
    std::vector<std::int64_t> two(count);
    std::vector<std::int64_t> one(count);
    table.fixed_partial[0](two.data(), {ins + 1, 2, nullptr, factor, count});
    table.fixed_partial[0](one.data(), {ins, 1, nullptr, factor, count});
    table.fixed_add(one.data(), one.data(), two.data(), count);
    out = by_parts.data();
    table.fixed_decode[0](&out, 1, one.data(), factor, 1.0, count);
    for (std::size_t i = 0; i < count; ++i) {
      if (std::isnan(expected[i])) {
        EXPECT_TRUE(std::isnan(at_once[i]) && std::isnan(by_parts[i])) << i;
        continue;
      }
      EXPECT_EQ(at_once[i], expected[i]) << i;
      EXPECT_EQ(by_parts[i], expected[i]) << i;
    }
  }
}

TEST(Kernels, Int8BlocksKeepTheLargestAndAreWithinHalfAStep) {
  std::mt19937 random(4);
  std::vector<float> in(kernels::int8_block);
  for (float& x : in) x = static_cast<float>(static_cast<int>(random() % 20001) - 10000) / 777.0F;
  std::vector<kernels::Table> tables = wider_tables();
  tables.push_back(kernels::generic::table());
  for (const kernels::Table& table : tables) {
    float scale = 0;
    std::int8_t coded[kernels::int8_block];
    float out[kernels::int8_block];
    for (const std::size_t count : {std::size_t{1}, std::size_t{77}, kernels::int8_block}) {
      table.encode_int8(&scale, coded, in.data(), count);
      table.decode_int8(out, scale, coded, count);
      for (std::size_t i = 0; i < count; ++i) EXPECT_LE(std::abs(out[i] - in[i]), scale * 0.5001F);
    }
    const std::vector<float> zeros(8, 0.0F);
    table.encode_int8(&scale, coded, zeros.data(), zeros.size());
    table.decode_int8(out, scale, coded, zeros.size());
    EXPECT_EQ(out[3], 0.0F);
    std::vector<float> broken(8, 1.0F);
    broken[5] = std::numeric_limits<float>::infinity();
    table.encode_int8(&scale, coded, broken.data(), broken.size());
    table.decode_int8(out, scale, coded, broken.size());
    EXPECT_TRUE(std::isnan(out[0]));
  }
}

TEST(Sha256, HasTheStandardsDigests) {
  const auto hex = [](const Digest& digest) {
    return to_hex({reinterpret_cast<const std::byte*>(digest.data()), digest.size()});
  };
  // FIPS 180-2 appendix B, and RFC 4231 test cases 2 and 6.
  EXPECT_EQ(hex(sha256("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hex(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(hex(sha256(std::string(1'000'000, 'a'))),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  EXPECT_EQ(hex(hmac_sha256("Jefe", "what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  EXPECT_EQ(
      hex(hmac_sha256(std::string(131, '\xaa'), "Test Using Larger Than Block-Size Key - Hash Key First")),
      "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

TEST(Plan, PicksByLatencyForShortSumsAndByBytesForLongOnes) {
  Wire wire;
  wire.latency_s = 50e-6;
  wire.bytes_per_s = 125e6;
  const Plan plan(wire, 4);
  EXPECT_EQ(plan.choose(64).algorithm, Algorithm::exchange);
  EXPECT_EQ(plan.choose(16 << 20).algorithm, Algorithm::ring);
  // Between them, as far as there is a between: never a worse one than the model knows.
  for (std::size_t bytes = 64; bytes < std::size_t{64} << 20; bytes *= 2)
    for (const Algorithm other : {Algorithm::exchange, Algorithm::direct, Algorithm::ring})
      EXPECT_LE(plan.estimate(plan.choose(bytes).algorithm, bytes), plan.estimate(other, bytes)) << bytes;
  wire.algorithm = static_cast<std::int32_t>(Algorithm::direct);
  wire.piece_bytes = 12345;
  EXPECT_EQ(Plan(wire, 4).choose(64).algorithm, Algorithm::direct);
  EXPECT_EQ(Plan(wire, 4).choose(64).piece_bytes, 12345U);
  EXPECT_EQ(Plan(wire, most_meshed_nodes + 1).choose(64).algorithm, Algorithm::ring);
}

wire::Hello some_hello() {
  return {.generation = 7,
          .rank = 2,
          .size = 5,
          .node_key = "host:x",
          .node_name = "x",
          .host = "10.0.0.2",
          .port = 4711,
          .local_socket = "paceline-00",
          .encrypts = 1,
          .own_transport = 0,
          .streams = 3};
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
  const std::string seeds[] = {
      wire::encode(some_hello()), wire::encode(std::vector<wire::Hello>(4, some_hello())),
      wire::encode(wire::Notice{1, 2, "text"}), wire::encode(wire::LinkHello{1, 2}), std::string(40, '\xff')};
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
  EXPECT_NE(refusal.find("its secret is not this rank's"), std::string::npos) << refusal;
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

TEST(WireStatistics, TellsOfRanksOnOtherNodesAlone) {
  expect_all_well(run_ranks({"aab"}, [](Result<Communicator>& communicator, int rank) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    std::vector<float> data(1 << 20, 1.0F);
    const std::vector<WireStatistics> before = communicator->wire_statistics();
    for (int i = 0; i < 4; ++i)
      if (const Status status = communicator->all_reduce(data.data(), data.size(), DataType::f32);
          !status.ok())
        return status.error().message;
    if (const Status status = communicator->barrier(); !status.ok()) return status.error().message;
    const std::vector<WireStatistics> after = communicator->wire_statistics();
    if (after.size() != before.size() || after.empty()) return concat("of ", after.size(), " peers");
    std::int64_t bytes = 0;
    for (std::size_t i = 0; i < after.size(); ++i) {
      if ((after[i].rank == 2) == (rank == 2)) return concat("rank ", after[i].rank, " is on this node");
      if (after[i].rank != before[i].rank || after[i].busy < before[i].busy) return "a sum has shrunk";
      bytes += after[i].bytes - before[i].bytes;
    }
    // Each node sends its sum of 4 MiB; the first has two ranks to do it. The last bytes may be on their way.
    const std::int64_t least = (rank == 2 ? 15LL : 7LL) << 20;
    return bytes >= least && bytes < 2 * least + (2 << 20) ? "" : concat(bytes, " bytes");
  }));
}

TEST(WireStatistics, ThereAreNoneOnOneNode) {
  expect_all_well(run_ranks({"aa"}, [](Result<Communicator>& communicator, int) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    return communicator->wire_statistics().empty() ? "" : "there is a wire";
  }));
}

// The one that is late is slow, and not the wire to it.
TEST(WireStatistics, APeerThatIsSomewhereElseKeepsNoWireBusy) {
  expect_all_well(run_ranks({"ab"}, [](Result<Communicator>& communicator, int rank) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    std::vector<float> data(32 << 20, 1.0F);  // more than the kernel holds
    const std::vector<WireStatistics> before = communicator->wire_statistics();
    if (rank == 1) std::this_thread::sleep_for(std::chrono::seconds(2));
    std::atomic<bool> done = false;
    std::thread watcher([&] {
      for (; !done; std::this_thread::sleep_for(std::chrono::milliseconds(1)))
        if (communicator->wire_statistics().size() != 1) std::abort();
    });
    const Status status = communicator->all_reduce(data.data(), data.size(), DataType::f32);
    done = true;
    watcher.join();
    if (!status.ok()) return status.error().message;
    const Duration busy = communicator->wire_statistics()[0].busy - before[0].busy;
    return rank == 1 || busy < std::chrono::seconds(1) ? "" : concat("busy for ", to_ms(busy), " ms");
  }));
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
