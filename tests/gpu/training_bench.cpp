// The training step on made-up samples, one rank: that it builds where there is LibTorch and nothing else,
// and what a step takes in f32 and in bf16. On the CPU, as training on GPUs is not there yet.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "paceline/train/models.hpp"
#include "paceline/train/trainer.hpp"

namespace paceline {
namespace {

struct Workload {
  std::string model;
  ModelConfig config;
  std::int64_t samples = 0;  // of a step
};

std::vector<Workload> workloads() {
  const ModelConfig images{{3, 32, 32}, 10, {}, 0};
  ModelConfig text{{64}, 0, {{"layers", "2"}, {"heads", "4"}, {"width", "128"}, {"context", "64"}}, 0};
  text.vocabulary = 256;
  return {{"cnn", {{1, 28, 28}, 10, {}, 0}, 64}, {"resnet18", images, 8}, {"gpt", text, 8}};
}

Batch made_up_batch(const Workload& work) {
  std::vector<std::int64_t> shape = work.config.sample_shape;
  shape.insert(shape.begin(), work.samples);
  if (work.config.vocabulary > 0)
    return {torch::randint(work.config.vocabulary, shape, torch::kLong),
            torch::randint(work.config.vocabulary, shape, torch::kLong)};
  return {torch::randn(shape), torch::randint(work.config.classes, {work.samples}, torch::kLong)};
}

/// Median over some steps, in ms, after two that warm up.
Result<double> step_ms(const Workload& work, ComputeType compute) {
  constexpr std::int64_t warm_up = 2, measured = 5;
  torch::manual_seed(1);
  PACELINE_ASSIGN(Communicator alone, Communicator::connect(0, std::vector<Member>(1)));
  PACELINE_ASSIGN(const std::unique_ptr<Model> model, make_model(work.model, work.config));
  TrainerOptions options;
  options.compute = compute;
  PACELINE_ASSIGN(Trainer trainer, Trainer::make(alone, *model, options));
  const std::vector<Pass> passes = {{0, made_up_batch(work)}};
  std::vector<double> times;
  for (std::int64_t step = 0; step < warm_up + measured; ++step) {
    const auto began = std::chrono::steady_clock::now();
    const auto outcome = trainer.step(StepSpec{step, work.samples, 0.001, 1}, passes);
    if (!outcome.ok()) return outcome.error();
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - began;
    if (step >= warm_up) times.push_back(took.count());
  }
  std::ranges::sort(times);
  return times[times.size() / 2];
}

int run(std::FILE* json) {
  std::printf("%-10s %8s %12s %12s\n", "model", "samples", "f32 ms", "bf16 ms");
  for (const Workload& work : workloads()) {
    double found[2] = {};
    for (const ComputeType compute : {ComputeType::f32, ComputeType::bf16}) {
      const Result<double> ms = step_ms(work, compute);
      if (!ms.ok()) {
        std::printf("%s: %s\n", work.model.c_str(), ms.error().message.c_str());
        return 1;
      }
      found[compute == ComputeType::bf16 ? 1 : 0] = *ms;
    }
    std::printf("%-10s %8lld %12.1f %12.1f\n", work.model.c_str(), static_cast<long long>(work.samples),
                found[0], found[1]);
    if (json != nullptr)
      std::fprintf(json,
                   "{\"training\": \"%s\", \"device\": \"cpu\", \"samples\": %lld, \"f32_ms\": %.1f, "
                   "\"bf16_ms\": %.1f}\n",
                   work.model.c_str(), static_cast<long long>(work.samples), found[0], found[1]);
  }
  return 0;
}

}  // namespace
}  // namespace paceline

/// training_bench [--json FILE]
int main(int argc, char** argv) {
  std::FILE* json = nullptr;
  if (argc == 3 && std::string(argv[1]) == "--json") {
    json = std::fopen(argv[2], "a");
    if (json == nullptr) {
      std::printf("%s cannot be written\n", argv[2]);
      return 1;
    }
  }
  const int status = paceline::run(json);
  if (json != nullptr) static_cast<void>(std::fclose(json));
  return status;
}
