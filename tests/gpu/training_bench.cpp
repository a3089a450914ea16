// The training step on made-up samples, one rank: that it builds where there is LibTorch and nothing else,
// and what a step takes in each type, on the CPU and, where there is one, on a GPU. There also what of the
// step is not the model's own: sums, commit and the optimizer.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
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

std::vector<Workload> workloads(bool on_gpu) {
  const ModelConfig images{{3, 32, 32}, 10, {}, 0};
  ModelConfig text{{64}, 0, {{"layers", "2"}, {"heads", "4"}, {"width", "128"}, {"context", "64"}}, 0};
  if (on_gpu) text = {{512}, 0, {{"layers", "8"}, {"heads", "8"}, {"width", "512"}, {"context", "512"}}, 0};
  text.vocabulary = 256;
  return {{"cnn", {{1, 28, 28}, 10, {}, 0}, on_gpu ? 1024 : 64},
          {"resnet18", images, on_gpu ? 256 : 8},
          {"gpt", text, on_gpu ? 32 : 8}};
}

Batch made_up_batch(const Workload& work) {
  std::vector<std::int64_t> shape = work.config.sample_shape;
  shape.insert(shape.begin(), work.samples);
  if (work.config.vocabulary > 0)
    return {torch::randint(work.config.vocabulary, shape, torch::kLong),
            torch::randint(work.config.vocabulary, shape, torch::kLong)};
  return {torch::randn(shape), torch::randint(work.config.classes, {work.samples}, torch::kLong)};
}

/// Medians over some steps after a few that warm up, in ms.
struct StepTimes {
  double all = 0, besides = 0;
};

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

Result<StepTimes> time_steps(const Workload& work, ComputeType compute, const ComputeDevice& device) {
  const std::int64_t warm_up = device.apart ? 5 : 2, measured = device.apart ? 20 : 5;
  torch::manual_seed(1);
  PACELINE_ASSIGN(Communicator alone, Communicator::connect(0, std::vector<Member>(1)));
  PACELINE_ASSIGN(const std::unique_ptr<Model> model, make_model(work.model, work.config));
  TrainerOptions options;
  options.device = device;
  options.compute = compute;
  PACELINE_ASSIGN(Trainer trainer, Trainer::make(alone, *model, options));
  const std::vector<Pass> passes = {{0, made_up_batch(work)}};
  std::vector<double> times, besides;
  for (std::int64_t step = 0; step < warm_up + measured; ++step) {
    const auto began = std::chrono::steady_clock::now();
    const auto outcome = trainer.step(StepSpec{step, work.samples, 0.001, 1}, passes);
    if (!outcome.ok()) return outcome.error();
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - began;
    if (step < warm_up) continue;
    times.push_back(took.count());
    const StepParts& parts = outcome->parts;
    besides.push_back(1e3 * to_seconds(parts.reduce + parts.commit + parts.optimizer));
  }
  return StepTimes{median(times), median(besides)};
}

Status measure(const ComputeDevice& device, std::FILE* json) {
  const char* const name = device.apart ? "gpu" : "cpu";
  for (const Workload& work : workloads(device.apart)) {
    for (const auto& [compute, type] :
         {std::pair(ComputeType::f32, "f32"), std::pair(ComputeType::bf16, "bf16"),
          std::pair(ComputeType::f16, "f16")}) {
      if (compute == ComputeType::f16 && device.device.is_cpu()) continue;
      PACELINE_ASSIGN(const StepTimes ms, time_steps(work, compute, device));
      std::printf("%-4s %-10s %8lld %-6s %10.2f %10.2f\n", name, work.model.c_str(),
                  static_cast<long long>(work.samples), type, ms.all, ms.besides);
      if (json != nullptr)
        std::fprintf(json,
                     "{\"training\": \"%s\", \"device\": \"%s\", \"samples\": %lld, \"type\": \"%s\", "
                     "\"step_ms\": %.2f, \"besides_ms\": %.2f}\n",
                     work.model.c_str(), name, static_cast<long long>(work.samples), type, ms.all,
                     ms.besides);
    }
  }
  return {};
}

int run(std::FILE* json, bool gpu_only) {
  std::vector<ComputeDevice> devices(gpu_only ? 0 : 1);
  const Result<ComputeDevice> gpu = find_gpu();
  if (gpu.ok())
    devices.push_back(*gpu);
  else
    std::printf("on the CPU alone: %s\n", gpu.error().message.c_str());
  set_gpu_arithmetic({.tries_ways = true});
  std::printf("%-4s %-10s %8s %-6s %10s %10s\n", "on", "model", "samples", "type", "step ms", "besides");
  for (const ComputeDevice& device : devices) {
    const Status done = measure(device, json);
    if (done.ok()) continue;
    std::printf("%s\n", done.error().message.c_str());
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace paceline

/// training_bench [--gpu-only] [--json FILE]
int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  const auto flag = std::ranges::find(arguments, "--json");
  std::FILE* json = nullptr;
  if (flag != arguments.end() && flag + 1 != arguments.end()) {
    json = std::fopen((flag + 1)->c_str(), "a");
    if (json == nullptr) {
      std::printf("%s cannot be written\n", (flag + 1)->c_str());
      return 1;
    }
  }
  const bool gpu_only = std::ranges::find(arguments, "--gpu-only") != arguments.end();
  const int status = paceline::run(json, gpu_only);
  if (json != nullptr) static_cast<void>(std::fclose(json));
  return status;
}
