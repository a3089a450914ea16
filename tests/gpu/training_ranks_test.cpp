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
#include <vector>

#include "gpu/ranks.hpp"
#include "paceline/base/hash.hpp"
#include "support/trainer_state.hpp"
#include "training_workloads.hpp"

namespace paceline::gpu_testing {
namespace {

constexpr std::int64_t passes_of_step = 6;  // for one, two or three ranks
constexpr std::int64_t samples = passes_of_step * samples_of_pass;

TrainerOptions options_on(ComputeDevice device) {
  device.shared = true;
  TrainerOptions options;
  options.device = device;
  options.optimizer.kind = OptimizerKind::adamw;
  options.optimizer.clip_norm = 1;
  options.bucket_bytes = 64 << 10;
  return options;
}

Result<StepOutcome> step_of(Trainer& trainer, const Workload& work, std::int64_t step, int rank, int ranks) {
  const std::int64_t count = passes_of_step / ranks;
  StepSpec spec{step, samples, 0.002, 1};
  spec.passes = passes_of_step;
  return trainer.step(spec, passes_of(work, step, rank * count, count));
}

/// The losses of the same steps by one rank on the CPU.
std::vector<double> losses_on_the_cpu(const Workload& work, std::int64_t steps) {
  std::vector<double> losses;
  torch::manual_seed(1);
  auto alone = Communicator::connect(0, std::vector<Member>(1));
  auto model = make_model(work.model, work.config);
  auto trainer = Trainer::make(alone.value(), *model.value(), options_on({}));
  for (std::int64_t step = 0; step < steps; ++step) {
    const auto outcome = step_of(trainer.value(), work, step, 0, 1);
    losses.push_back(outcome.ok() ? outcome->loss : NAN);
  }
  return losses;
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
    constexpr std::int64_t steps = 4;
    const std::vector<double> expected = losses_on_the_cpu(work, steps);
    for (std::int64_t step = 0; step < steps; ++step) {
      const auto outcome = step_of(*trainer, work, step, rank, host.size());
      EXPECT(outcome.ok(), outcome.ok() ? "" : concat(work.model, ": ", outcome.error().message));
      if (!outcome.ok()) return {};
      const double loss = expected[static_cast<std::size_t>(step)];
      EXPECT(std::abs(outcome->loss - loss) < 0.02 * loss + 1e-4,
             concat(work.model, " step ", step, ": ", outcome->loss, ", on the CPU ", loss));
      EXPECT(outcome->spread.has_value() == (step == 0), "it is measured in every sixteenth step");
      if (outcome->spread) EXPECT(outcome->spread->ranks == host.size(), "not of all ranks");
    }
    expect_equal_state(host, *trainer, work.model);
  }
  return {};
}

/// Ends this process in the middle of its forward pass.
class Dying : public Model {
 public:
  Dying(std::unique_ptr<Model> model, bool dies) : model_(std::move(model)), dies_(dies) {}
  torch::nn::Module& module() override { return model_->module(); }
  torch::Tensor forward(const torch::Tensor& inputs) override {
    if (dies_ && ++passes_ > 3 * passes_of_step / 3) ::kill(::getpid(), SIGKILL);
    return model_->forward(inputs);
  }

 private:
  std::unique_ptr<Model> model_;
  bool dies_;
  std::int64_t passes_ = 0;
};

/// Rank 2 dies in step 3; the others learn which, settle the step, and go on with a new communicator.
std::string goes_on_without(Communicator& host, int rank, MeetingPlace& second) {
  torch::set_num_threads(1);
  set_gpu_arithmetic({});
  const Workload work = workloads()[1];
  torch::manual_seed(1);
  Dying model(std::move(make_model(work.model, work.config).value()), rank == 2);
  auto trainer = Trainer::make(host, model, options_on(tested()));
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
  --step;
  auto survivors = meet(second, "aa", rank, 2);
  EXPECT(survivors.ok(), survivors.ok() ? "" : survivors.error().message);
  if (!survivors.ok()) return {};
  std::int32_t held = trainer->holds_reduced() ? 1 : 0;
  EXPECT_OK(survivors->all_reduce(&held, 1, DataType::i32, ReduceOp::min));
  if (held == 1) {
    const auto outcome = trainer->roll_forward();
    EXPECT(outcome.ok(), outcome.ok() ? "" : outcome.error().message);
    ++step;
  }
  EXPECT_OK(trainer->enter(*survivors));
  for (std::int64_t end = step + 3; step < end; ++step) {
    const auto outcome = step_of(*trainer, work, step, rank, 2);
    EXPECT(outcome.ok(), outcome.ok() ? "" : outcome.error().message);
  }
  expect_equal_state(*survivors, *trainer, "after the repair");
  const auto ended = std::move(trainer).value();  // before the communicator that it uses
  return {};
}

std::vector<RankTest> all_tests() {
  std::vector<RankTest> tests;
  for (const char* const nodes : {"a", "aa", "aaa", "ab"})
    tests.push_back({concat("trains_alike_", nodes), [nodes] { return run_ranks(nodes, trains_alike); },
                     std::string(nodes) == "aa"});
  tests.push_back(
      {"goes_on_without_a_lost_rank", [] {
         auto second = std::make_shared<MeetingPlace>();
         return run_ranks(
             "aaa", [second](Communicator& host, int rank) { return goes_on_without(host, rank, *second); },
             2);
       }});
  return tests;
}

}  // namespace
}  // namespace paceline::gpu_testing

int main(int count, char** arguments) {
  using namespace paceline::gpu_testing;
  if (needs_gpu()) require_gpu_elsewhere("training_ranks_test");
  return run_rank_tests(all_tests(), count > 1 ? arguments[1] : "");
}
