// Training by ranks that share one GPU: gradients are summed in its memory, and weights are updated there.
// That all ranks come to the same bits and follow the CPU, and that survivors of a lost rank go on in the
// same process. `training_ranks_test [part of a name]`; PACELINE_TEST_DEVICE=apart tries the test itself
// without a GPU.

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gpu/ranks.hpp"
#include "paceline/base/hash.hpp"
#include "support/trainer_state.hpp"
#include "training_workloads.hpp"

namespace paceline::gpu_testing {
namespace {

constexpr std::int64_t passes_of_step = 6;  // for one, two or three ranks
constexpr std::int64_t samples = passes_of_step * samples_of_pass;

/// Without momentum's forgetting or clipping, which would hide sums that are a factor off.
TrainerOptions options_on(ComputeDevice device) {
  device.shared = true;
  TrainerOptions options;
  options.device = device;
  options.optimizer.kind = OptimizerKind::sgd;
  options.optimizer.momentum = 0.9;
  options.bucket_bytes = 64 << 10;
  return options;
}

Result<StepOutcome> step_of(Trainer& trainer, const Workload& work, std::int64_t step, int rank, int ranks) {
  const std::int64_t count = passes_of_step / ranks;
  StepSpec spec{step, samples, 0.01, 1};
  spec.passes = passes_of_step;
  return trainer.step(spec, passes_of(work, step, rank * count, count));
}

/// All parameters of a model, in the host's memory.
torch::Tensor weights_of(Model& model) {
  std::vector<torch::Tensor> all;
  for (const torch::Tensor& parameter : model.module().parameters())
    all.push_back(parameter.detach().to(torch::kCPU).contiguous().view(-1));
  return torch::cat(all);
}

/// What one rank on the CPU comes to with the same steps.
struct Reference {
  std::vector<double> losses;
  torch::Tensor first, last;  // weights
};

Reference reference_for(const Workload& work, std::int64_t steps) {
  Reference reference;
  torch::manual_seed(1);
  auto alone = Communicator::connect(0, std::vector<Member>(1));
  auto model = make_model(work.model, work.config);
  auto trainer = Trainer::make(alone.value(), *model.value(), options_on({}));
  reference.first = weights_of(*model.value()).clone();
  for (std::int64_t step = 0; step < steps; ++step) {
    const auto outcome = step_of(trainer.value(), work, step, 0, 1);
    reference.losses.push_back(outcome.ok() ? outcome->loss : NAN);
  }
  reference.last = weights_of(*model.value());
  return reference;
}

/// They went the same way, but for a twentieth of it.
void expect_same_way(const Reference& reference, Model& model, const std::string& where) {
  const double way = (reference.last - reference.first).norm().item<double>(),
               off = (weights_of(model) - reference.last).norm().item<double>();
  EXPECT(off < 0.05 * way, concat(where, ": weights are ", off, " from those of the CPU, which went ", way));
}

void expect_equal_state(Communicator& host, Trainer& trainer, const std::string& where) {
  const std::vector<std::byte> state = testing::bytes_of(testing::state_of(trainer));
  std::vector<std::uint64_t> hashes(static_cast<std::size_t>(host.size()));
  std::uint64_t hash = state.size();
  for (const std::byte byte : state) hash = mix64(hash, static_cast<std::uint64_t>(byte));
  hashes[static_cast<std::size_t>(host.rank())] = hash;
  EXPECT_OK(host.all_gather(hashes.data(), 1, DataType::i64));
  EXPECT(std::ranges::count(hashes, hashes[0]) == host.size(), where + ": the ranks' states differ");
}

std::string trains_alike(Communicator& host, int rank) {
  torch::set_num_threads(1);
  set_gpu_arithmetic({});
  for (const Workload& work : workloads()) {
    torch::manual_seed(1);
    auto model = make_model(work.model, work.config);
    auto trainer = Trainer::make(host, *model.value(), options_on(tested()));
    EXPECT(trainer.ok(), trainer.ok() ? "" : trainer.error().message);
    if (!trainer.ok()) return {};
    // Rounding grows thirtyfold with each in resnet18, whose samples are so alike.
    constexpr std::int64_t steps = 2;
    const Reference expected = reference_for(work, steps);
    for (std::int64_t step = 0; step < steps; ++step) {
      const auto outcome = step_of(*trainer, work, step, rank, host.size());
      EXPECT(outcome.ok(), outcome.ok() ? "" : concat(work.model, ": ", outcome.error().message));
      if (!outcome.ok()) return {};
      const double loss = expected.losses[static_cast<std::size_t>(step)];
      EXPECT(std::abs(outcome->loss - loss) < 0.02 * loss + 1e-4,
             concat(work.model, " step ", step, ": ", outcome->loss, ", on the CPU ", loss));
      EXPECT(outcome->spread.has_value() == (step == 0), "it is measured in every sixteenth step");
      if (outcome->spread) EXPECT(outcome->spread->ranks == host.size(), "not of all ranks");
    }
    expect_equal_state(host, *trainer, work.model);
    expect_same_way(expected, *model.value(), work.model);
  }
  return {};
}

/// Rank 2 dies in step 3, where that part of it begins; the others learn which, settle the step, and go on
/// with a new communicator.
std::string goes_on_without(Communicator& host, int rank, MeetingPlace& second, StepPart dies_in) {
  torch::set_num_threads(1);
  set_gpu_arithmetic({});
  const Workload work = workloads()[0];
  torch::manual_seed(1);
  auto model = make_model(work.model, work.config);
  TrainerOptions options = options_on(tested());
  int begun = 0;
  options.on_part = [&begun, rank, dies_in](StepPart part) {
    if (rank == 2 && part == dies_in && ++begun > 3) ::kill(::getpid(), SIGKILL);
  };
  auto trainer = Trainer::make(host, *model.value(), options);
  EXPECT(trainer.ok(), trainer.ok() ? "" : trainer.error().message);
  if (!trainer.ok()) return {};
  std::int64_t step = 0;
  std::optional<Error> error;
  for (; !error && step < 20; ++step) {
    const auto outcome = step_of(*trainer, work, step, rank, 3);
    if (!outcome.ok()) error = outcome.error();
  }
  EXPECT(error.has_value(), "nobody noticed");
  if (!error) return {};
  EXPECT(error->rank == 2, error->message);
  EXPECT(!host.health().ok(), "the ranks' communicator does not know");
  --step;
  EXPECT(step == 3, concat("it was step ", step));
  auto survivors = meet(second, "aa", rank, 2);
  EXPECT(survivors.ok(), survivors.ok() ? "" : survivors.error().message);
  if (!survivors.ok()) return {};
  std::int32_t held = trainer->holds_reduced() ? 1 : 0;
  EXPECT_OK(survivors->all_reduce(&held, 1, DataType::i32, ReduceOp::min));
  EXPECT(held == 0 || dies_in != StepPart::compute, "who has not computed has not been summed");
  if (held == 1) {
    const auto outcome = trainer->roll_forward();
    EXPECT(outcome.ok(), outcome.ok() ? "" : outcome.error().message);
    ++step;
  }
  if (rank == 0) std::printf("  %s\n", held == 1 ? "rolled forward" : "did the step again");
  EXPECT_OK(trainer->enter(*survivors));
  constexpr std::int64_t steps = 7;
  for (; step < steps; ++step) {
    const auto outcome = step_of(*trainer, work, step, rank, 2);
    EXPECT(outcome.ok(), outcome.ok() ? "" : outcome.error().message);
  }
  expect_equal_state(*survivors, *trainer, "after the repair");
  expect_same_way(reference_for(work, steps), *model.value(), "after the repair");
  const auto ended = std::move(trainer).value();  // before the communicator that it uses
  return {};
}

std::vector<RankTest> all_tests() {
  std::vector<RankTest> tests;
  for (const char* const nodes : {"a", "aa", "aaa", "ab"})
    tests.push_back({concat("trains_alike_", nodes), [nodes] { return run_ranks(nodes, trains_alike); },
                     std::string(nodes) == "aa"});
  for (const auto& [part, name] : {std::pair(StepPart::compute, "computes"),
                                   std::pair(StepPart::reduce, "sums"), std::pair(StepPart::commit, "votes")})
    tests.push_back({concat("goes_on_without_a_rank_that_dies_when_it_", name), [part = part] {
                       auto second = std::make_shared<MeetingPlace>();
                       return run_ranks(
                           "aaa",
                           [second, part](Communicator& host, int rank) {
                             return goes_on_without(host, rank, *second, part);
                           },
                           2);
                     }});
  return tests;
}

}  // namespace
}  // namespace paceline::gpu_testing

int main(int count, char** arguments) {
  using namespace paceline::gpu_testing;
  if (needs_gpu()) require_elsewhere("training_ranks_test", reason_not_to_train);
  return run_rank_tests(all_tests(), count > 1 ? arguments[1] : "");
}
