// Computing in 16 bits, and the factor on the loss that goes with it. What a scale does to gradients is tried
// in f32 as well, where the CPU has them all: a scale near the end of its range makes gradients overflow.

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "paceline/train/models.hpp"
#include "paceline/train/trainer.hpp"
#include "support/compute_device.hpp"
#include "support/ranks.hpp"
#include "support/small_model.hpp"
#include "support/trainer_state.hpp"

namespace paceline::testing {
namespace {

constexpr std::int64_t samples = 24;
constexpr std::int64_t passes_of_rank = 2;

struct Trained {
  std::vector<StepOutcome> outcomes;
  std::vector<torch::Tensor> weights;
  std::vector<bool> unchanged;  // by step: weights, buffers and momentum are as before it
};

/// Of all that a skipped step must leave as it is.
std::vector<std::byte> bytes_without_scale(Trainer& trainer) {
  std::vector<StatePart> parts = state_of(trainer);
  std::erase_if(parts, [](const StatePart& part) { return part.name == "loss_scale"; });
  return bytes_of(parts);
}

/// Each rank's passes of the step, which ranks and passes cut evenly.
std::vector<Pass> passes_of(std::int64_t step, int rank, int ranks) {
  std::vector<Pass> passes;
  const std::int64_t count = samples / ranks / passes_of_rank;
  for (std::int64_t i = 0; i < passes_of_rank; ++i) {
    const std::int64_t first = (rank * passes_of_rank + i) * count;
    passes.push_back({first, batch_of(step, first, count)});
  }
  return passes;
}

using Adjust = std::function<void(TrainerOptions&)>;

TrainerOptions options_with(const Adjust& adjust) {
  TrainerOptions options;
  options.device = compute_device();
  options.optimizer.momentum = 0.9;
  options.bucket_bytes = 256;
  adjust(options);
  return options;
}

/// What rank 0 saw; failures are the test's.
Trained train(const std::string& nodes, std::int64_t steps, SmallModel::Kind kind, const Adjust& adjust,
              double learning_rate = 0.1) {
  Trained trained;
  const auto ranks = static_cast<int>(nodes.size());
  expect_all_well(run_ranks({nodes}, [&](Result<Communicator>& communicator, int rank) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    at::set_num_threads(1);
    SmallModel model(kind);
    auto trainer = Trainer::make(*communicator, model, options_with(adjust));
    if (!trainer.ok()) return trainer.error().message;
    Trained mine;
    for (std::int64_t step = 0; step < steps; ++step) {
      StepSpec spec{step, samples, learning_rate, 77};
      spec.passes = ranks * passes_of_rank;
      const std::vector<std::byte> before = bytes_without_scale(*trainer);
      const auto outcome = trainer->step(spec, passes_of(step, rank, ranks));
      if (!outcome.ok()) return outcome.error().message;
      mine.unchanged.push_back(bytes_without_scale(*trainer) == before);
      mine.outcomes.push_back(*outcome);
    }
    for (const torch::Tensor& weight : model.module().parameters())
      mine.weights.push_back(weight.detach().clone().to(torch::kCPU));
    if (rank == 0) trained = std::move(mine);
    return {};
  }));
  return trained;
}

bool same_bits(const std::vector<torch::Tensor>& a, const std::vector<torch::Tensor>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (!torch::equal(a[i], b[i])) return false;
  return true;
}

/// A power of two is in no result, with clipping and without.
TEST(LossScale, OneThatStaysChangesNoBit) {
  for (const double clip_norm : {0.0, 0.05}) {
    const auto with = [&](double scale, bool exact) {
      return train("aa", 4, SmallModel::norms, [=](TrainerOptions& options) {
        options.loss_scaling.first = scale;
        options.optimizer.clip_norm = clip_norm;
        options.reproducible = exact;
      });
    };
    for (const bool exact : {false, true}) {
      const Trained plain = with(1, exact), scaled = with(4096, exact);
      EXPECT_TRUE(same_bits(plain.weights, scaled.weights)) << clip_norm << exact;
      for (std::size_t step = 0; step < plain.outcomes.size(); ++step) {
        EXPECT_DOUBLE_EQ(plain.outcomes[step].gradient_norm, scaled.outcomes[step].gradient_norm);
        EXPECT_EQ(plain.outcomes[step].loss, scaled.outcomes[step].loss);
        EXPECT_EQ(scaled.outcomes[step].loss_scale, 4096);
        EXPECT_FALSE(scaled.outcomes[step].skipped);
      }
      if (exact) continue;
      ASSERT_TRUE(plain.outcomes[0].spread && scaled.outcomes[0].spread);
      EXPECT_FLOAT_EQ(static_cast<float>(plain.outcomes[0].spread->mean_squared_norm),
                      static_cast<float>(scaled.outcomes[0].spread->mean_squared_norm));
    }
  }
}

/// Until gradients fit, steps change nothing, on all ranks alike, and the ones after are those that there
/// would have been.
TEST(LossScale, StepsWhoseGradientsOverflowAreSkipped) {
  for (const bool exact : {false, true})
    for (const double clip_norm : {0.0, 0.05})
      for (const std::string nodes : {"a", "aab"}) {
        SCOPED_TRACE(concat(exact ? "reproducible" : "f32", ", clip ", clip_norm, ", on ", nodes));
        const Trained standing = train(
            nodes, 20, SmallModel::plain, [](TrainerOptions&) {}, 0);
        const Trained trained = train(nodes, 20, SmallModel::plain, [=](TrainerOptions& options) {
          options.loss_scaling = {.first = std::ldexp(1.0, 133), .follows = true};
          options.optimizer.clip_norm = clip_norm;
          options.reproducible = exact;
        });
        ASSERT_EQ(trained.outcomes.size(), 20U);
        std::size_t skipped = 0;
        for (; skipped < 20 && trained.outcomes[skipped].skipped; ++skipped) {
          EXPECT_EQ(trained.outcomes[skipped].loss_scale, std::ldexp(1.0, 133 - static_cast<int>(skipped)));
          EXPECT_TRUE(trained.unchanged[skipped]) << skipped;
          EXPECT_NEAR(trained.outcomes[skipped].loss, standing.outcomes[skipped].loss, 1e-5) << skipped;
        }
        EXPECT_GE(skipped, 3U);
        EXPECT_LE(skipped, 12U);
        for (std::size_t step = skipped; step < 20; ++step) {
          EXPECT_FALSE(trained.outcomes[step].skipped) << step;
          EXPECT_FALSE(trained.unchanged[step]) << step;
          EXPECT_EQ(trained.outcomes[step].loss_scale, trained.outcomes[skipped].loss_scale);
          EXPECT_LT(trained.outcomes[step].gradient_norm, 100);
        }
      }
}

TEST(LossScale, GrowsAfterManyGoodSteps) {
  const Trained trained = train("a", 9, SmallModel::plain, [](TrainerOptions& options) {
    options.loss_scaling = {.first = 8, .follows = true, .growth_steps = 4};
  });
  std::vector<double> scales;
  for (const StepOutcome& outcome : trained.outcomes) scales.push_back(outcome.loss_scale);
  EXPECT_EQ(scales, (std::vector<double>{8, 8, 8, 8, 16, 16, 16, 16, 32}));
}

/// It is part of the state: a rank that comes new has it from the others.
TEST(LossScale, IsPartOfTheState) {
  expect_all_well(run_ranks({"a"}, [&](Result<Communicator>& communicator, int) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    SmallModel model(SmallModel::plain), other(SmallModel::plain);
    const TrainerOptions follows =
        options_with([](TrainerOptions& options) { options.loss_scaling = {.first = 64, .follows = true}; });
    auto trainer = Trainer::make(*communicator, model, follows);
    TrainerOptions another = follows;
    another.loss_scaling.first = 2;
    auto newcomer = Trainer::make(*communicator, other, another);
    if (!trainer.ok() || !newcomer.ok()) return "not made";
    const std::vector<StatePart> from = state_of(*trainer), to = state_of(*newcomer);
    for (std::size_t i = 0; i < from.size(); ++i) std::ranges::copy(from[i].bytes, to[i].bytes.begin());
    const auto outcome = newcomer->step(StepSpec{0, samples, 0.1, 77}, passes_of(0, 0, 1));
    if (!outcome.ok()) return outcome.error().message;
    return outcome->loss_scale == 64 ? "" : concat("has ", outcome->loss_scale);
  }));
}

