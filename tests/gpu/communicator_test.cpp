// Collectives on device memory, by every way, between processes that share one GPU. `communicator_test [part
// of a name]`.

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <signal.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <thread>

#include "gpu/ranks.hpp"

namespace paceline::gpu_testing {
namespace {

using cuda::DeviceCommunicator;
using cuda::Way;

constexpr DataType types[] = {DataType::f32, DataType::f64,  DataType::i32, DataType::i64,
                              DataType::f16, DataType::bf16, DataType::u8};
const SteadyClock steady_clock;

/// Elements of any type as doubles, on the host.
void put_as(DataType type, double value, std::byte* to) {
  const auto put = [to](auto typed) { std::memcpy(to, &typed, sizeof typed); };
  switch (type) {
    case DataType::f32: return put(static_cast<float>(value));
    case DataType::f64: return put(value);
    case DataType::i32: return put(static_cast<std::int32_t>(value));
    case DataType::i64: return put(static_cast<std::int64_t>(value));
    case DataType::f16: return put(__float2half(static_cast<float>(value)));
    case DataType::bf16: return put(__float2bfloat16(static_cast<float>(value)));
    case DataType::u8: return put(static_cast<std::uint8_t>(value));
  }
}

template <class T>
T get(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

double get_as(DataType type, const std::byte* from) {
  switch (type) {
    case DataType::f32: return static_cast<double>(get<float>(from));
    case DataType::f64: return get<double>(from);
    case DataType::i32: return get<std::int32_t>(from);
    case DataType::i64: return static_cast<double>(get<std::int64_t>(from));
    case DataType::f16: return static_cast<double>(__half2float(get<__half>(from)));
    case DataType::bf16: return static_cast<double>(__bfloat162float(get<__nv_bfloat16>(from)));
    case DataType::u8: break;
  }
  return get<std::uint8_t>(from);
}

/// Device memory with elements of one type, which begins one element off, so that it lies on nothing round.
class Elements {
 public:
  Elements(DataType type, std::size_t count) : type_(type), unit_(element_bytes(type)), host_(count * unit_) {
    REQUIRE_CUDA(cudaMalloc(&memory_, (count + 1) * unit_));
  }
  ~Elements() { cudaFree(memory_); }
  Elements(const Elements&) = delete;
  Elements& operator=(const Elements&) = delete;

  [[nodiscard]] std::byte* data() const { return static_cast<std::byte*>(memory_) + unit_; }
  [[nodiscard]] std::size_t count() const { return host_.size() / unit_; }
  void fill(const std::function<double(std::size_t)>& value, cudaStream_t stream) {
    for (std::size_t i = 0; i < count(); ++i) put_as(type_, value(i), host_.data() + i * unit_);
    REQUIRE_CUDA(cudaMemcpyAsync(data(), host_.data(), host_.size(), cudaMemcpyHostToDevice, stream));
  }
  /// The first element in [begin, end) that is not as it must be, in words; empty if there is none.
  [[nodiscard]] std::string wrong(const std::function<double(std::size_t)>& value, cudaStream_t stream) {
    REQUIRE_CUDA(cudaMemcpyAsync(host_.data(), data(), host_.size(), cudaMemcpyDeviceToHost, stream));
    REQUIRE_CUDA(cudaStreamSynchronize(stream));
    for (std::size_t i = 0; i < count(); ++i) {
      const double got = get_as(type_, host_.data() + i * unit_);
      if (got != value(i))
        return concat(to_string(type_), ", ", count(), " elements: ", i, " is ", got, ", not ", value(i));
    }
    return {};
  }

 private:
  DataType type_;
  std::size_t unit_;
  std::vector<std::byte> host_;
  void* memory_ = nullptr;
};

/// Small whole numbers, exact in every type and in every sum of four ranks.
double value(int rank, std::size_t i) {
  return (rank + 1) * static_cast<double>(i % 5 + 1);
}
double sum(int size, std::size_t i) {
  return size * (size + 1) / 2.0 * static_cast<double>(i % 5 + 1);
}

struct GpuStream {
  cudaStream_t stream = nullptr;
  GpuStream() { REQUIRE_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking)); }
  ~GpuStream() { cudaStreamDestroy(stream); }
  GpuStream(const GpuStream&) = delete;
  GpuStream& operator=(const GpuStream&) = delete;
};

void check_all_reduce(DeviceCommunicator& device, DataType type, std::size_t count, cudaStream_t stream) {
  Elements input(type, count);
  Elements output(type, count);
  input.fill([&](std::size_t i) { return value(device.rank(), i); }, stream);
  EXPECT_OK(device.all_reduce(input.data(), output.data(), count, type, {}, stream));
  const auto expected = [&](std::size_t i) { return sum(device.size(), i); };
  EXPECT(output.wrong(expected, stream).empty(), "all_reduce: " + output.wrong(expected, stream));
  EXPECT_OK(device.all_reduce(input.data(), input.data(), count, type, {}, stream));
  EXPECT(input.wrong(expected, stream).empty(), "all_reduce in place: " + input.wrong(expected, stream));
}

void check_blocks(DeviceCommunicator& device, DataType type, std::size_t count, cudaStream_t stream) {
  const auto size = static_cast<std::size_t>(device.size());
  const auto rank = static_cast<std::size_t>(device.rank());
  Elements all(type, count * size);
  Elements one(type, count);
  all.fill([&](std::size_t i) { return value(device.rank(), i); }, stream);
  EXPECT_OK(device.reduce_scatter(all.data(), one.data(), count, type, {}, stream));
  const auto own = [&](std::size_t i) { return sum(device.size(), rank * count + i); };
  EXPECT(one.wrong(own, stream).empty(), "reduce_scatter: " + one.wrong(own, stream));
  EXPECT_OK(device.all_gather(one.data(), all.data(), count, type, stream));
  const auto whole = [&](std::size_t i) { return sum(device.size(), i); };
  EXPECT(all.wrong(whole, stream).empty(), "all_gather: " + all.wrong(whole, stream));
  one.fill([&](std::size_t i) { return value(device.rank(), i); }, stream);
  const int root = device.size() - 1;
  EXPECT_OK(device.broadcast(one.data(), count, type, root, stream));
  const auto roots = [&](std::size_t i) { return value(root, i); };
  EXPECT(one.wrong(roots, stream).empty(), "broadcast: " + one.wrong(roots, stream));
  EXPECT_OK(device.barrier(stream));
}

void check_operations(DeviceCommunicator& device, cudaStream_t stream) {
  constexpr std::size_t count = 10'001;
  for (const DataType type : types) {
    Elements data(type, count);
    const auto run = [&](ReduceOp op, double expected_factor, double weight = 1.0) {
      data.fill([&](std::size_t i) { return 4 * value(device.rank(), i); }, stream);
      ReduceOptions options;
      options.op = op;
      options.weight = weight;
      const Status status = device.all_reduce(data.data(), data.data(), count, type, options, stream);
      if (!status.ok() && status.error().code == ErrorCode::unsupported && device.health().ok()) return;
      EXPECT_OK(status);
      const auto expected = [&](std::size_t i) { return expected_factor * static_cast<double>(i % 5 + 1); };
      EXPECT(data.wrong(expected, stream).empty(), concat(to_string(op), ": ", data.wrong(expected, stream)));
    };
    const double all = device.size() * (device.size() + 1) / 2.0;
    run(ReduceOp::min, 4);
    run(ReduceOp::max, 4 * device.size());
    if (device.size() == 2 || device.size() == 3) run(ReduceOp::average, 4 * all / device.size());
    const bool floating = type != DataType::i32 && type != DataType::i64 && type != DataType::u8;
    if (floating) run(ReduceOp::sum, 4 * (all / 2), 0.5);
  }
}

std::string every_collective(Communicator& host, Way way) {
  auto made = make_device(host, way);
  if (!made.ok() && made.error().code == ErrorCode::unsupported) return made.error().message;
  EXPECT(made.ok(), made.ok() ? "" : made.error().message);
  if (!made.ok()) return {};
  DeviceCommunicator& device = *made;
  if (host.rank() == 0) std::printf("%s", device.describe().c_str());
  GpuStream streams[2];
  const bool sums_only = way == Way::hierarchical;
  for (const DataType type : types) {
    for (const std::size_t count : {0, 1, 3, 255, 4101, 100'003}) {
      check_all_reduce(device, type, count, streams[count % 2].stream);
      if (!sums_only) check_blocks(device, type, count, streams[1 - count % 2].stream);
    }
  }
  const std::size_t most = (std::size_t{64} << 20) / sizeof(float);
  check_all_reduce(device, DataType::f32, most, streams[0].stream);
  if (!sums_only) check_blocks(device, DataType::f32, most / 4, streams[0].stream);
  check_operations(device, streams[0].stream);
  EXPECT_OK(device.wait());
  return {};
}

/// Fixed point gives every rank, and every way that has it, the same bits; codecs stay within their error.
std::string codecs(Communicator& host, Way way) {
  auto made = make_device(host, way);
  EXPECT(made.ok(), made.ok() ? "" : made.error().message);
  if (!made.ok()) return {};
  constexpr std::size_t count = 50'000;
  GpuStream stream;
  Elements data(DataType::f32, count);
  Elements residual(DataType::f32, count);
  const auto own = [&](std::size_t i) {
    return std::ldexp(static_cast<double>(i % 1000), -10) * (host.rank() + 1);
  };
  for (const Codec codec : {Codec::fixed_point, Codec::f16, Codec::bf16, Codec::int8}) {
    if (way == Way::hierarchical && codec == Codec::fixed_point) continue;
    data.fill(own, stream.stream);
    residual.fill([](std::size_t) { return 0.0; }, stream.stream);
    ReduceOptions options;
    options.codec = codec;
    if (codec != Codec::fixed_point) options.residual = reinterpret_cast<float*>(residual.data());
    EXPECT_OK(made->all_reduce(data.data(), data.data(), count, DataType::f32, options, stream.stream));
    std::vector<float> got(count);
    REQUIRE_CUDA(cudaMemcpyAsync(got.data(), data.data(), count * sizeof(float), cudaMemcpyDeviceToHost,
                                 stream.stream));
    REQUIRE_CUDA(cudaStreamSynchronize(stream.stream));
    const double all = host.size() * (host.size() + 1) / 2.0;
    const double allowed = codec == Codec::fixed_point ? 0 : all * (codec == Codec::int8 ? 0.02 : 0.01);
    for (std::size_t i = 0; i < count; ++i) {
      const double exact = std::ldexp(static_cast<double>(i % 1000), -10) * all;
      EXPECT(std::fabs(static_cast<double>(got[i]) - exact) <= allowed,
             concat(to_string(codec), ": ", i, " is ", got[i], ", not ", exact));
    }
    std::vector<float> others = got;
    EXPECT_OK(host.broadcast(others.data(), count, DataType::f32, 0));
    EXPECT(std::memcmp(others.data(), got.data(), count * sizeof(float)) == 0, "ranks have other bits");
  }
  EXPECT_OK(made->wait());
  return {};
}

/// Rank 2 is killed in the middle; the others learn which, and go on with a new communicator in the same
/// process.
std::string killed(Communicator& host, int rank, Way way, MeetingPlace& second) {
  auto made = make_device(host, way);
  if (!made.ok() && made.error().code == ErrorCode::unsupported) {
    if (rank == 2) ::kill(::getpid(), SIGKILL);
    return made.error().message;
  }
  EXPECT(made.ok(), made.ok() ? "" : made.error().message);
  if (!made.ok()) return {};
  constexpr std::size_t count = std::size_t{1} << 20;
  {
    GpuStream stream;
    Elements data(DataType::f32, count);
    data.fill([](std::size_t) { return 0.0; }, stream.stream);
    Status status;
    const Instant begin = steady_clock.now();
    for (int step = 0; status.ok() && to_seconds(steady_clock.now() - begin) < 30; ++step) {
      if (rank == 2 && step == 5) ::kill(::getpid(), SIGKILL);
      status = made->all_reduce(data.data(), data.data(), count, DataType::f32, {}, stream.stream);
      if (status.ok()) status = made->wait();
    }
    EXPECT(!status.ok(), "nobody noticed");
    if (!status.ok()) EXPECT(status.error().rank == 2, status.error().message);
    EXPECT(cudaStreamSynchronize(stream.stream) == cudaSuccess, "the stream did not survive");
  }
  auto ended = std::move(*made);
  { const DeviceCommunicator gone = std::move(ended); }
  auto survivors = meet(second, "aa", rank, 2);
  EXPECT(survivors.ok(), survivors.ok() ? "" : survivors.error().message);
  if (!survivors.ok()) return {};
  auto next = make_device(*survivors, way);
  EXPECT(next.ok(), next.ok() ? "" : next.error().message);
  if (next.ok()) check_all_reduce(*next, DataType::f32, 1000, nullptr);
  return {};
}

/// Rank 1 gives up instead of coming.
std::string aborted(Communicator& host, int rank, Way way) {
  auto made = make_device(host, way);
  if (!made.ok() && made.error().code == ErrorCode::unsupported) return made.error().message;
  EXPECT(made.ok(), made.ok() ? "" : made.error().message);
  if (!made.ok()) return {};
  const Instant begin = steady_clock.now();
  if (rank == 1) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    made->abort("enough");
  } else {
    Elements data(DataType::f32, 1000);
    EXPECT_OK(made->all_reduce(data.data(), data.data(), 1000, DataType::f32, {}, nullptr));
    const Status status = made->wait();
    EXPECT(!status.ok() && status.error().code == ErrorCode::aborted && status.error().rank == 1,
           "wait: " + text(status));
    EXPECT(to_seconds(steady_clock.now() - begin) < 5, "the abort took long");
  }
  EXPECT(!made->health().ok(), "health says it is well");
  EXPECT(cudaDeviceSynchronize() == cudaSuccess, "the context did not survive");
  return {};
}

/// Rank 1 stands still.
std::string late(Communicator& host, int rank, Way way) {
  auto made = make_device(host, way, std::chrono::seconds(5));
  EXPECT(made.ok(), made.ok() ? "" : made.error().message);
  if (!made.ok()) return {};
  if (rank == 1) {
    std::this_thread::sleep_for(std::chrono::seconds(10));
    return {};
  }
  Elements data(DataType::f32, 1000);
  EXPECT_OK(made->all_reduce(data.data(), data.data(), 1000, DataType::f32, {}, nullptr));
  const Status status = made->wait();
  EXPECT(!status.ok() && status.error().code == ErrorCode::timeout && status.error().rank == 1, text(status));
  return {};
}

std::string one_gpu_by_mistake(Communicator& host) {
  const auto made = DeviceCommunicator::make(host);
  EXPECT(!made.ok() && made.error().code == ErrorCode::invalid_argument && made.error().rank == 1,
         made.ok() ? "it was allowed" : made.error().message);
  return {};
}

std::vector<RankTest> all_tests() {
  std::vector<RankTest> tests;
  const auto add = [&tests](std::string name, std::function<Outcome()> run) {
    tests.push_back({std::move(name), std::move(run)});
  };
  const std::pair<Way, const char*> layouts[] = {{Way::one_shot, "aa"},     {Way::one_shot, "aaa"},
                                                 {Way::two_shot, "aa"},     {Way::two_shot, "aaa"},
                                                 {Way::nccl, "aa"},         {Way::staged, "aa"},
                                                 {Way::staged, "aab"},      {Way::hierarchical, "aab"},
                                                 {Way::hierarchical, "ab"}, {Way::hierarchical, "aaab"}};
  for (const auto& [way, nodes] : layouts) {
    const std::string where = concat(to_string(way), "_", nodes);
    add("collectives_" + where, [way = way, nodes = nodes] {
      return run_ranks(nodes, [way](Communicator& host, int) { return every_collective(host, way); });
    });
    tests.back().small = std::string_view(nodes).size() == 2;
    if (way == Way::nccl) continue;
    add("codecs_" + where, [way = way, nodes = nodes] {
      return run_ranks(nodes, [way](Communicator& host, int) { return codecs(host, way); });
    });
  }
  for (const Way way : {Way::one_shot, Way::two_shot, Way::nccl, Way::staged}) {
    add(concat("killed_", to_string(way)), [way] {
      auto second = std::make_shared<MeetingPlace>();
      return run_ranks(
          "aaa", [way, second](Communicator& host, int rank) { return killed(host, rank, way, *second); }, 2);
    });
    add(concat("aborted_", to_string(way)), [way] {
      return run_ranks("aa", [way](Communicator& host, int rank) { return aborted(host, rank, way); });
    });
  }
  for (const Way way : {Way::one_shot, Way::staged})
    add(concat("late_", to_string(way)), [way] {
      return run_ranks("aa", [way](Communicator& host, int rank) { return late(host, rank, way); });
    });
  add("one_gpu_by_mistake",
      [] { return run_ranks("aa", [](Communicator& host, int) { return one_gpu_by_mistake(host); }); });
  return tests;
}

}  // namespace
}  // namespace paceline::gpu_testing

int main(int count, char** arguments) {
  using namespace paceline::gpu_testing;
  require_gpu_elsewhere("communicator_test");
  return run_rank_tests(all_tests(), count > 1 ? arguments[1] : "");
}
