// How fast the collectives on device memory are between two processes that share one GPU: every way and size
// beside NCCL (over sockets, since it takes the ranks for two hosts), and the staged way beside what it is
// made of. Medians of an all_reduce of f32 in place, in microseconds; all ways are measured in turn, round
// after round.

#include <algorithm>

#include "gpu/ranks.hpp"

namespace paceline::gpu_testing {
namespace {

using cuda::DeviceCommunicator;
using cuda::Way;

const SteadyClock steady_clock;
constexpr std::size_t most_bytes = std::size_t{64} << 20;
constexpr int rounds = 7;

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

int repeats_for(std::size_t bytes) {
  return bytes <= (std::size_t{64} << 10) ? 50 : bytes <= (std::size_t{4} << 20) ? 10 : 3;
}

/// Microseconds of one, as the slowest rank sees it.
double time_us(Communicator& host, int repeats, const std::function<Status()>& run,
               const std::function<Status()>& end) {
  EXPECT_OK(run());
  EXPECT_OK(end());
  EXPECT_OK(host.barrier());
  const Instant begin = steady_clock.now();
  for (int i = 0; i < repeats; ++i) EXPECT_OK(run());
  EXPECT_OK(end());
  double us = to_seconds(steady_clock.now() - begin) * 1e6 / repeats;
  EXPECT_OK(host.all_reduce(&us, 1, DataType::f64, ReduceOp::max));
  return us;
}

struct Contender {
  Way way;
  DeviceCommunicator device;
};

std::vector<Contender> contenders(Communicator& host, std::initializer_list<Way> ways) {
  std::vector<Contender> found;
  for (const Way way : ways) {
    auto made = make_device(host, way);
    if (made.ok())
      found.push_back({way, std::move(*made)});
    else if (host.rank() == 0)
      std::printf("%s: %s\n", std::string(to_string(way)).c_str(), made.error().message.c_str());
  }
  return found;
}

std::string one_node(Communicator& host, int rank) {
  std::vector<Contender> all = contenders(host, {Way::one_shot, Way::two_shot, Way::nccl, Way::staged});
  void* data = nullptr;
  REQUIRE_CUDA(cudaMalloc(&data, most_bytes));
  REQUIRE_CUDA(cudaMemset(data, 0, most_bytes));
  cudaStream_t stream = nullptr;
  REQUIRE_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  if (rank == 0) std::printf("%12s %12s %12s %14s\n", "bytes", "way", "us", "NCCL's time");
  for (std::size_t bytes = 4; bytes <= most_bytes; bytes *= 4) {
    std::vector<std::vector<double>> times(all.size());
    for (int round = 0; round < rounds; ++round)
      for (std::size_t i = 0; i < all.size(); ++i)
        times[i].push_back(time_us(
            host, repeats_for(bytes),
            [&] { return all[i].device.all_reduce(data, data, bytes / 4, DataType::f32, {}, stream); },
            [&] { return all[i].device.wait(); }));
    double nccl = 0;
    for (std::size_t i = 0; i < all.size(); ++i)
      if (all[i].way == Way::nccl) nccl = median(times[i]);
    for (std::size_t i = 0; i < all.size() && rank == 0; ++i)
      std::printf("%12zu %12s %12.1f %13.2fx\n", bytes, std::string(to_string(all[i].way)).c_str(),
                  median(times[i]), nccl / median(times[i]));
  }
  REQUIRE_CUDA(cudaStreamDestroy(stream));
  REQUIRE_CUDA(cudaFree(data));
  return {};
}

/// Two "nodes": the staged way, its copies alone and its sums alone.
std::string two_nodes(Communicator& host, int rank) {
  std::vector<Contender> all = contenders(host, {Way::staged});
  if (all.empty()) return "the staged way is not there";
  void* data = nullptr;
  void* pinned = nullptr;
  REQUIRE_CUDA(cudaMalloc(&data, most_bytes));
  REQUIRE_CUDA(cudaMemset(data, 0, most_bytes));
  REQUIRE_CUDA(cudaMallocHost(&pinned, most_bytes));
  auto shared = host.allocate(most_bytes);
  EXPECT(shared.ok(), "no shared memory");
  cudaStream_t streams[2] = {};
  for (cudaStream_t& stream : streams)
    REQUIRE_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  if (rank == 0)
    std::printf("%12s %12s %12s %12s %22s\n", "bytes", "staged us", "copies us", "sums us",
                "of the slower of both");
  for (std::size_t bytes = std::size_t{64} << 10; bytes <= most_bytes; bytes *= 4) {
    std::vector<double> staged;
    std::vector<double> copies;
    std::vector<double> sums;
    for (int round = 0; round < rounds; ++round) {
      staged.push_back(time_us(
          host, repeats_for(bytes),
          [&] { return all[0].device.all_reduce(data, data, bytes / 4, DataType::f32, {}, streams[0]); },
          [&] { return all[0].device.wait(); }));
      copies.push_back(time_us(
          host, repeats_for(bytes),
          [&]() -> Status {
            REQUIRE_CUDA(cudaMemcpyAsync(pinned, data, bytes, cudaMemcpyDeviceToHost, streams[0]));
            REQUIRE_CUDA(cudaMemcpyAsync(data, pinned, bytes, cudaMemcpyHostToDevice, streams[1]));
            return {};
          },
          []() -> Status {
            REQUIRE_CUDA(cudaDeviceSynchronize());
            return {};
          }));
      sums.push_back(time_us(
          host, repeats_for(bytes), [&] { return host.all_reduce(shared->data(), bytes / 4, DataType::f32); },
          []() -> Status { return {}; }));
    }
    const double slower = std::max(median(copies), median(sums));
    if (rank == 0)
      std::printf("%12zu %12.1f %12.1f %12.1f %21.0f%%\n", bytes, median(staged), median(copies),
                  median(sums), 100 * slower / median(staged));
  }
  for (cudaStream_t stream : streams) REQUIRE_CUDA(cudaStreamDestroy(stream));
  REQUIRE_CUDA(cudaFreeHost(pinned));
  REQUIRE_CUDA(cudaFree(data));
  return {};
}

}  // namespace
}  // namespace paceline::gpu_testing

int main() {
  using namespace paceline::gpu_testing;
  require_gpu_elsewhere("communicator_bench");
  std::printf("two ranks of one node on one GPU\n");
  const Outcome first = run_ranks("aa", one_node);
  std::printf("two nodes of one rank each on one GPU, TCP over the loopback between them\n");
  const Outcome second = run_ranks("ab", two_nodes);
  return first.failed || second.failed ? 1 : 0;
}