/// A commit that fails is made good by each rank for itself, and a skipped step stays one.
TEST(LossScale, AStepThatIsRolledForwardIsSkippedAlike) {
  const auto with = [](bool fails) {
    std::vector<std::byte> state;
    expect_all_well(run_ranks({"aa"}, [&](Result<Communicator>& communicator, int rank) -> std::string {
      if (!communicator.ok()) return communicator.error().message;
      SmallModel model(SmallModel::norms);
      auto trainer = Trainer::make(*communicator, model, options_with([](TrainerOptions& options) {
        options.loss_scaling = {.first = std::ldexp(1.0, 128), .follows = true};
        options.reproducible = true;
      }));
      if (!trainer.ok()) return trainer.error().message;
      bool skipped = false, applied = false;
      for (std::int64_t step = 0; step < 12; ++step) {
        StepSpec spec{step, samples, 0.1, 77};
        spec.passes = 2 * passes_of_rank;
        if (fails) spec.plan_hash = static_cast<std::uint64_t>(100 + 10 * rank);  // the ranks disagree
        Result<StepOutcome> outcome = trainer->step(spec, passes_of(step, rank, 2));
        if (outcome.ok() == fails) return outcome.ok() ? "the commit succeeded" : outcome.error().message;
        if (fails) outcome = trainer->roll_forward();
        if (!outcome.ok()) return outcome.error().message;
        (outcome->skipped ? skipped : applied) = true;
      }
      if (!skipped || !applied) return "it is no test of both";
      if (rank == 0) state = bytes_of(state_of(*trainer));
      return {};
    }));
    return state;
  };
  const std::vector<std::byte> undisturbed = with(false);
  EXPECT_FALSE(undisturbed.empty());
  EXPECT_TRUE(with(true) == undisturbed);
}

