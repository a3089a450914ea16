// Reproducible mode: whoever runs a step's passes, and whatever goes wrong meanwhile, the weights come out
// the same to the last bit. Every rank reports a hash of all that it ended with; the hashes must be equal.

#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <span>

#include "paceline/base/hash.hpp"
#include "paceline/train/trainer.hpp"
#include "support/compute_device.hpp"
#include "support/ranks.hpp"
#include "support/small_model.hpp"
#include "support/trainer_state.hpp"

namespace paceline::testing {
namespace {

constexpr std::int64_t grains = 24;
constexpr std::int64_t grain = 3;
constexpr std::int64_t steps = 5;
constexpr std::int64_t short_step = 3;  // its last grain has two samples
constexpr std::int64_t surge_step = 2;

std::int64_t samples_of(std::int64_t step) {
  return grains * grain - (step == short_step ? 1 : 0);
}

/// Grains of each rank.
struct Cut {
  std::string nodes;
  std::vector<std::int64_t> shares;
  [[nodiscard]] std::int64_t first(int rank) const {
    std::int64_t before = 0;
    for (int r = 0; r < rank; ++r) before += shares[static_cast<std::size_t>(r)];
    return before;
  }
  [[nodiscard]] std::int64_t share(int rank) const { return shares[static_cast<std::size_t>(rank)]; }
};

const Cut alone{"a", {24}};
const std::vector<Cut> cuts = {
    {"aa", {12, 12}}, {"aab", {3, 20, 1}}, {"aa", {24, 0}}, {"ab", {7, 17}}, {"aabb", {6, 6, 6, 6}}};

/// In the surge step this grain's inputs are far from all others.
constexpr std::int64_t no_surge = -1;
constexpr float surge = 1e8F;

std::vector<Pass> passes_of(std::int64_t step, const Cut& cut, int rank, std::int64_t surging = no_surge) {
  std::vector<Pass> passes;
  for (std::int64_t g = cut.first(rank); g < cut.first(rank) + cut.share(rank); ++g) {
    const std::int64_t first = g * grain;
    Batch batch = batch_of(step, first, std::min(grain, samples_of(step) - first));
    if (step == surge_step && g == surging) batch.inputs = batch.inputs * surge;
    passes.push_back({first, batch});
  }
  return passes;
}

StepSpec spec_of(std::int64_t step, int rank) {
  StepSpec spec{step, samples_of(step), 0.1, 77};
  spec.consumed = rank == 0 ? mix64(step) : 0;
  spec.passes = grains;
  return spec;
}

TrainerOptions reproducible_options(OptimizerKind kind = OptimizerKind::sgd) {
  TrainerOptions options;
  options.device = compute_device();
  options.optimizer.kind = kind;
  options.optimizer.momentum = 0.9;
  options.optimizer.clip_norm = 0.5;
  options.bucket_bytes = 256;  // several buckets even of a small model
  options.reproducible = true;
  return options;
}

/// A hash of everything that must be the same.
class Ending {
 public:
  void add(const StepOutcome& outcome) {
    for (const double figure : {outcome.loss, outcome.accuracy, outcome.gradient_norm})
      state_ = mix64(state_, std::bit_cast<std::uint64_t>(figure));
    state_ = mix64(state_, outcome.consumed);
  }
  [[nodiscard]] std::string of(Trainer& trainer, Model& model) {
    trainer.prepare_evaluation();
    for (const torch::Tensor& tensor : model.module().parameters()) add(tensor);
    for (const torch::Tensor& tensor : model.module().buffers()) add(tensor);
    for (const StatePart& part : state_of(trainer)) add(part.bytes);
    return concat("ended with ", state_);
  }

