#include <gtest/gtest.h>
#include <torch/torch.h>

#include <array>
#include <limits>

#include "../../worker/src/bucket_layout.hpp"
#include "../../worker/src/limbs.hpp"
#include "../../worker/src/optimizer/kernels.hpp"
#include "paceline/train/models.hpp"
#include "paceline/train/optimizer.hpp"

namespace paceline {
namespace {

TEST(BucketLayout, CoversEveryParameterOnceInReverseOrder) {
  const std::vector<std::size_t> sizes = {100, 7, 5000, 1, 64, 33};
  for (const std::size_t limit :
       {std::size_t{1}, std::size_t{128}, std::size_t{1000}, std::size_t{1} << 30}) {
    const BucketLayout layout = BucketLayout::make(sizes, 5, limit);
    std::size_t at = 0;
    std::size_t expected = sizes.size();
    for (const BucketLayout::Bucket& bucket : layout.buckets) {
      EXPECT_EQ(bucket.begin, at);
      for (const std::size_t parameter : bucket.parameters) {
        EXPECT_EQ(parameter, --expected);
        EXPECT_GE(layout.offset[parameter], at);
        EXPECT_EQ(layout.offset[parameter] % 16, 0U);
        EXPECT_EQ(&layout.buckets[layout.bucket_of[parameter]], &bucket);
        at = layout.offset[parameter] + sizes[parameter];
        EXPECT_LE(at, bucket.end);
      }
      if (bucket.parameters.size() > 1) {
        EXPECT_LE(bucket.end - bucket.begin, std::max(limit, std::size_t{0}) + 16);
      }
      at = bucket.end;
    }
    EXPECT_EQ(expected, 0U);
    EXPECT_EQ(layout.elements, at);
    EXPECT_LE(layout.tail + 5, layout.elements);
  }
}

TEST(Limbs, AddUpExactlyFor65536Ranks) {
  constexpr std::uint64_t word = 0xffffffffffffffffU;
  std::array<float, limb_count> one{};
  std::array<float, limb_count> sum{};
  put_limbs(word, one);
  for (int rank = 0; rank < 65'536; ++rank)
    for (std::size_t i = 0; i < limb_count; ++i) sum[i] += one[i];
  EXPECT_EQ(sum_of_limbs(sum), word * 65'536);
  put_limbs(0x0123456789abcdefU, one);
  EXPECT_EQ(sum_of_limbs(one), 0x0123456789abcdefU);
}

TEST(Limbs, WhatIsNoSumOfThemIsNoticed) {
  std::array<float, limb_count> places{};
  EXPECT_EQ(sum_of_limbs(places), 0U);
  for (const float wrong :
       {-1.0F, 0.5F, 2e7F, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    places[3] = wrong;
    EXPECT_FALSE(sum_of_limbs(places).has_value()) << wrong;
  }
}

/// Our update and LibTorch's, side by side on the same gradients; gives the largest difference.
template <class TorchOptimizer, class TorchOptions>
double compare(const OptimizerConfig& config, const TorchOptions& torch_options, double learning_rate) {
  constexpr std::int64_t elements = 70003;  // over a block, and no multiple of any vector
  torch::manual_seed(3);
  torch::Tensor theirs = torch::randn({elements});
  std::vector<float> ours(theirs.data_ptr<float>(), theirs.data_ptr<float>() + elements);
  TorchOptimizer optimizer(std::vector<torch::Tensor>{theirs}, torch_options);
  FlatOptimizer flat(config, ours.size(), {{0, ours.size()}});
  for (int update = 0; update < 5; ++update) {
    theirs.mutable_grad() = torch::randn({elements});
    const torch::Tensor gradient = theirs.grad().clone();
    const double squares = flat.apply(ours, {gradient.data_ptr<float>(), ours.size()}, learning_rate);
    EXPECT_NEAR(squares, gradient.to(torch::kDouble).square().sum().item<double>(), 1e-6 * squares);
    if (config.clip_norm > 0) torch::nn::utils::clip_grad_norm_(theirs, config.clip_norm);
    optimizer.step();
  }
  return (theirs - torch::from_blob(ours.data(), {elements})).abs().max().template item<double>();
}

TEST(FlatOptimizer, SgdIsLibTorchs) {
  for (const bool nesterov : {false, true}) {
    OptimizerConfig config;
    config.momentum = 0.9;
    config.nesterov = nesterov;
    config.weight_decay = 0.01;
    const auto theirs = torch::optim::SGDOptions(0.1).momentum(0.9).nesterov(nesterov).weight_decay(0.01);
    EXPECT_LT((compare<torch::optim::SGD>(config, theirs, 0.1)), 2e-6);
  }
}

TEST(FlatOptimizer, AdamWIsLibTorchs) {
  OptimizerConfig config;
  config.kind = OptimizerKind::adamw;
  config.weight_decay = 0.02;
  const auto theirs = torch::optim::AdamWOptions(0.01).weight_decay(0.02);
  EXPECT_LT((compare<torch::optim::AdamW>(config, theirs, 0.01)), 5e-6);
}

TEST(FlatOptimizer, ClippingIsLibTorchs) {
  const double norm = std::sqrt(70003.0);  // about that of the gradients
  for (const double clip_norm : {0.01 * norm, 0.999 * norm, 2 * norm}) {
    OptimizerConfig sgd;
    sgd.momentum = 0.9;
    sgd.weight_decay = 0.01;
    sgd.clip_norm = clip_norm;
    const auto their_sgd = torch::optim::SGDOptions(0.1).momentum(0.9).weight_decay(0.01);
    EXPECT_LT((compare<torch::optim::SGD>(sgd, their_sgd, 0.1)), 2e-6) << clip_norm;
    OptimizerConfig adamw;
    adamw.kind = OptimizerKind::adamw;
    adamw.weight_decay = 0.02;
    adamw.clip_norm = clip_norm;
    const auto their_adamw = torch::optim::AdamWOptions(0.01).weight_decay(0.02);
    EXPECT_LT((compare<torch::optim::AdamW>(adamw, their_adamw, 0.01)), 5e-6) << clip_norm;
  }
}

TEST(FlatOptimizer, WithClippingAGradientThatIsNotFiniteChangesNothing) {
  OptimizerConfig config;
  config.momentum = 0.9;
  config.clip_norm = 1;
  FlatOptimizer optimizer(config, 100, {});
  std::vector<float> parameters(100, 1.0F);
  std::vector<float> gradients(100, 3.0F);
  gradients[77] = std::numeric_limits<float>::infinity();
  EXPECT_FALSE(std::isfinite(optimizer.apply(parameters, gradients, 1.0)));
  EXPECT_EQ(parameters, std::vector<float>(100, 1.0F));
  EXPECT_EQ(optimizer.updates(), 0);
  gradients[77] = 3.0F;
  EXPECT_EQ(optimizer.apply(parameters, gradients, 1.0), 900);
  EXPECT_NEAR(parameters[0], 1 - 3 / 30.0, 1e-6) << "the momentum is as if nothing had been before";
}

TEST(FlatOptimizer, HasTheSameBitsOnEveryInstructionSet) {
  struct State {
    std::vector<float> parameters, first, second;
    double squares[3];
    bool operator==(const State&) const = default;
  };
  constexpr std::size_t count = 4096 + 11;
  const auto run = [](const optimizer::Kernels& kernels) {
    State state;
    std::vector<float> gradients;
    for (std::size_t i = 0; i < count; ++i) {
      const auto x = static_cast<double>(i);
      state.parameters.push_back(static_cast<float>(std::sin(x)));
      state.first.push_back(static_cast<float>(std::cos(x) / 7));
      state.second.push_back(static_cast<float>(1 + std::sin(3 * x)));
      gradients.push_back(static_cast<float>(std::sin(x * x) / 3));
    }
    const optimizer::Coefficients c{0.37F, 0.01F, 0.9F,  0.02F, 0.9F,  0.1F,
                                    0.99F, 0.01F, 0.03F, 0.7F,  1e-8F, true};
    const optimizer::Arrays arrays{state.parameters.data(), gradients.data(), state.first.data(),
                                   state.second.data(), count};
    state.squares[0] = kernels.squares(gradients.data(), count);
    state.squares[1] = kernels.sgd(arrays, c);
    state.squares[2] = kernels.adamw(arrays, c);
    return state;
  };
  const State generic = run(optimizer::generic::kernels());
  EXPECT_EQ(generic.squares[0], generic.squares[1]);
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx2")) {
    EXPECT_TRUE(run(optimizer::avx2::kernels()) == generic);
  }
  if (__builtin_cpu_supports("avx512f")) {
    EXPECT_TRUE(run(optimizer::avx512::kernels()) == generic);
  }
#endif
}

TEST(FlatOptimizer, DecaysOnlyItsRanges) {
  OptimizerConfig config;
  config.weight_decay = 0.5;
  FlatOptimizer optimizer(config, 40, {{16, 20}, {32, 40}});
  std::vector<float> parameters(40, 1.0F);
  const std::vector<float> gradients(40, 0.0F);
  optimizer.apply(parameters, gradients, 1.0);
  for (std::size_t i = 0; i < parameters.size(); ++i)
    EXPECT_EQ(parameters[i], (i >= 16 && i < 20) || i >= 32 ? 0.5F : 1.0F) << i;
}

std::int64_t parameter_count(const std::string& kind, const ModelConfig& config) {
  const auto model = make_model(kind, config);
  EXPECT_TRUE(model.ok());
  std::int64_t count = 0;
  for (const torch::Tensor& parameter : model.value()->module().parameters()) count += parameter.numel();
  EXPECT_EQ(
      model.value()
          ->forward(torch::zeros({2, config.sample_shape[0], config.sample_shape[1], config.sample_shape[2]}))
          .sizes(),
      (std::vector<std::int64_t>{2, config.classes}));
  return count;
}

TEST(Models, HaveTheParametersThatTheirDescriptionsSay) {
  const ModelConfig images{{1, 28, 28}, 10, {}};
  EXPECT_EQ(parameter_count("cnn", images), 105'866);
  EXPECT_EQ(parameter_count("mlp", images), 784 * 2048 + 2048 + 2048 * 2048 + 2048 + 2048 * 10 + 10);
  // He et al.'s ResNet-18 with a 3x3 stem for three channels and ten classes.
  EXPECT_EQ(parameter_count("resnet18", {{3, 32, 32}, 10, {}}), 11'173'962);
}

TEST(Models, BadRequestsAreSentences) {
  const ModelConfig images{{1, 28, 28}, 10, {}};
  EXPECT_NE(make_model("cnm", images).error().message.find("no model \"cnm\""), std::string::npos);
  EXPECT_NE(
      make_model("cnn", {{1, 28, 28}, 10, {{"widht", "3"}}}).error().message.find("no option \"widht\""),
      std::string::npos);
  EXPECT_FALSE(make_model("mlp", {{1, 28, 28}, 10, {{"hidden", "many"}}}).ok());
  EXPECT_NE(make_model("mlp", {{1, 28, 28}, 10, {{"hidden", "64x"}}})
                .error()
                .message.find("model.hidden is \"64x\": it must be a whole number"),
            std::string::npos);
  EXPECT_FALSE(make_model("cnn", {{784}, 10, {}}).ok());
  EXPECT_EQ(load_plugin("/nowhere/libmine.so", images).error().code, ErrorCode::not_found);
  EXPECT_NE(load_plugin("libtorch_cpu.so", images).error().message.find("./libtorch_cpu.so"),
            std::string::npos);
}

}  // namespace
}  // namespace paceline