/// A gradient that is infinite at any scale: at the least scale it is an error, which says what was applied.
class Exploding : public SmallModel {
 public:
  Exploding() : SmallModel(plain) {}
  Outcome loss(const Batch& batch) override {
    Outcome outcome = SmallModel::loss(batch);
    const torch::Tensor weight = module().parameters().front();
    // Its value is 0, and its derivative there is not finite.
    outcome.loss = outcome.loss + torch::sqrt(torch::abs(weight - weight.detach())).sum();
    return outcome;
  }
};

TEST(LossScale, WhatIsNeverFiniteEndsTheTraining) {
  for (const bool exact : {false, true}) {
    expect_all_well(run_ranks({"a"}, [&](Result<Communicator>& communicator, int) -> std::string {
      if (!communicator.ok()) return communicator.error().message;
      Exploding model;
      auto trainer = Trainer::make(*communicator, model, options_with([&](TrainerOptions& options) {
        options.loss_scaling = {.first = 4, .follows = true};
        options.reproducible = exact;
      }));
      if (!trainer.ok()) return trainer.error().message;
      for (std::int64_t step = 0; step < 4; ++step) {
        StepSpec spec{step, samples, 0.1, 77};
        spec.passes = passes_of_rank;
        const auto outcome = trainer->step(spec, passes_of(step, 0, 1));
        if (step < 2 && !(outcome.ok() && outcome->skipped)) return concat("step ", step, " was not skipped");
        if (step < 2) continue;
        if (outcome.ok()) return "the last scale's step passed";
        const std::string& why = outcome.error().message;
        return why.find("not finite at step 2; the weights are as they were: lower") == std::string::npos
                   ? why
                   : "";
      }
      return "there was no error";
    }));
  }
}

// ---- 16 bits

TEST(ComputeInBf16, LearnsWhatF32DoesWithOtherBits) {
  const auto in = [](ComputeType type) {
    return train("aa", 40, SmallModel::norms, [type](TrainerOptions& options) { options.compute = type; });
  };
  const Trained half = in(ComputeType::bf16), full = in(ComputeType::f32);
  EXPECT_FALSE(same_bits(half.weights, full.weights));
  for (const torch::Tensor& weight : half.weights) EXPECT_EQ(weight.scalar_type(), torch::kFloat);
  // 8 bits of mantissa: a step's loss is known to a percent or so.
  EXPECT_NEAR(half.outcomes[0].loss, full.outcomes[0].loss, 0.03 * full.outcomes[0].loss);
  EXPECT_LT(full.outcomes.back().loss, full.outcomes[0].loss);
  EXPECT_NEAR(half.outcomes.back().loss, full.outcomes.back().loss, 0.03 * full.outcomes[0].loss);
}

/// The networks that come with Paceline, with what they have of attention, norms and convolutions.
TEST(ComputeInBf16, BuiltInModelsTrainInIt) {
  const ModelConfig images{{3, 16, 16}, 4, {{"width", "4"}}, 0};
  const ModelConfig text{{8}, 0, {{"layers", "2"}, {"heads", "2"}, {"width", "8"}, {"context", "8"}}, 11};
  const std::vector<std::pair<std::string, ModelConfig>> models = {{"cnn", {{1, 28, 28}, 4, {}, 0}},
                                                                   {"mlp", {{1, 28, 28}, 4, {}, 0}},
                                                                   {"resnet18", images},
                                                                   {"gpt", text}};
  for (const auto& [kind, config] : models) {
    SCOPED_TRACE(kind);
    double losses[2] = {};
    for (const ComputeType compute : {ComputeType::f32, ComputeType::bf16}) {
      expect_all_well(run_ranks({"a"}, [&](Result<Communicator>& communicator, int) -> std::string {
        if (!communicator.ok()) return communicator.error().message;
        at::set_num_threads(1);
        torch::manual_seed(3);
        const auto model = make_model(kind, config);
        if (!model.ok()) return model.error().message;
        auto trainer =
            Trainer::make(*communicator, **model,
                          options_with([&](TrainerOptions& options) { options.compute = compute; }));
        if (!trainer.ok()) return trainer.error().message;
        std::vector<std::int64_t> shape = config.sample_shape;
        shape.insert(shape.begin(), 8);
        Batch batch{torch::randn(shape), torch::randint(4, {8}, torch::kLong)};
        if (config.vocabulary > 0)
          batch = {torch::randint(11, shape, torch::kLong), torch::randint(11, shape, torch::kLong)};
        for (std::int64_t step = 0; step < 3; ++step) {
          const auto outcome = trainer->step(StepSpec{step, 8, 0.01, 77}, std::vector<Pass>{{0, batch}});
          if (!outcome.ok()) return outcome.error().message;
          if (!(outcome->gradient_norm > 0)) return "there is no gradient";
          if (step == 0) losses[compute == ComputeType::bf16 ? 1 : 0] = outcome->loss;
        }
        return {};
      }));
    }
    EXPECT_NE(losses[0], losses[1]);
    EXPECT_NEAR(losses[0], losses[1], 0.05 * losses[0]);
  }
}

