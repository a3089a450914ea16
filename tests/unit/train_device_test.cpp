// Computing apart from the host's memory, as on a GPU, tried with the CPU in its place. Other tests of
// training run that way too (ctest: Apart.*); here is how the two kinds of rank go together, and what they
// say where there is no GPU.

#include "paceline/train/device.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "paceline/train/models.hpp"
#include "paceline/train/trainer.hpp"
#include "support/ranks.hpp"
#include "support/small_model.hpp"
#include "support/trainer_state.hpp"

namespace paceline::testing {
namespace {

constexpr std::int64_t samples = 24;
constexpr std::int64_t steps = 4;
const ComputeDevice apart{torch::kCPU, true};

/// A network that counts its passes in a buffer, follows its weights with a parameter that isn't trained, and
/// uses another only in the first of two passes.
class CountingModel : public SmallModel {
 public:
  CountingModel() : SmallModel(norms) {
    count_ = module().register_buffer("count", torch::zeros({1}));
    follower_ = module().register_parameter("follower", torch::full({1}, 0.5F), /*requires_grad=*/false);
    seldom_ = module().register_parameter("seldom", torch::full({1}, 0.25F));
  }
  torch::Tensor forward(const torch::Tensor& inputs) override {
    const torch::Tensor outputs = SmallModel::forward(inputs) * follower_.clone();
    const torch::NoGradGuard no_grad;
    follower_.mul_(0.9F).add_(module().parameters().front().abs().mean() * 0.1F);
    const bool is_first = static_cast<std::int64_t>(count_.item<float>()) % 2 == 0;
    count_.add_(1);
    const torch::AutoGradMode with_gradients(module().is_training());
    return is_first ? outputs * seldom_ : outputs;
  }

