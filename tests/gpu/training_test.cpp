// Training with the model on a GPU: that it follows the CPU, that reproducible mode gives the same bits when
// it is done again, and that state goes from one to the other. PACELINE_TEST_DEVICE=apart tries the test
// itself without a GPU.

#include <cmath>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "check.hpp"
#include "paceline/base/text.hpp"
#include "support/trainer_state.hpp"
#include "training_workloads.hpp"

namespace paceline::gpu_testing {
namespace {

constexpr std::int64_t passes_of_step = 2;
constexpr std::int64_t samples = passes_of_step * samples_of_pass;

struct Trained {
  std::vector<double> losses;
  std::vector<float> weights;
  std::vector<std::byte> state;
};

using Adjust = std::function<void(TrainerOptions&)>;

/// `given`: state to begin with; empty: the model's own.
Trained train(const Workload& work, const ComputeDevice& device, std::int64_t steps, const Adjust& adjust,
              const std::vector<std::byte>& given = {}) {
  Trained trained;
  torch::manual_seed(1);
  auto alone = Communicator::connect(0, std::vector<Member>(1));
  auto model = make_model(work.model, work.config);
  TrainerOptions options;
  options.device = device;
  options.optimizer.momentum = 0.9;
  adjust(options);
  set_gpu_arithmetic({.deterministic = options.reproducible, .tries_ways = !options.reproducible});
  auto trainer = Trainer::make(alone.value(), *model.value(), options);
  EXPECT(trainer.ok(), trainer.ok() ? "" : trainer.error().message);
  if (!trainer.ok()) return trained;
  std::size_t at = 0;
  for (const StatePart& part : testing::state_of(*trainer)) {
    if (given.empty()) break;
    std::copy_n(given.begin() + static_cast<std::ptrdiff_t>(at), part.bytes.size(), part.bytes.begin());
    at += part.bytes.size();
  }
  if (!given.empty()) {
    const Status adopted = trainer->adopt_state();
    EXPECT(adopted.ok(), adopted.ok() ? "" : adopted.error().message);
  }
  for (std::int64_t step = 0; step < steps; ++step) {
    StepSpec spec{step, samples, 0.02, 1};
    spec.passes = passes_of_step;
    const auto outcome = trainer->step(spec, passes_of(work, step, 0, passes_of_step));
    EXPECT(outcome.ok(), outcome.ok() ? "" : concat(work.model, ": ", outcome.error().message));
    if (!outcome.ok()) return trained;
    trained.losses.push_back(outcome->loss);
  }
  trained.state = testing::bytes_of(testing::state_of(*trainer));
  for (const torch::Tensor& parameter : model.value()->module().parameters()) {
    const torch::Tensor host = parameter.detach().to(torch::kCPU).contiguous();
    const auto* const begin = host.data_ptr<float>();
    trained.weights.insert(trained.weights.end(), begin, begin + host.numel());
  }
  return trained;
}

std::string follows_the_cpu() {
  for (const Workload& work : workloads()) {
    const Trained cpu = train(work, {}, 4, [](TrainerOptions&) {});
    const Trained gpu = train(work, tested(), 4, [](TrainerOptions&) {});
    EXPECT(cpu.losses.size() == gpu.losses.size() && !cpu.losses.empty(), work.model);
    for (std::size_t i = 0; i < std::min(cpu.losses.size(), gpu.losses.size()); ++i)
      EXPECT(std::abs(cpu.losses[i] - gpu.losses[i]) < 0.01 * cpu.losses[i] + 1e-4,
             concat(work.model, " step ", i, ": ", cpu.losses[i], " and ", gpu.losses[i]));
    double most = 0;
    for (std::size_t i = 0; i < std::min(cpu.weights.size(), gpu.weights.size()); ++i)
      most = std::max(most, static_cast<double>(std::abs(cpu.weights[i] - gpu.weights[i])));
    EXPECT(most < 5e-3 && cpu.weights.size() == gpu.weights.size(),
           concat(work.model, ": weights differ by ", most));
  }
  return {};
}

std::string reproducible_mode_gives_the_same_bits_again() {
  for (const Workload& work : workloads()) {
    const auto exact = [](TrainerOptions& options) { options.reproducible = true; };
    const Trained first = train(work, tested(), 3, exact), again = train(work, tested(), 3, exact);
    EXPECT(!first.state.empty() && first.state == again.state, work.model);
  }
  return {};
}

std::string state_goes_to_the_cpu_and_back() {
  for (const Workload& work : workloads()) {
    const auto plain = [](TrainerOptions&) {};
    const Trained gpu = train(work, tested(), 3, plain);
    const Trained on_cpu = train(work, {}, 1, plain, gpu.state),
                  on_gpu = train(work, tested(), 1, plain, gpu.state);
    EXPECT(!on_cpu.losses.empty() && !on_gpu.losses.empty() &&
               std::abs(on_cpu.losses[0] - on_gpu.losses[0]) < 0.01 * on_cpu.losses[0] + 1e-4,
           work.model);
  }
  return {};
}

std::string learns_in_16_bits() {
  for (const ComputeType type : {ComputeType::bf16, ComputeType::f16}) {
    if (type == ComputeType::f16 && tested().device.is_cpu()) continue;
    for (const Workload& work : workloads()) {
      const Trained trained = train(work, tested(), 12, [type](TrainerOptions& options) {
        options.compute = type;
        if (type == ComputeType::f16) options.loss_scaling = {.first = 65536, .follows = true};
      });
      EXPECT(trained.losses.size() == 12 && trained.losses.back() < trained.losses.front(), work.model);
    }
  }
  return {};
}

}  // namespace
}  // namespace paceline::gpu_testing

/// training_test [--small | CASE]
int main(int argc, char** argv) {
  using namespace paceline::gpu_testing;
  if (needs_gpu()) {
    const auto gpu = paceline::find_gpu();
    if (!gpu.ok()) {
      std::printf("SKIPPED training_test: %s\n", gpu.error().message.c_str());
      return skipped_exit_code;
    }
  }
  torch::set_num_threads(1);
  const std::string part = argc == 2 && std::string(argv[1]) != "--small" ? argv[1] : "";
  return run_cases(
      {{"follows_the_cpu", follows_the_cpu},
       {"reproducible_mode_gives_the_same_bits_again", reproducible_mode_gives_the_same_bits_again},
       {"state_goes_to_the_cpu_and_back", state_goes_to_the_cpu_and_back},
       {"learns_in_16_bits", learns_in_16_bits}},
      part);
}