 private:
  void add(const torch::Tensor& tensor) {
    const torch::Tensor dense = tensor.detach().contiguous().to(torch::kCPU);
    add(std::span(static_cast<const std::byte*>(dense.data_ptr()), dense.nbytes()));
  }
  void add(std::span<const std::byte> bytes) {
    for (const std::byte byte : bytes) state_ = mix64(state_ ^ static_cast<std::uint64_t>(byte));
  }
  std::uint64_t state_ = 1;
};

using MakeModel = std::function<std::unique_ptr<Model>()>;

MakeModel small(SmallModel::Kind kind) {
  return [kind] { return std::make_unique<SmallModel>(kind); };
}

/// Trains with this cut and gives what each rank ended with, or what went wrong.
std::vector<std::string> train(const Cut& cut, const MakeModel& make, const TrainerOptions& options,
                               std::int64_t surging = no_surge, RunAs run_as = RunAs::threads) {
  return run_ranks({cut.nodes, run_as}, [&](Result<Communicator>& communicator, int rank) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    at::set_num_threads(1);
    const std::unique_ptr<Model> model = make();
    auto trainer = Trainer::make(*communicator, *model, options);
    if (!trainer.ok()) return trainer.error().message;
    Ending ending;
    for (std::int64_t step = 0; step < steps; ++step) {
      const auto outcome = trainer->step(spec_of(step, rank), passes_of(step, cut, rank, surging));
      if (!outcome.ok()) return outcome.error().message;
      ending.add(*outcome);
    }
    return ending.of(*trainer, *model);
  });
}

void expect_all_are(const std::string& expected, const std::vector<std::string>& endings,
                    const std::string& nodes) {
  EXPECT_TRUE(expected.starts_with("ended with ")) << expected;
  for (const std::string& ending : endings) EXPECT_EQ(ending, expected) << "on nodes " << nodes;
}

struct Case {
  SmallModel::Kind kind;
  OptimizerKind optimizer = OptimizerKind::sgd;
  RunAs run_as = RunAs::threads;
};

void PrintTo(const Case& test, std::ostream* out) {
  *out << "model " << test.kind;
}

class Reproducible : public ::testing::TestWithParam<Case> {};

TEST_P(Reproducible, AnyCutGivesTheSameBits) {
  const Case& test = GetParam();
  const TrainerOptions options = reproducible_options(test.optimizer);
  const std::string expected = train(alone, small(test.kind), options, no_surge, test.run_as)[0];
  for (const Cut& cut : cuts)
    expect_all_are(expected, train(cut, small(test.kind), options, no_surge, test.run_as), cut.nodes);
}

// LibTorch's random state belongs to the process, hence processes where it is used.
INSTANTIATE_TEST_SUITE_P(Models, Reproducible,
                         ::testing::Values(Case{SmallModel::plain},
                                           Case{SmallModel::plain, OptimizerKind::adamw},
                                           Case{SmallModel::norms}, Case{SmallModel::frozen},
                                           Case{SmallModel::tied}, Case{SmallModel::unused},
                                           Case{SmallModel::dropout, OptimizerKind::sgd, RunAs::processes}),
                         [](const auto& parameter) { return concat("case", parameter.index); });

TEST(ReproducibleSums, AreThoseOfF32UpToItsRounding) {
  for (const SmallModel::Kind kind : {SmallModel::plain, SmallModel::norms, SmallModel::unused}) {
    std::vector<std::vector<torch::Tensor>> weights;
    for (const bool reproducible : {true, false}) {
      TrainerOptions options = reproducible_options();
      options.reproducible = reproducible;
      options.optimizer.clip_norm = 0;
      expect_all_well(run_ranks({"aa"}, [&](Result<Communicator>& communicator, int rank) -> std::string {
        if (!communicator.ok()) return communicator.error().message;
        const auto own = std::make_unique<SmallModel>(kind);
        auto trainer = Trainer::make(*communicator, *own, options);
        if (!trainer.ok()) return trainer.error().message;
        for (std::int64_t step = 0; step < steps; ++step) {
          const auto outcome = trainer->step(spec_of(step, rank), passes_of(step, cuts[0], rank));
          if (!outcome.ok()) return outcome.error().message;
        }
        trainer->prepare_evaluation();
        if (rank > 0) return {};
        weights.push_back(values_of(*own));
        for (const torch::Tensor& buffer : own->module().buffers())
          weights.back().push_back(buffer.to(torch::kFloat));
        return {};
      }));
    }
    EXPECT_EQ(difference(weights[0], weights[1], 2e-6), "");
  }
}

// ---- gradients that outgrow their scale -----------------------------------------------------------------

/// One linear layer, whose gradient is as large as its inputs.
class LinearModel : public Model {
 public:
  /// Called with the number of each forward, from 1.
  using OnForward = std::function<void(std::int64_t)>;
  explicit LinearModel(OnForward on_forward = {}) : on_forward_(std::move(on_forward)) {
    const torch::NoGradGuard no_grad;
    linear_->weight.copy_((torch::arange(18) * 0.7).sin().view({3, 6}));
    linear_->bias.zero_();
  }
  torch::nn::Module& module() override { return *linear_; }
  torch::Tensor forward(const torch::Tensor& inputs) override {
    ++forwards_;
    if (on_forward_) on_forward_(forwards_);
    return linear_(inputs);
  }

