// The C interface: what a C program does with it (in allreduce_c_api_client.c), and every way to abuse it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <limits>
#include <thread>
#include <vector>

#include "paceline/allreduce.h"
#include "support/ranks.hpp"

extern "C" int c_client(int rank, int size, int port, char* why, size_t why_bytes);

namespace paceline::testing {
namespace {

using ::testing::HasSubstr;

/// The communicator of one rank alone.
class CApi : public ::testing::Test {
 protected:
  void SetUp() override {
    paceline_member self{};
    ASSERT_EQ(paceline_connect(0, &self, 1, nullptr, &comm_), PACELINE_OK) << paceline_last_error();
  }
  void TearDown() override { EXPECT_EQ(paceline_close(comm_), PACELINE_OK); }
  int reduce(int type, const paceline_reduce_options* options = nullptr) {
    return paceline_all_reduce(comm_, values_, values_, 2, type, options);
  }

  paceline_comm* comm_ = nullptr;
  double values_[4] = {1, 2, 3, 4};
};

paceline_reduce_options default_reduce_options() {
  paceline_reduce_options options;
  EXPECT_EQ(paceline_reduce_options_init(&options, sizeof options), PACELINE_OK);
  return options;
}

paceline_options default_options() {
  paceline_options options;
  EXPECT_EQ(paceline_options_init(&options, sizeof options), PACELINE_OK);
  return options;
}

TEST(CApiClient, AProgramInCDoesEverything) {
  constexpr int size = 3;
  Listener probe = free_listener();
  const int port = probe.port;
  probe.fd.reset();
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < size; ++rank)
    ranks.emplace_back([&, rank] {
      char why[500] = "";
      EXPECT_EQ(c_client(rank, size, port, why, sizeof why), 0) << "rank " << rank << ", " << why;
    });
  for (std::thread& rank : ranks) rank.join();
}

TEST(CApiVersion, IsTheHeaders) {
  EXPECT_EQ(paceline_version(), PACELINE_ALLREDUCE_VERSION_MAJOR * 65536 + PACELINE_ALLREDUCE_VERSION_MINOR);
  EXPECT_STREQ(paceline_error_name(PACELINE_OK), "success");
  EXPECT_STREQ(paceline_error_name(PACELINE_INTERNAL), "internal error");
  EXPECT_STREQ(paceline_error_name(PACELINE_PEER_LOST), "peer lost");
  EXPECT_STREQ(paceline_error_name(-1), "unknown");
  EXPECT_STREQ(paceline_error_name(12), "unknown");
}

TEST(CApiNull, HandlesAndResultsAreRefused) {
  int number = 0;
  std::int64_t wide = 0;
  float data[2] = {};
  paceline_work* work = nullptr;
  paceline_buffer* buffer = nullptr;
  paceline_comm* comm = nullptr;
  const int refused[] = {
      paceline_rank(nullptr, &number),
      paceline_size(nullptr, &number),
      paceline_node_count(nullptr, &number),
      paceline_node_of_rank(nullptr, 0, &number),
      paceline_describe_topology(nullptr, nullptr, 0, nullptr),
      paceline_describe_plan(nullptr, nullptr, 0, nullptr),
      paceline_allocate(nullptr, 1, &buffer),
      paceline_all_reduce(nullptr, data, data, 1, PACELINE_F32, nullptr),
      paceline_reduce_scatter(nullptr, data, data, 1, PACELINE_F32, nullptr),
      paceline_all_gather(nullptr, data, data, 1, PACELINE_F32),
      paceline_broadcast(nullptr, data, 1, PACELINE_F32, 0),
      paceline_barrier(nullptr),
      paceline_all_reduce_async(nullptr, data, data, 1, PACELINE_F32, nullptr, &work),
      paceline_reduce_scatter_async(nullptr, data, data, 1, PACELINE_F32, nullptr, &work),
      paceline_all_gather_async(nullptr, data, data, 1, PACELINE_F32, 0, &work),
      paceline_broadcast_async(nullptr, data, 1, PACELINE_F32, 0, 0, &work),
      paceline_work_wait(nullptr),
      paceline_work_done(nullptr, &number),
      paceline_abort(nullptr, "x"),
      paceline_health(nullptr),
      paceline_quiesce(nullptr, 1),
      paceline_busy_ns(nullptr, &wide),
      paceline_connect(0, nullptr, 1, nullptr, &comm),
      paceline_connect(0, nullptr, 1, nullptr, nullptr),
      paceline_from_environment(nullptr, nullptr),
      paceline_options_init(nullptr, sizeof(paceline_options)),
      paceline_reduce_options_init(nullptr, sizeof(paceline_reduce_options)),
  };
  for (std::size_t i = 0; i < std::size(refused); ++i)
    EXPECT_EQ(refused[i], PACELINE_INVALID_ARGUMENT) << "call " << i;
  EXPECT_EQ(paceline_health(nullptr), PACELINE_INVALID_ARGUMENT);
  EXPECT_STREQ(paceline_last_error(), "paceline_health: comm is null");
  EXPECT_EQ(paceline_last_error_rank(), -1);
  EXPECT_EQ(paceline_buffer_data(nullptr), nullptr);
  EXPECT_EQ(paceline_buffer_bytes(nullptr), 0U);
  EXPECT_EQ(paceline_close(nullptr), PACELINE_OK);
  EXPECT_EQ(paceline_work_free(nullptr), PACELINE_OK);
  EXPECT_EQ(paceline_buffer_free(nullptr), PACELINE_OK);
}

TEST_F(CApi, NullsBesideAGoodHandleAreRefused) {
  EXPECT_EQ(paceline_rank(comm_, nullptr), PACELINE_INVALID_ARGUMENT);
  EXPECT_EQ(paceline_size(comm_, nullptr), PACELINE_INVALID_ARGUMENT);
  EXPECT_EQ(paceline_allocate(comm_, 8, nullptr), PACELINE_INVALID_ARGUMENT);
  EXPECT_EQ(paceline_busy_ns(comm_, nullptr), PACELINE_INVALID_ARGUMENT);
  int node = 0;
  EXPECT_EQ(paceline_node_of_rank(comm_, 1, &node), PACELINE_INVALID_ARGUMENT);
  EXPECT_EQ(paceline_node_of_rank(comm_, -1, &node), PACELINE_INVALID_ARGUMENT);
  EXPECT_EQ(paceline_all_reduce(comm_, nullptr, values_, 1, PACELINE_F64, nullptr),
            PACELINE_INVALID_ARGUMENT);
  EXPECT_EQ(paceline_all_reduce(comm_, values_, nullptr, 1, PACELINE_F64, nullptr),
            PACELINE_INVALID_ARGUMENT);
  EXPECT_THAT(paceline_last_error(), HasSubstr("the data is null"));
  EXPECT_EQ(paceline_all_reduce_async(comm_, values_, values_, 1, PACELINE_F64, nullptr, nullptr),
            PACELINE_INVALID_ARGUMENT);
  paceline_work* work = nullptr;
  EXPECT_EQ(paceline_all_reduce_async(comm_, nullptr, values_, 1, PACELINE_F64, nullptr, &work),
            PACELINE_INVALID_ARGUMENT);
  EXPECT_EQ(work, nullptr);
  EXPECT_EQ(paceline_all_reduce(comm_, nullptr, nullptr, 0, PACELINE_F64, nullptr), PACELINE_OK);
  EXPECT_EQ(paceline_health(comm_), PACELINE_OK);  // nothing has happened
}

TEST_F(CApi, MisalignedAndOverlappingDataIsRefused) {
  auto* odd = reinterpret_cast<char*>(values_) + 1;
  EXPECT_EQ(paceline_all_reduce(comm_, odd, odd, 1, PACELINE_F32, nullptr), PACELINE_INVALID_ARGUMENT);
  EXPECT_THAT(paceline_last_error(), HasSubstr("not aligned to 4 bytes"));
  EXPECT_EQ(paceline_all_reduce(comm_, values_, values_ + 1, 2, PACELINE_F64, nullptr),
            PACELINE_INVALID_ARGUMENT);
  EXPECT_THAT(paceline_last_error(), HasSubstr("overlap"));
  EXPECT_EQ(paceline_all_reduce(comm_, values_, values_, SIZE_MAX, PACELINE_F64, nullptr),
            PACELINE_INVALID_ARGUMENT);
}

TEST_F(CApi, NumbersThatAreNoEnumeratorAreRefused) {
  // 256 and 257 would be f32 and f64 if they were cut to a byte.
  for (const int type : {-1, 7, 255, 256, 257, std::numeric_limits<int>::min()})
    EXPECT_EQ(reduce(type), PACELINE_INVALID_ARGUMENT) << type;
  EXPECT_THAT(paceline_last_error(), HasSubstr("no such data type"));
  for (const int op : {-1, 4, 256}) {
    paceline_reduce_options options = default_reduce_options();
    options.op = op;
    EXPECT_EQ(reduce(PACELINE_F64, &options), PACELINE_INVALID_ARGUMENT) << op;
  }
  for (const int codec : {-1, 5, 256}) {
    paceline_reduce_options options = default_reduce_options();
    options.codec = codec;
    EXPECT_EQ(reduce(PACELINE_F64, &options), PACELINE_INVALID_ARGUMENT) << codec;
  }
  EXPECT_EQ(paceline_broadcast(comm_, values_, 1, PACELINE_F64, 1), PACELINE_INVALID_ARGUMENT);
  EXPECT_EQ(paceline_broadcast(comm_, values_, 1, PACELINE_F64, -1), PACELINE_INVALID_ARGUMENT);
  EXPECT_EQ(reduce(PACELINE_F64), PACELINE_OK) << paceline_last_error();
}

TEST_F(CApi, OptionsThatMakeNoSenseAreRefused) {
  paceline_reduce_options options = default_reduce_options();
  options.weight = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(reduce(PACELINE_F64, &options), PACELINE_INVALID_ARGUMENT);
  options = default_reduce_options();
  options.codec = PACELINE_CODEC_FIXED_POINT;
  for (const int exponent :
       {61, 65536 + 24, std::numeric_limits<int>::max()}) {  // the second is 24 in 16 bits
    options.fixed_point_exponent = exponent;
    EXPECT_EQ(reduce(PACELINE_F64, &options), PACELINE_INVALID_ARGUMENT) << exponent;
  }
  options = default_reduce_options();
  float residual[2] = {};
  options.residual = residual;
  EXPECT_EQ(reduce(PACELINE_F32, &options), PACELINE_INVALID_ARGUMENT);
}

TEST_F(CApi, SizesOfStructsThatAreNotTheirsAreRefused) {
  paceline_reduce_options options = default_reduce_options();
  for (const std::size_t size : {std::size_t{0}, std::size_t{8}, sizeof options - 1}) {
    options.size = size;
    EXPECT_EQ(reduce(PACELINE_F64, &options), PACELINE_INVALID_ARGUMENT) << size;
    EXPECT_THAT(paceline_last_error(), HasSubstr("paceline_reduce_options_init"));
    EXPECT_EQ(paceline_reduce_options_init(&options, size), PACELINE_INVALID_ARGUMENT) << size;
  }
  paceline_options whole = default_options();
  whole.size = sizeof whole - 1;
  paceline_member self{};
  paceline_comm* comm = comm_;
  EXPECT_EQ(paceline_connect(0, &self, 1, &whole, &comm), PACELINE_INVALID_ARGUMENT);
  EXPECT_EQ(comm, nullptr);
}

TEST_F(CApi, AStructOfALaterVersionIsUnderstoodAsLongAsItAsksForNothingNew) {
  struct Later {
    paceline_reduce_options known;
    double unknown;
  } later{};
  ASSERT_EQ(paceline_reduce_options_init(&later.known, sizeof later), PACELINE_OK);
  EXPECT_EQ(later.known.size, sizeof later);
  EXPECT_EQ(reduce(PACELINE_F64, &later.known), PACELINE_OK) << paceline_last_error();
  later.unknown = 1;
  EXPECT_EQ(reduce(PACELINE_F64, &later.known), PACELINE_UNSUPPORTED);
  EXPECT_THAT(paceline_last_error(), HasSubstr("use a newer one"));
}

TEST_F(CApi, TextsAreCutToTheRoomThereIs) {
  std::size_t needed = 0;
  ASSERT_EQ(paceline_describe_topology(comm_, nullptr, 0, &needed), PACELINE_OK);
  ASSERT_GT(needed, 5U);
  std::string whole(needed, 'x');
  ASSERT_EQ(paceline_describe_topology(comm_, whole.data(), whole.size(), nullptr), PACELINE_OK);
  EXPECT_EQ(std::strlen(whole.c_str()), needed - 1);
  char text[5] = "xxxx";
  ASSERT_EQ(paceline_describe_topology(comm_, text, sizeof text - 1, &needed), PACELINE_OK);
  EXPECT_EQ(std::string(text), whole.substr(0, 3));
  EXPECT_EQ(paceline_describe_plan(comm_, nullptr, 5, nullptr), PACELINE_INVALID_ARGUMENT);
}

TEST_F(CApi, AfterAnAbortEveryCallGivesItsReason) {
  paceline_buffer* buffer = nullptr;
  ASSERT_EQ(paceline_allocate(comm_, 64, &buffer), PACELINE_OK);
  EXPECT_EQ(paceline_quiesce(comm_, 1), PACELINE_INVALID_ARGUMENT);  // it is well
  EXPECT_EQ(paceline_abort(comm_, "had enough"), PACELINE_OK);
  EXPECT_EQ(reduce(PACELINE_F64), PACELINE_ABORTED);
  EXPECT_THAT(paceline_last_error(), HasSubstr("had enough"));
  EXPECT_EQ(paceline_last_error_rank(), 0);
  EXPECT_EQ(paceline_health(comm_), PACELINE_ABORTED);
  EXPECT_EQ(paceline_barrier(comm_), PACELINE_ABORTED);
  paceline_work* work = nullptr;
  EXPECT_EQ(paceline_broadcast_async(comm_, values_, 1, PACELINE_F64, 0, 0, &work), PACELINE_ABORTED);
  EXPECT_EQ(work, nullptr);
  paceline_buffer* second = nullptr;
  EXPECT_EQ(paceline_allocate(comm_, 64, &second), PACELINE_ABORTED);
  EXPECT_EQ(second, nullptr);
  EXPECT_EQ(paceline_quiesce(comm_, -1), PACELINE_INVALID_ARGUMENT);
  EXPECT_EQ(paceline_quiesce(comm_, 1000), PACELINE_OK) << paceline_last_error();
  EXPECT_EQ(paceline_buffer_free(buffer), PACELINE_OK);
}

TEST(CApiErrors, ErrorsBelongToTheThread) {
  ASSERT_EQ(paceline_health(nullptr), PACELINE_INVALID_ARGUMENT);
  const std::string mine = paceline_last_error();
  std::thread([] { EXPECT_STREQ(paceline_last_error(), ""); }).join();
  std::thread([] { EXPECT_EQ(paceline_rank(nullptr, nullptr), PACELINE_INVALID_ARGUMENT); }).join();
  EXPECT_EQ(paceline_last_error(), mine);
}

TEST(CApiConnect, ArgumentsThatMakeNoSense) {
  paceline_comm* comm = nullptr;
  paceline_member members[2] = {};
  members[0].host = "127.0.0.1";
  members[0].port = 70000;
  EXPECT_EQ(paceline_connect(0, members, 2, nullptr, &comm), PACELINE_INVALID_ARGUMENT);
  EXPECT_THAT(paceline_last_error(), HasSubstr("70000"));
  for (const int size : {0, -1})
    EXPECT_EQ(paceline_connect(0, members, size, nullptr, &comm), PACELINE_INVALID_ARGUMENT);
  members[0].port = 1;
  EXPECT_EQ(paceline_connect(2, members, 2, nullptr, &comm), PACELINE_INVALID_ARGUMENT);
  EXPECT_EQ(paceline_connect(-1, members, 2, nullptr, &comm), PACELINE_INVALID_ARGUMENT);
  const auto refused = [&](auto change) {
    paceline_options options = default_options();
    change(options);
    return paceline_connect(0, members, 1, &options, &comm);
  };
  EXPECT_EQ(refused([](auto& o) { o.connect_timeout_ms = 0; }), PACELINE_INVALID_ARGUMENT);
  EXPECT_EQ(refused([](auto& o) { o.operation_timeout_ms = -1; }), PACELINE_INVALID_ARGUMENT);
  EXPECT_EQ(refused([](auto& o) { o.algorithm = 4; }), PACELINE_INVALID_ARGUMENT);
  EXPECT_EQ(refused([](auto& o) { o.streams = -1; }), PACELINE_INVALID_ARGUMENT);
  EXPECT_EQ(refused([](auto& o) { o.encrypt = 2; }), PACELINE_INVALID_ARGUMENT);
  EXPECT_EQ(refused([](auto& o) { o.encrypt = 1; }), PACELINE_INVALID_ARGUMENT);  // without a secret
  EXPECT_EQ(refused([](auto& o) { o.listener = 1 << 20; }), PACELINE_INVALID_ARGUMENT);
  EXPECT_EQ(comm, nullptr);
}

TEST(CApiConnect, ARankThatDoesNotComeIsNamed) {
  Listener listener = free_listener();
  paceline_member members[2] = {};
  members[0].host = "127.0.0.1";
  members[0].port = listener.port;
  paceline_options options = default_options();
  options.connect_timeout_ms = 200;
  options.listener = listener.fd.get();
  paceline_comm* comm = nullptr;
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(paceline_connect(0, members, 2, &options, &comm), PACELINE_TIMEOUT);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
  EXPECT_EQ(paceline_last_error_rank(), 1);
  EXPECT_EQ(comm, nullptr);
  // The socket is still the caller's.
  int listening = 0;
  socklen_t bytes = sizeof listening;
  EXPECT_EQ(::getsockopt(listener.fd.get(), SOL_SOCKET, SO_ACCEPTCONN, &listening, &bytes), 0);
  EXPECT_EQ(listening, 1);
}

TEST(CApiConnect, RanksThatCallDifferentThingsAreToldSo) {
  Listener listener = free_listener();
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < 2; ++rank)
    ranks.emplace_back([&, rank] {
      paceline_member members[2] = {{"a", "127.0.0.1", listener.port, 0}, {"b", nullptr, 0, 0}};
      paceline_options options = default_options();
      if (rank == 0) options.listener = listener.fd.get();
      paceline_comm* comm = nullptr;
      ASSERT_EQ(paceline_connect(rank, members, 2, &options, &comm), PACELINE_OK) << paceline_last_error();
      float data[600] = {};
      EXPECT_EQ(paceline_all_reduce(comm, data, data, rank == 0 ? 600 : 599, PACELINE_F32, nullptr),
                PACELINE_MISMATCH);
      EXPECT_THAT(paceline_last_error(), HasSubstr("599"));
      EXPECT_THAT(paceline_last_error(), HasSubstr("600"));
      EXPECT_EQ(paceline_health(comm), PACELINE_MISMATCH);
      EXPECT_EQ(paceline_close(comm), PACELINE_OK);
    });
  for (std::thread& rank : ranks) rank.join();
}

}  // namespace
}  // namespace paceline::testing