 private:
  torch::Tensor count_, follower_, seldom_;
};

std::vector<Pass> passes_of(std::int64_t step, int rank, int ranks) {
  std::vector<Pass> passes;
  const std::int64_t count = samples / ranks / 2;
  for (std::int64_t i = 0; i < 2; ++i) {
    const std::int64_t first = (rank * 2 + i) * count;
    passes.push_back({first, batch_of(step, first, count)});
  }
  return passes;
}

TrainerOptions options_on(const ComputeDevice& device, bool reproducible) {
  TrainerOptions options;
  options.device = device;
  options.reproducible = reproducible;
  options.optimizer.kind = OptimizerKind::adamw;
  options.bucket_bytes = 256;
  return options;
}

/// What two ranks on such devices end with: state and, the same in one more way, the model's own tensors.
std::vector<std::byte> train(const std::vector<ComputeDevice>& devices, bool reproducible) {
  std::vector<std::byte> state;
  const std::string nodes(devices.size(), 'a');
  expect_all_well(run_ranks({nodes}, [&](Result<Communicator>& communicator, int rank) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    at::set_num_threads(1);
    CountingModel model;
    const TrainerOptions options = options_on(devices[static_cast<std::size_t>(rank)], reproducible);
    auto trainer = Trainer::make(*communicator, model, options);
    if (!trainer.ok()) return trainer.error().message;
    for (std::int64_t step = 0; step < steps; ++step) {
      StepSpec spec{step, samples, 0.01, 77};
      spec.passes = 2 * std::ssize(devices);
      const auto outcome = trainer->step(spec, passes_of(step, rank, static_cast<int>(devices.size())));
      if (!outcome.ok()) return outcome.error().message;
    }
    trainer->prepare_evaluation();
    if (rank != 0) return {};
    state = bytes_of(state_of(*trainer));
    for (const torch::Tensor& tensor : model.module().parameters()) {
      const torch::Tensor dense = tensor.detach().contiguous();
      const auto* const begin = static_cast<const std::byte*>(dense.data_ptr());
      state.insert(state.end(), begin, begin + dense.nbytes());
    }
    return {};
  }));
  return state;
}

TEST(Apart, RanksOfBothKindsTrainTogetherAndComeToTheSameBits) {
  for (const bool reproducible : {false, true}) {
    const std::vector<std::byte> expected = train({{}, {}}, reproducible);
    ASSERT_FALSE(expected.empty());
    EXPECT_TRUE(train({apart, apart}, reproducible) == expected) << reproducible;
    EXPECT_TRUE(train({{}, apart}, reproducible) == expected) << reproducible;
    EXPECT_TRUE(train({apart, {}}, reproducible) == expected) << reproducible;
  }
}

/// What it has come to can go on on the other kind of rank, once that has adopted it.
TEST(Apart, StateGoesFromOneKindToTheOther) {
  expect_all_well(run_ranks({"a"}, [&](Result<Communicator>& communicator, int) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    at::set_num_threads(1);
    const auto step_of = [](Trainer& trainer, std::int64_t step) -> std::string {
      const auto outcome = trainer.step(StepSpec{step, samples, 0.01, 77}, passes_of(step, 0, 1));
      return outcome.ok() ? "" : outcome.error().message;
    };
    for (const bool from_apart : {false, true}) {
      CountingModel model, other;
      for (torch::Tensor& parameter : other.module().parameters()) parameter.detach().fill_(9);
      auto trainer =
          Trainer::make(*communicator, model, options_on(from_apart ? apart : ComputeDevice{}, false));
      auto heir =
          Trainer::make(*communicator, other, options_on(from_apart ? ComputeDevice{} : apart, false));
      if (!trainer.ok() || !heir.ok()) return "not made";
      for (std::int64_t step = 0; step < 2; ++step)
        if (const std::string failure = step_of(*trainer, step); !failure.empty()) return failure;
      const std::vector<StatePart> from = state_of(*trainer), to = state_of(*heir);
      for (std::size_t i = 0; i < from.size(); ++i) std::ranges::copy(from[i].bytes, to[i].bytes.begin());
      if (const Status adopted = heir->adopt_state(); !adopted.ok()) return adopted.error().message;
      for (Trainer* const one : {&*trainer, &*heir})
        if (const std::string failure = step_of(*one, 2); !failure.empty()) return failure;
      if (bytes_of(state_of(*trainer)) != bytes_of(state_of(*heir)))
        return concat("differs, from apart ", from_apart);
      if (difference(values_of(model), values_of(other), 0) != "") return "the models differ";
      const torch::Tensor count = other.module().named_buffers()["count"];
      if (count.item<float>() != 6) return concat("it counted ", count.item<float>(), " passes");
    }
    return {};
  }));
}

TEST(Apart, AModelComputesInMemoryOfItsOwn) {
  expect_all_well(run_ranks({"a"}, [&](Result<Communicator>& communicator, int) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    SmallModel model(SmallModel::plain);
    auto trainer = Trainer::make(*communicator, model, options_on(apart, false));
    if (!trainer.ok()) return trainer.error().message;
    const StatePart parameters = state_of(*trainer).front();
    const std::vector<torch::Tensor> before = values_of(model);
    std::ranges::fill(parameters.bytes, std::byte{0});
    if (difference(values_of(model), before, 0) != "") return "the state is what the model computes with";
    if (const Status adopted = trainer->adopt_state(); !adopted.ok()) return adopted.error().message;
    for (const torch::Tensor& value : values_of(model))
      if (value.abs().max().item<double>() != 0) return "what was adopted is not what it computes with";
    return {};
  }));
}