 protected:
  torch::nn::Linear linear_{6, 3};
  std::int64_t forwards_ = 0;

 private:
  OnForward on_forward_;
};

MakeModel linear(LinearModel::OnForward on_forward = {}) {
  return [on_forward] { return std::make_unique<LinearModel>(on_forward); };
}

TEST(Overflow, IsSeenAlikeWhereverItHappens) {
  const std::string calm = train(alone, linear(), reproducible_options())[0];
  for (const std::int64_t surging : {0, 11, 23}) {
    const std::string expected = train(alone, linear(), reproducible_options(), surging)[0];
    EXPECT_NE(expected, calm);
    for (const Cut& cut : cuts)
      expect_all_are(expected, train(cut, linear(), reproducible_options(), surging), cut.nodes);
  }
}

TEST(Overflow, RunsAllPassesOnceMoreAndNoOthers) {
  const Cut cut{"aab", {3, 20, 1}};
  std::vector<std::atomic<std::int64_t>> forwards(3);
  const auto failures =
      run_ranks({cut.nodes}, [&](Result<Communicator>& communicator, int rank) -> std::string {
        if (!communicator.ok()) return communicator.error().message;
        LinearModel model([&](std::int64_t count) { forwards[static_cast<std::size_t>(rank)] = count; });
        auto trainer = Trainer::make(*communicator, model, reproducible_options());
        if (!trainer.ok()) return trainer.error().message;
        for (std::int64_t step = 0; step < steps; ++step)
          if (const auto outcome = trainer->step(spec_of(step, rank), passes_of(step, cut, rank, 9));
              !outcome.ok())
            return outcome.error().message;
        return {};
      });
  expect_all_well(failures);
  for (int rank = 0; rank < 3; ++rank)  // the first step knows no scales, and one step surges
    EXPECT_EQ(forwards[static_cast<std::size_t>(rank)], cut.share(rank) * (steps + 2)) << rank;
}

/// Its loss grows from attempt to attempt.
class UnsteadyModel final : public LinearModel {
 public:
  explicit UnsteadyModel(std::int64_t passes) : passes_(passes) {}
  Outcome loss(const Batch& batch) override {
    Outcome outcome = LinearModel::loss(batch);
    outcome.loss = outcome.loss * std::exp2(static_cast<float>(20 * ((forwards_ - 1) / passes_)));
    return outcome;
  }

