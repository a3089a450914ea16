#pragma once

// The update rules of the worker's FlatOptimizer (worker/src/optimizer/body.inc), bit for bit, with gradients
// of 16 bits, and a copy of the parameters in 16 bits, where those are wanted.

#include <cmath>

#include "element.cuh"
#include "walk.cuh"

namespace paceline::cuda::kernels {

/// All that an update needs, in f32: computed once in f64 on the host.
struct Coefficients {
  float learning_rate;
  float momentum;
  float weight_decay;
  float beta1, one_minus_beta1;
  float beta2, one_minus_beta2;
  float step_size;           ///< adamw: learning rate / (1 - beta1^t)
  float root_of_correction;  ///< adamw: sqrt(1 - beta2^t)
  float epsilon;
  bool nesterov;
};

inline Coefficients sgd_coefficients(double learning_rate, double momentum, bool nesterov,
                                     double weight_decay) {
  Coefficients c{};
  c.learning_rate = static_cast<float>(learning_rate);
  c.momentum = static_cast<float>(momentum);
  c.nesterov = nesterov;
  c.weight_decay = static_cast<float>(weight_decay);
  return c;
}

/// Of update `t`, the first being 1.
inline Coefficients adamw_coefficients(double learning_rate, double beta1, double beta2, double epsilon,
                                       double weight_decay, std::int64_t t) {
  const auto updates = static_cast<double>(t);
  Coefficients c{};
  c.learning_rate = static_cast<float>(learning_rate);
  c.weight_decay = static_cast<float>(weight_decay);
  c.beta1 = static_cast<float>(beta1);
  c.one_minus_beta1 = static_cast<float>(1 - beta1);
  c.beta2 = static_cast<float>(beta2);
  c.one_minus_beta2 = static_cast<float>(1 - beta2);
  c.step_size = static_cast<float>(learning_rate / (1 - std::pow(beta1, updates)));
  c.root_of_correction = static_cast<float>(std::sqrt(1 - std::pow(beta2, updates)));
  c.epsilon = static_cast<float>(epsilon);
  return c;
}

/// One element's parameter and state, from before to after.
struct Place {
  float parameter;
  float first;   ///< momentum
  float second;  ///< adamw
};

struct Sgd {
  static constexpr bool has_second = false;
  PACELINE_HD static Place update(const Coefficients& c, float weight_decay, float factor, float gradient,
                                  Place before) {
    const float g = factor * gradient + weight_decay * before.parameter;
    const float buffer = c.momentum * before.first + g;
    const float step = c.nesterov ? g + c.momentum * buffer : buffer;
    return {before.parameter - c.learning_rate * step, buffer, 0.0F};
  }
};

struct AdamW {
  static constexpr bool has_second = true;
  PACELINE_HD static Place update(const Coefficients& c, float weight_decay, float factor, float gradient,
                                  Place before) {
    const float g = factor * gradient;
    const float first = c.beta1 * before.first + c.one_minus_beta1 * g;
    const float second = c.beta2 * before.second + c.one_minus_beta2 * (g * g);
    const float decayed = before.parameter - c.learning_rate * weight_decay * before.parameter;
    const float root = sqrtf(second) / c.root_of_correction + c.epsilon;
    return {decayed - c.step_size * first / root, first, second};
  }
};

/// How many of the ascending `boundaries` are at or before `element`.
PACELINE_HD std::size_t boundaries_before(const std::size_t* boundaries, std::size_t count,
                                          std::size_t element) {
  std::size_t low = 0;
  while (low < count) {
    const std::size_t middle = low + (count - low) / 2;
    if (boundaries[middle] <= element)
      low = middle + 1;
    else
      count = middle;
  }
  return low;
}

struct NoCopy {
  using Stored = std::uint16_t;
};

template <class Rule, class Gradient, class Copy>
struct Update {
  using G = typename Gradient::Stored;
  static constexpr int group = 4;
  static constexpr int unroll = 1;
  static constexpr bool copies = !std::is_same_v<Copy, NoCopy>;
  template <int n>
  struct Loaded {
    Pack<float, n> parameter, first, second;
    Pack<G, n> gradient;
  };

  float* parameters;
  const G* gradients;
  float* first_moment;  ///< null: sgd without momentum
  float* second_moment;
  std::uint16_t* copy;
  const std::size_t* boundaries;  ///< where weight decay begins and ends in turn
  std::size_t boundary_count;
  const float* factor_at;  ///< null: 1
  Coefficients c;
  float factor;  ///< one thread's copy of what is there

  template <int n>
  PACELINE_HD Loaded<n> load(std::size_t at) const {
    Loaded<n> loaded = {};
    loaded.gradient = kernels::load<n>(gradients + at);
    loaded.parameter = kernels::load<n>(static_cast<const float*>(parameters) + at);
    if (Rule::has_second || first_moment != nullptr)
      loaded.first = kernels::load<n>(static_cast<const float*>(first_moment) + at);
    if constexpr (Rule::has_second)
      loaded.second = kernels::load<n>(static_cast<const float*>(second_moment) + at);
    return loaded;
  }

  template <int n>
  PACELINE_HD void finish(std::size_t at, const Loaded<n>& loaded) const {
    std::size_t passed = boundaries_before(boundaries, boundary_count, at);
    Loaded<n> after;
    Pack<std::uint16_t, n> narrow;
    PACELINE_UNROLL
    for (int e = 0; e < n; ++e) {
      while (passed < boundary_count && boundaries[passed] <= at + e) ++passed;
      const float decay = passed % 2 == 1 ? c.weight_decay : 0.0F;
      const Place place = Rule::update(c, decay, factor, Gradient::widen(loaded.gradient.at[e]),
                                       {loaded.parameter.at[e], loaded.first.at[e], loaded.second.at[e]});
      after.parameter.at[e] = place.parameter;
      after.first.at[e] = place.first;
      after.second.at[e] = place.second;
      if constexpr (copies) narrow.at[e] = Copy::narrow(place.parameter);
    }
    store(parameters + at, after.parameter);
    if (Rule::has_second || first_moment != nullptr) store(first_moment + at, after.first);
    if constexpr (Rule::has_second) store(second_moment + at, after.second);
    if constexpr (copies) store(copy + at, narrow);
  }
};

}  // namespace paceline::cuda::kernels
