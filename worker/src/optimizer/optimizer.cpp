#include "paceline/train/optimizer.hpp"

#include <algorithm>
#include <cmath>

#include "kernels.hpp"
#include "paceline/base/assert.hpp"

namespace paceline {
namespace {

optimizer::Kernels widest_kernels() {
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx512f")) return optimizer::avx512::kernels();
  if (__builtin_cpu_supports("avx2")) return optimizer::avx2::kernels();
#endif
  return optimizer::generic::kernels();
}

// Long pieces are updated block by block, and the blocks' sums of squares added in f64.
constexpr std::size_t block_elements = 65536;

const optimizer::Kernels& kernels() {
  static const optimizer::Kernels widest = widest_kernels();
  return widest;
}

// Keeps the division away from zero.
constexpr double clip_epsilon = 1e-6;

}  // namespace

double sum_of_squares(std::span<const float> values) {
  double squares = 0;
  for (std::size_t begin = 0; begin < values.size(); begin += block_elements)
    squares += kernels().squares(values.data() + begin, std::min(block_elements, values.size() - begin));
  return squares;
}

double clipping(double squares, double clip_norm) {
  return clip_norm == 0 ? 1 : std::min(1.0, clip_norm / (std::sqrt(squares) + clip_epsilon));
}

FlatOptimizer::FlatOptimizer(OptimizerConfig config, std::size_t elements, std::vector<Range> decayed)
    : config_(config),
      momentum_(elements),
      second_moment_(config.kind == OptimizerKind::adamw ? elements : 0) {
  std::size_t at = 0;
  for (const Range& range : decayed) {
    PACELINE_ASSERT(range.begin >= at && range.end <= elements, "decayed ranges ascend");
    if (range.begin > at) pieces_.push_back({{at, range.begin}, false});
    pieces_.push_back({range, true});
    at = range.end;
  }
  if (at < elements) pieces_.push_back({{at, elements}, false});
}

double FlatOptimizer::apply(std::span<float> parameters, std::span<const float> gradients,
                            double learning_rate, Use use) {
  PACELINE_ASSERT(parameters.size() == momentum_.size() && gradients.size() == momentum_.size(),
                  "all arrays have the same places");
  const double factor_squared = use.factor * use.factor;
  if (config_.clip_norm == 0 && !use.must_be_finite)
    return factor_squared * update(parameters, gradients, learning_rate, use.factor);
  const double squares = factor_squared * sum_of_squares(gradients);
  if (!std::isfinite(squares)) return squares;
  update(parameters, gradients, learning_rate, use.factor * clipping(squares, config_.clip_norm));
  return squares;
}

double FlatOptimizer::update(std::span<float> parameters, std::span<const float> gradients,
                             double learning_rate, double gradient_scale) {
  ++updates_;
  const double t = static_cast<double>(updates_);
  optimizer::Coefficients c{};
  c.gradient_scale = static_cast<float>(gradient_scale);
  c.learning_rate = static_cast<float>(learning_rate);
  c.momentum = static_cast<float>(config_.momentum);
  c.nesterov = config_.nesterov;
  c.beta1 = static_cast<float>(config_.beta1);
  c.one_minus_beta1 = static_cast<float>(1 - config_.beta1);
  c.beta2 = static_cast<float>(config_.beta2);
  c.one_minus_beta2 = static_cast<float>(1 - config_.beta2);
  c.step_size = static_cast<float>(learning_rate / (1 - std::pow(config_.beta1, t)));
  c.root_of_correction = static_cast<float>(std::sqrt(1 - std::pow(config_.beta2, t)));
  c.epsilon = static_cast<float>(config_.epsilon);
  const auto rule = config_.kind == OptimizerKind::adamw ? kernels().adamw
                    : config_.momentum == 0              ? kernels().plain_sgd
                                                         : kernels().sgd;
  double squares = 0;
  for (const Piece& piece : pieces_) {
    c.weight_decay = piece.decayed ? static_cast<float>(config_.weight_decay) : 0.0F;
    for (std::size_t begin = piece.range.begin; begin < piece.range.end; begin += block_elements) {
      const optimizer::Arrays arrays{parameters.data() + begin, gradients.data() + begin,
                                     momentum_.data() + begin,
                                     second_moment_.empty() ? nullptr : second_moment_.data() + begin,
                                     std::min(block_elements, piece.range.end - begin)};
      squares += rule(arrays, c);
    }
  }
  return squares;
}

}  // namespace paceline