 private:
  std::int64_t passes_;
};

TEST(Overflow, OfAModelThatNeverComputesTheSameIsAnErrorThatNamesATensor) {
  const Cut cut = cuts[0];
  const auto failures =
      run_ranks({cut.nodes}, [&](Result<Communicator>& communicator, int rank) -> std::string {
        if (!communicator.ok()) return communicator.error().message;
        UnsteadyModel model(cut.share(rank));
        auto trainer = Trainer::make(*communicator, model, reproducible_options());
        if (!trainer.ok()) return trainer.error().message;
        const auto outcome = trainer->step(spec_of(0, rank), passes_of(0, cut, rank));
        if (trainer->holds_reduced()) return "it claims to hold what is no use";
        return outcome.ok() ? "the step was applied" : outcome.error().message;
      });
  for (const std::string& failure : failures)
    EXPECT_TRUE(failure.starts_with("step 0: the gradient of weight reaches ") &&
                failure.find("does not compute the same") != std::string::npos)
        << failure;
}

/// Its loss is finite and its gradient isn't.
class SingularModel final : public LinearModel {
 public:
  Outcome loss(const Batch& batch) override {
    Outcome outcome = LinearModel::loss(batch);
    outcome.loss = outcome.loss + (linear_->bias * 0).sqrt().sum();
    return outcome;
  }
};

TEST(NotFinite, IsAnErrorOfItsOwnOnAllRanksAndTheWeightsStay) {
  for (const bool singular : {true, false}) {
    const auto failures = run_ranks({"aa"}, [&](Result<Communicator>& communicator, int rank) -> std::string {
      if (!communicator.ok()) return communicator.error().message;
      const bool worse = rank == 1;
      std::unique_ptr<LinearModel> model = std::make_unique<LinearModel>();
      if (singular && worse) model = std::make_unique<SingularModel>();
      auto trainer = Trainer::make(*communicator, *model, reproducible_options());
      if (!trainer.ok()) return trainer.error().message;
      const std::vector<torch::Tensor> before = values_of(*model);
      std::vector<Pass> passes = passes_of(0, cuts[0], rank);
      if (!singular && worse) passes[3].batch.inputs[0][0] = std::numeric_limits<float>::quiet_NaN();
      const auto outcome = trainer->step(spec_of(0, rank), passes);
      if (outcome.ok()) return "the step was applied";
      if (!difference(values_of(*model), before, 0).empty()) return "weights have changed";
      return outcome.error().message;
    });
    const std::string expected =
        singular ? "the gradient of bias is not finite at step 0" : "the loss is not finite at step 0";
    for (const std::string& failure : failures) EXPECT_TRUE(failure.starts_with(expected)) << failure;
  }
}

TEST(Passes, MustBeSaidAndAreCounted) {
  for (const std::int64_t said : {0, 25}) {
    const auto failures = run_ranks({"aa"}, [&](Result<Communicator>& communicator, int rank) -> std::string {
      if (!communicator.ok()) return communicator.error().message;
      LinearModel model;
      auto trainer = Trainer::make(*communicator, model, reproducible_options());
      if (!trainer.ok()) return trainer.error().message;
      StepSpec spec = spec_of(0, rank);
      spec.passes = said;
      const auto outcome = trainer->step(spec, passes_of(0, cuts[0], rank));
      return outcome.ok() ? "the step was applied" : outcome.error().message;
    });
    for (const std::string& failure : failures)
      EXPECT_EQ(failure, said == 0 ? "step 0: a reproducible step must say how many passes it has"
                                   : "step 0: the ranks together had 24 passes where the step has 25");
  }
}

// LibTorch's number of threads belongs to the process.
TEST(Ranks, ThatDoNotComputeAlikeAreRefused) {
  const auto failures =
      run_ranks({"ab", RunAs::processes}, [](Result<Communicator>& communicator, int rank) -> std::string {
        if (!communicator.ok()) return communicator.error().message;
        at::set_num_threads(rank + 1);
        LinearModel model;
        const auto trainer = Trainer::make(*communicator, model, reproducible_options());
        return trainer.ok() ? "they were taken" : trainer.error().message;
      });
  for (const std::string& failure : failures)
    EXPECT_NE(failure.find("rank 1 cannot train reproducibly together with rank 0: they differ in the number "
                           "of threads"),
              std::string::npos)
        << failure;
}

// ---- ranks that are lost, and ranks that come new -------------------------------------------------------

TEST(Elastic, AStepThatIsDoneAgainByOthersGivesTheSameBits) {
  const std::string expected = train(alone, linear(), reproducible_options(), 9)[0];
  const Cut before{"aab", {8, 8, 8}};
  const Cut after{"ab", {7, 17}};
  // Rank 1 is lost in the first and the second attempt of the first step and of the one that surges.
  for (const std::int64_t lost_at : {3, 11, 27, 35}) {
    SecondMeeting second(after.nodes);
    // A rank that is lost before the others have done what comes first would take that along.
    std::barrier together(3);
    const auto endings = run_ranks({before.nodes}, [&](Result<Communicator>& first, int rank) -> std::string {
      if (!first.ok()) return first.error().message;
      LinearModel model([&](std::int64_t count) {
        if (rank != 1 || count != lost_at) return;
        first->abort("it is lost");
        throw std::runtime_error("it is lost");
      });
      auto trainer = Trainer::make(*first, model, reproducible_options());
      Ending ending;
      std::int64_t step = 0;
      for (; trainer.ok() && step < steps; ++step) {
        together.arrive_and_wait();
        const auto outcome = trainer->step(spec_of(step, rank), passes_of(step, before, rank, 9));
        if (!outcome.ok()) break;
        ending.add(*outcome);
      }
      together.arrive_and_drop();
      if (!trainer.ok()) return trainer.error().message;
      if (step != (lost_at > 24 ? surge_step : 0)) return concat("lost at step ", step);
      if (trainer->holds_reduced()) return "it claims to hold what was never summed";
      if (rank == 1) return expected;
      const int place = rank == 0 ? 0 : 1;
      auto communicator = second.join(place);
      if (!communicator.ok()) return communicator.error().message;
      if (const Status entered = trainer->enter(*communicator); !entered.ok()) return entered.error().message;
      for (; step < steps; ++step) {
        const auto outcome = trainer->step(spec_of(step, place), passes_of(step, after, place, 9));
        if (!outcome.ok()) return outcome.error().message;
        ending.add(*outcome);
      }
      const std::string ended = ending.of(*trainer, model);
      trainer = Error{ErrorCode::internal, "its memory is the communicator's"};
      return ended;
    });
    expect_all_are(expected, endings, concat(after.nodes, " after ", lost_at));
  }
}

TEST(Elastic, AStepThatIsRolledForwardGivesTheSameBits) {
  const MakeModel make = small(SmallModel::norms);
  const std::string expected = train(alone, make, reproducible_options())[0];
  const Cut cut = cuts[1];
  const auto endings =
      run_ranks({cut.nodes}, [&](Result<Communicator>& communicator, int rank) -> std::string {
        if (!communicator.ok()) return communicator.error().message;
        const std::unique_ptr<Model> model = make();
        auto trainer = Trainer::make(*communicator, *model, reproducible_options());
        if (!trainer.ok()) return trainer.error().message;
        Ending ending;
        for (std::int64_t step = 0; step < steps; ++step) {
          StepSpec spec = spec_of(step, rank);
          // What ends the commit doesn't matter: everything was reduced before it.
          const bool fails = step == 0 || step == short_step;
          if (fails) spec.plan_hash = static_cast<std::uint64_t>(100 + 10 * rank);
          Result<StepOutcome> outcome = trainer->step(spec, passes_of(step, cut, rank));
          if (outcome.ok() == fails) return outcome.ok() ? "the commit succeeded" : outcome.error().message;
          if (fails) outcome = trainer->roll_forward();
          if (!outcome.ok()) return outcome.error().message;
          ending.add(*outcome);
        }
        return ending.of(*trainer, *model);
      });
  expect_all_are(expected, endings, cut.nodes);
}

TEST(Elastic, StateThatIsCopiedGoesOnWithTheSameBits) {
  const TrainerOptions options = reproducible_options(OptimizerKind::adamw);
  std::vector<std::vector<std::byte>> state;
  std::string expected;
  expect_all_well(run_ranks({"a"}, [&](Result<Communicator>& communicator, int) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    LinearModel model;
    auto trainer = Trainer::make(*communicator, model, options);
    if (!trainer.ok()) return trainer.error().message;
    Ending ending;
    for (std::int64_t step = 0; step < steps; ++step) {
      if (step == 3)
        for (const StatePart& part : state_of(*trainer))
          state.emplace_back(part.bytes.begin(), part.bytes.end());
      const auto outcome = trainer->step(spec_of(step, 0), passes_of(step, alone, 0));
      if (!outcome.ok()) return outcome.error().message;
      if (step >= 3) ending.add(*outcome);
    }
    expected = ending.of(*trainer, model);
    return {};
  }));
  const Cut cut = cuts[1];
  const auto endings =
      run_ranks({cut.nodes}, [&](Result<Communicator>& communicator, int rank) -> std::string {
        if (!communicator.ok()) return communicator.error().message;
        std::int64_t forwards = 0;
        LinearModel model([&](std::int64_t count) { forwards = count; });
        TrainerOptions late = options;
        late.share_state = false;
        auto trainer = Trainer::make(*communicator, model, late);
        if (!trainer.ok()) return trainer.error().message;
        std::size_t i = 0;
        for (const StatePart& part : state_of(*trainer)) std::ranges::copy(state[i++], part.bytes.begin());
        if (const Status adopted = trainer->adopt_state(); !adopted.ok()) return adopted.error().message;
        Ending ending;
        for (std::int64_t step = 3; step < steps; ++step) {
          const auto outcome = trainer->step(spec_of(step, rank), passes_of(step, cut, rank));
          if (!outcome.ok()) return outcome.error().message;
          ending.add(*outcome);
        }
        // It knows the scales: no pass had to run again.
        if (forwards != 2 * cut.share(rank)) return concat("it ran ", forwards, " passes");
        return ending.of(*trainer, model);
      });
  expect_all_are(expected, endings, cut.nodes);
}

}  // namespace
}  // namespace paceline::testing
