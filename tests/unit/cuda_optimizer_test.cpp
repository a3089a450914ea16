// The optimizers' update rules as GPU kernels apply them, run here on the CPU: bit for bit against the
// worker's FlatOptimizer, and against the formulas in double precision.

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "../../allreduce/src/cuda/kernels/optimizer.cuh"
#include "../../allreduce/src/cuda/kernels/squares.cuh"
#include "paceline/train/optimizer.hpp"
#include "support/gpu_values.hpp"

namespace paceline::cuda::kernels {
namespace {

using testing::Misaligned;
using testing::walk_all;

// Ranges with weight decay, which begin and end within groups of 4.
constexpr std::size_t boundaries[] = {3, 90, 102, 103, 104, 1000, 1500, 2001};

struct Flat {
  explicit Flat(std::size_t count, std::size_t shift = 0)
      : parameters(count, shift),
        gradients(count, shift),
        first(count, shift),
        second(count, shift),
        copy(count, shift) {
    SplitMix64 random(count);
    for (std::size_t i = 0; i < count; ++i) parameters[i] = static_cast<float>(testing::normal(random));
  }
  Misaligned<float> parameters, gradients, first, second;
  Misaligned<std::uint16_t> copy;
};

void new_gradients(Flat& flat, std::size_t count, int step) {
  SplitMix64 random(mix64(count, step));
  for (std::size_t i = 0; i < count; ++i) {
    const int magnitude = static_cast<int>(random.below(40)) - 34;  // some so small that squares are denormal
    flat.gradients[i] =
        static_cast<float>(std::ldexp(testing::normal(random), i % 5 == 0 ? magnitude * 2 : magnitude));
  }
}

template <class Rule, class Copy = NoCopy>
void apply(Flat& flat, std::size_t count, const Coefficients& c, float factor) {
  const bool has_first = Rule::has_second || c.momentum != 0;
  Update<Rule, Plain<float>, Copy> update{flat.parameters.data(),
                                          flat.gradients.data(),
                                          has_first ? flat.first.data() : nullptr,
                                          Rule::has_second ? flat.second.data() : nullptr,
                                          flat.copy.data(),
                                          boundaries,
                                          std::size(boundaries),
                                          nullptr,
                                          c,
                                          factor};
  const Split parts = split({{flat.parameters.data(), 4}, {flat.gradients.data(), 4}, {flat.copy.data(), 2}},
                            update.group, count);
  walk_all(update, parts);
}

std::vector<FlatOptimizer::Range> decayed(std::size_t count) {
  std::vector<FlatOptimizer::Range> ranges;
  for (std::size_t i = 0; i + 1 < std::size(boundaries); i += 2)
    if (boundaries[i] < count) ranges.push_back({boundaries[i], std::min(boundaries[i + 1], count)});
  return ranges;
}

template <class Rule>
void check_against_flat_optimizer(const OptimizerConfig& config) {
  for (const std::size_t count : {1, 5, 101, 2003})
    for (const std::size_t shift : {0, 3}) {
      Flat flat(count, shift);
      FlatOptimizer cpu(config, count, decayed(count));
      std::vector<float> parameters(flat.parameters.data(), flat.parameters.data() + count);
      for (int t = 1; t <= 6; ++t) {
        new_gradients(flat, count, t);
        const double rate = 0.1 / t;
        const std::span<const float> gradients(flat.gradients.data(), count);
        const double squares = cpu.apply(parameters, gradients, rate);
        const Coefficients c =
            Rule::has_second
                ? adamw_coefficients(rate, config.beta1, config.beta2, config.epsilon, config.weight_decay, t)
                : sgd_coefficients(rate, config.momentum, config.nesterov, config.weight_decay);
        apply<Rule>(flat, count, c, factor_for(squares, config.clip_norm, 1));
        const FlatOptimizer::State state = cpu.state();
        for (std::size_t i = 0; i < count; ++i) {
          ASSERT_EQ(bits_as<std::uint32_t>(flat.parameters[i]), bits_as<std::uint32_t>(parameters[i])) << i;
          ASSERT_EQ(bits_as<std::uint32_t>(flat.first[i]), bits_as<std::uint32_t>(state.momentum[i])) << i;
          if (Rule::has_second) {
            ASSERT_EQ(bits_as<std::uint32_t>(flat.second[i]), bits_as<std::uint32_t>(state.second_moment[i]))
                << i;
          }
        }
      }
      ASSERT_TRUE(flat.parameters.untouched_around() && flat.first.untouched_around() &&
                  flat.second.untouched_around());
    }
}

TEST(CudaOptimizer, SgdHasTheBitsOfFlatOptimizer) {
  OptimizerConfig config;
  config.weight_decay = 0.01;
  check_against_flat_optimizer<Sgd>(config);
  config.momentum = 0.9;
  check_against_flat_optimizer<Sgd>(config);
  config.nesterov = true;
  config.clip_norm = 0.5;
  check_against_flat_optimizer<Sgd>(config);
}

TEST(CudaOptimizer, AdamWHasTheBitsOfFlatOptimizer) {
  OptimizerConfig config;
  config.kind = OptimizerKind::adamw;
  check_against_flat_optimizer<AdamW>(config);
  config.weight_decay = 0.1;
  config.clip_norm = 0.5;
  check_against_flat_optimizer<AdamW>(config);
}

TEST(CudaOptimizer, AdamWFollowsTheFormulaInDoubles) {
  constexpr std::size_t count = 2003;
  constexpr double rate = 0.01, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, decay = 0.1, factor = 0.25;
  Flat flat(count);
  std::vector<double> p(count), m(count, 0.0), v(count, 0.0);
  for (std::size_t i = 0; i < count; ++i) p[i] = static_cast<double>(flat.parameters[i]);
  for (int t = 1; t <= 20; ++t) {
    new_gradients(flat, count, t);
    for (std::size_t i = 0; i < count; ++i) {
      const double g = factor * static_cast<double>(flat.gradients[i]);
      m[i] = beta1 * m[i] + (1 - beta1) * g;
      v[i] = beta2 * v[i] + (1 - beta2) * g * g;
      std::size_t passed = 0;
      while (passed < std::size(boundaries) && boundaries[passed] <= i) ++passed;
      if (passed % 2 == 1) p[i] -= rate * decay * p[i];
      p[i] -=
          rate * (m[i] / (1 - std::pow(beta1, t))) / (std::sqrt(v[i] / (1 - std::pow(beta2, t))) + epsilon);
    }
    apply<AdamW>(flat, count, adamw_coefficients(rate, beta1, beta2, epsilon, decay, t),
                 static_cast<float>(factor));
  }
  for (std::size_t i = 0; i < count; ++i)
    ASSERT_NEAR(static_cast<double>(flat.parameters[i]), p[i], 2e-5 * (1 + std::abs(p[i]))) << i;
}

TEST(CudaOptimizer, SgdFollowsTheFormulaInDoubles) {
  constexpr std::size_t count = 997;
  constexpr double rate = 0.05, momentum = 0.9, decay = 0.01;
  Flat flat(count);
  std::vector<double> p(count), m(count, 0.0);
  for (std::size_t i = 0; i < count; ++i) p[i] = static_cast<double>(flat.parameters[i]);
  for (int t = 1; t <= 20; ++t) {
    new_gradients(flat, count, t);
    for (std::size_t i = 0; i < count; ++i) {
      std::size_t passed = 0;
      while (passed < std::size(boundaries) && boundaries[passed] <= i) ++passed;
      const double g = static_cast<double>(flat.gradients[i]) + (passed % 2 == 1 ? decay * p[i] : 0);
      m[i] = momentum * m[i] + g;
      p[i] -= rate * (g + momentum * m[i]);
    }
    apply<Sgd>(flat, count, sgd_coefficients(rate, momentum, true, decay), 1);
  }
  for (std::size_t i = 0; i < count; ++i)
    ASSERT_NEAR(static_cast<double>(flat.parameters[i]), p[i], 1e-5 * (1 + std::abs(p[i]))) << i;
}

TEST(CudaOptimizer, TheCopyIsTheNewParameterRounded) {
  constexpr std::size_t count = 1003;
  Flat flat(count, 1);
  new_gradients(flat, count, 1);
  apply<AdamW, BF16>(flat, count, adamw_coefficients(0.1, 0.9, 0.999, 1e-8, 0, 1), 1);
  for (std::size_t i = 0; i < count; ++i) ASSERT_EQ(flat.copy[i], narrow_bf16(flat.parameters[i]));
  new_gradients(flat, count, 2);
  apply<Sgd, F16>(flat, count, sgd_coefficients(0.1, 0.9, false, 0), 1);
  for (std::size_t i = 0; i < count; ++i) ASSERT_EQ(flat.copy[i], narrow_f16(flat.parameters[i]));
  ASSERT_TRUE(flat.copy.untouched_around());
}

TEST(CudaOptimizer, WithoutMomentumNoStateIsTouched) {
  constexpr std::size_t count = 9;
  Flat flat(count);
  new_gradients(flat, count, 1);
  std::vector<float> expected(count);
  for (std::size_t i = 0; i < count; ++i) expected[i] = flat.parameters[i] - 0.5F * flat.gradients[i];
  Update<Sgd, Plain<float>, NoCopy> update{flat.parameters.data(),
                                           flat.gradients.data(),
                                           nullptr,
                                           nullptr,
                                           nullptr,
                                           nullptr,
                                           0,
                                           nullptr,
                                           sgd_coefficients(0.5, 0, false, 0.1),
                                           1.0F};
  walk_all(update, split({{flat.parameters.data(), 4}, {flat.gradients.data(), 4}}, update.group, count));
  for (std::size_t i = 0; i < count; ++i) ASSERT_EQ(flat.parameters[i], expected[i]);
}

TEST(CudaOptimizer, TakesGradientsOfSixteenBits) {
  constexpr std::size_t count = 333;
  Flat with_half(count), with_float(count);
  Misaligned<std::uint16_t> half(count, 0);
  new_gradients(with_float, count, 1);
  for (std::size_t i = 0; i < count; ++i) {
    half[i] = narrow_bf16(with_float.gradients[i]);
    with_float.gradients[i] = widen_bf16(half[i]);
  }
  const Coefficients c = adamw_coefficients(0.1, 0.9, 0.999, 1e-8, 0.1, 1);
  apply<AdamW>(with_float, count, c, 0.5F);
  Update<AdamW, BF16, NoCopy> update{with_half.parameters.data(),
                                     half.data(),
                                     with_half.first.data(),
                                     with_half.second.data(),
                                     nullptr,
                                     boundaries,
                                     std::size(boundaries),
                                     nullptr,
                                     c,
                                     0.5F};
  walk_all(update, split({{with_half.parameters.data(), 4}, {half.data(), 2}}, update.group, count));
  for (std::size_t i = 0; i < count; ++i) ASSERT_EQ(with_half.parameters[i], with_float.parameters[i]);
}

}  // namespace
}  // namespace paceline::cuda::kernels