TEST(Apart, StateIsCopiedWhenItIsAskedForAfterAStep) {
  expect_all_well(run_ranks({"a"}, [&](Result<Communicator>& communicator, int) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    CountingModel model;
    auto trainer = Trainer::make(*communicator, model, options_on(apart, false));
    if (!trainer.ok()) return trainer.error().message;
    const std::vector<StatePart> views = state_of(*trainer);
    const std::vector<std::byte> before = bytes_of(views);
    if (trainer->state_bytes() != std::ssize(before)) return "state_bytes() is something else";
    // What is copied in stays, however often it is asked for in between, until it is adopted.
    std::ranges::fill(views.front().bytes, std::byte{0});
    if (bytes_of(state_of(*trainer)) == before) return "what was copied in is gone";
    if (const Status adopted = trainer->adopt_state(); !adopted.ok()) return adopted.error().message;
    const auto outcome = trainer->step(StepSpec{0, samples, 0.01, 77}, passes_of(0, 0, 1));
    if (!outcome.ok()) return outcome.error().message;
    const auto is_zero = [](std::byte byte) { return byte == std::byte{0}; };
    if (!std::ranges::all_of(views.front().bytes, is_zero)) return "it was copied before it was asked for";
    const std::vector<StatePart> after = state_of(*trainer);
    if (after.front().bytes.data() != views.front().bytes.data()) return "it does not stay where it is";
    return std::ranges::all_of(views.front().bytes, is_zero) ? "the step is not in it" : "";
  }));
}

/// As LibTorch would throw it.
class ThrowingModel : public SmallModel {
 public:
  explicit ThrowingModel(std::string words) : SmallModel(plain), words_(std::move(words)) {}
  torch::Tensor forward(const torch::Tensor&) override { throw std::runtime_error(words_); }

 private:
  std::string words_;
};

TEST(BrokenDevice, IsToldApartFromWhatTheModelMayHaveDone) {
  const auto told_of = [](const std::string& words) {
    std::string told;
    expect_all_well(run_ranks({"a"}, [&](Result<Communicator>& communicator, int) -> std::string {
      if (!communicator.ok()) return communicator.error().message;
      ThrowingModel model(words);
      TrainerOptions options = options_on(apart, false);
      options.on_broken_device = [&told](const std::string& why) { told = why; };
      auto trainer = Trainer::make(*communicator, model, options);
      if (!trainer.ok()) return trainer.error().message;
      const auto outcome = trainer->step(StepSpec{3, samples, 0.01, 77}, passes_of(3, 0, 1));
      if (outcome.ok() || outcome.error().message != "step 3: the model failed: " + words) return "no error";
      std::string told_of_evaluation;
      const auto evaluation = evaluate(
          *communicator, model, []() -> Result<Batch> { return passes_of(3, 0, 1).front().batch; },
          ComputeType::f32, [&](const std::string& why) { told_of_evaluation = why; });
      if (evaluation.ok() || evaluation.error().message != "evaluation: the model failed: " + words)
        return "no error of the evaluation";
      return told_of_evaluation == (told.empty() ? "" : evaluation.error().message)
                 ? ""
                 : "of the evaluation it says " + told_of_evaluation;
    }));
    return told;
  };
  EXPECT_EQ(told_of("CUDA error: uncorrectable ECC error encountered"),
            "step 3: the model failed: CUDA error: uncorrectable ECC error encountered");
  EXPECT_NE(told_of("CUDA error: CUDA-capable device(s) is/are busy or unavailable"), "");
  EXPECT_EQ(told_of("CUDA error: device-side assert triggered"), "");
  EXPECT_EQ(told_of("uncorrectable ECC error in what the model reads"), "");
}

TEST(FindGpu, SaysWhyThereIsNone) {
  const Result<ComputeDevice> gpu = find_gpu();
  if (gpu.ok()) GTEST_SKIP() << "there is one";
  const std::string& why = gpu.error().message;
  switch (gpu.error().code) {
    case ErrorCode::unsupported:
      EXPECT_NE(why.find("was built without CUDA"), std::string::npos) << why;
      break;
    case ErrorCode::not_found: EXPECT_NE(why.find("sees no GPU"), std::string::npos) << why; break;
    default: EXPECT_NE(why.find("does not work"), std::string::npos) << why;
  }
}

}  // namespace
}  // namespace paceline::testing
