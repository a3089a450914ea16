// How much of the reduction training hides, with two ranks that share one GPU: what of a step a rank waits
// for sums after its last backward, beside what the same buckets take when nothing else is computed. Medians
// over some steps, of the slower rank, in ms.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "gpu/ranks.hpp"
#include "training_workloads.hpp"

namespace paceline::gpu_testing {
namespace {

const SteadyClock steady_clock;
constexpr std::int64_t samples_of_rank = 256;
constexpr int warm_up = 5, measured = 20;

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

double slowest(Communicator& host, double ms) {
  EXPECT_OK(host.all_reduce(&ms, 1, DataType::f64, ReduceOp::max));
  return ms;
}

/// One sum after the other, of `bytes` in buckets.
double reduction_ms(Communicator& host, std::size_t bytes, std::size_t bucket_bytes) {
  auto device = make_device(host, cuda::Way::automatic);
  EXPECT(device.ok(), device.ok() ? "" : device.error().message);
  if (!device.ok()) return 0;
  void* memory = nullptr;
  EXPECT(cudaMalloc(&memory, bytes) == cudaSuccess && cudaMemset(memory, 0, bytes) == cudaSuccess,
         "no memory");
  std::vector<double> times;
  for (int round = 0; round < warm_up + measured; ++round) {
    EXPECT_OK(host.barrier());
    const Instant begin = steady_clock.now();
    for (std::size_t at = 0; at < bytes; at += bucket_bytes) {
      void* const bucket = static_cast<std::byte*>(memory) + at;
      const std::size_t count = std::min(bucket_bytes, bytes - at) / sizeof(float);
      EXPECT_OK(device->all_reduce(bucket, bucket, count, DataType::f32, {}, nullptr));
    }
    EXPECT_OK(device->wait());
    if (round >= warm_up) times.push_back(slowest(host, to_seconds(steady_clock.now() - begin) * 1e3));
  }
  cudaFree(memory);
  return median(std::move(times));
}

std::string overlap(Communicator& host, int rank, const std::string& json) {
  ComputeDevice gpu = tested();
  gpu.shared = true;
  set_gpu_arithmetic({.tries_ways = true});
  for (const auto& [compute, type] :
       {std::pair(ComputeType::f32, "f32"), std::pair(ComputeType::bf16, "bf16")}) {
    auto model = make_model("resnet18", {{3, 32, 32}, 10, {}, 0});
    TrainerOptions options;
    options.device = gpu;
    options.compute = compute;
    auto trainer = Trainer::make(host, *model.value(), options);
    EXPECT(trainer.ok(), trainer.ok() ? "" : trainer.error().message);
    if (!trainer.ok()) return {};
    const std::vector<Pass> passes = {
        {rank * samples_of_rank,
         {torch::randn({samples_of_rank, 3, 32, 32}), torch::randint(10, {samples_of_rank}, torch::kLong)}}};
    std::vector<double> steps, exposed;
    for (std::int64_t step = 1; step <= warm_up + measured; ++step) {
      const Instant begin = steady_clock.now();
      const auto outcome = trainer->step(StepSpec{step, 2 * samples_of_rank, 0.001, 1}, passes);
      EXPECT(outcome.ok(), outcome.ok() ? "" : outcome.error().message);
      if (!outcome.ok()) return {};
      const double took = slowest(host, to_seconds(steady_clock.now() - begin) * 1e3),
                   waited = slowest(host, to_seconds(outcome->parts.reduce) * 1e3);
      if (step <= warm_up) continue;
      steps.push_back(took);
      exposed.push_back(waited);
    }
    const auto bytes = static_cast<std::size_t>(trainer->parameters()) * sizeof(float);
    const double alone = reduction_ms(host, bytes, static_cast<std::size_t>(options.bucket_bytes));
    const double left = median(exposed);
    if (rank != 0) continue;
    std::printf(
        "resnet18, %lld samples per rank, %-4s: step %.2f ms, reduction alone %.2f ms, exposed %.2f ms\n",
        static_cast<long long>(samples_of_rank), type, median(steps), alone, left);
    std::FILE* const file = json.empty() ? nullptr : std::fopen(json.c_str(), "a");
    if (file == nullptr) continue;
    std::fprintf(file,
                 "{\"overlap\": \"resnet18\", \"ranks\": 2, \"samples_per_rank\": %lld, \"type\": \"%s\", "
                 "\"step_ms\": %.2f, \"reduction_ms\": %.2f, \"exposed_ms\": %.2f, \"hidden\": %.3f}\n",
                 static_cast<long long>(samples_of_rank), type, median(steps), alone, left, 1 - left / alone);
    static_cast<void>(std::fclose(file));
  }
  return {};
}

}  // namespace
}  // namespace paceline::gpu_testing

/// training_ranks_bench [--json FILE]
int main(int count, char** arguments) {
  using namespace paceline::gpu_testing;
  require_elsewhere("training_ranks_bench", reason_not_to_train);
  const std::string json = count == 3 ? arguments[2] : "";
  const Outcome outcome =
      run_ranks("aa", [&json](paceline::Communicator& host, int rank) { return overlap(host, rank, json); });
  return outcome.failed ? 1 : 0;
}