/// What is cast for the forward pass must not outlive an update of the weights.
TEST(ComputeInBf16, EachStepSeesTheNewWeights) {
  const Trained trained = train("a", 3, SmallModel::plain, [](TrainerOptions& options) {
    options.compute = ComputeType::bf16;
    options.optimizer.momentum = 0;
  });
  EXPECT_NE(trained.outcomes[1].gradient_norm, trained.outcomes[0].gradient_norm);
  EXPECT_NE(trained.outcomes[2].gradient_norm, trained.outcomes[1].gradient_norm);
}

TEST(ComputeInBf16, IsReproducibleTooOnAnyNumberOfRanks) {
  const auto on = [](const std::string& nodes) {
    Trained trained;
    const auto ranks = static_cast<std::int64_t>(nodes.size());
    expect_all_well(run_ranks({nodes}, [&](Result<Communicator>& communicator, int rank) -> std::string {
      if (!communicator.ok()) return communicator.error().message;
      at::set_num_threads(1);
      SmallModel model(SmallModel::norms);
      auto trainer = Trainer::make(*communicator, model, options_with([](TrainerOptions& options) {
        options.compute = ComputeType::bf16;
        options.reproducible = true;
      }));
      if (!trainer.ok()) return trainer.error().message;
      constexpr std::int64_t grains = 6, grain = samples / grains;
      for (std::int64_t step = 0; step < 5; ++step) {
        StepSpec spec{step, samples, 0.1, 77};
        spec.passes = grains;
        std::vector<Pass> passes;
        for (std::int64_t g = rank * grains / ranks; g < (rank + 1) * grains / ranks; ++g)
          passes.push_back({g * grain, batch_of(step, g * grain, grain)});
        const auto outcome = trainer->step(spec, passes);
        if (!outcome.ok()) return outcome.error().message;
      }
      if (rank == 0)
        for (const torch::Tensor& weight : model.module().parameters())
          trained.weights.push_back(weight.detach().clone());
      return {};
    }));
    return trained.weights;
  };
  const std::vector<torch::Tensor> alone = on("a");
  ASSERT_FALSE(alone.empty());
  EXPECT_TRUE(same_bits(alone, on("aa")));
  EXPECT_TRUE(same_bits(alone, on("aab")));
}

TEST(ComputeInBf16, EvaluatesInIt) {
  expect_all_well(run_ranks({"a"}, [&](Result<Communicator>& communicator, int) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    SmallModel model(SmallModel::plain);
    model.module().eval();
    double losses[2] = {};
    for (const bool half : {false, true}) {
      bool given = false;
      const auto evaluation = evaluate(
          *communicator, model,
          [&]() -> Result<Batch> { return std::exchange(given, true) ? Batch{} : batch_of(0, 0, samples); },
          half ? ComputeType::bf16 : ComputeType::f32);
      if (!evaluation.ok()) return evaluation.error().message;
      losses[half ? 1 : 0] = evaluation->loss;
    }
    if (losses[0] == losses[1]) return "it computed in f32";
    return std::abs(losses[1] - losses[0]) < 0.03 * losses[0] ? "" : concat(losses[0], " and ", losses[1]);
  }));
}

TEST(ComputeInF16, IsRefusedOnTheCpu) {
  expect_all_well(run_ranks({"a"}, [&](Result<Communicator>& communicator, int) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    SmallModel model(SmallModel::plain);
    const auto trainer =
        Trainer::make(*communicator, model,
                      options_with([](TrainerOptions& options) { options.compute = ComputeType::f16; }));
    if (trainer.ok()) return "it was made";
    return trainer.error().message == "LibTorch has no f16 on the CPU: set dtype to bf16 or f32"
               ? ""
               : trainer.error().message;
  }));
}

}  // namespace
}  // namespace paceline::testing
