#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace paceline {

enum class OptimizerKind { sgd, adamw };

struct OptimizerConfig {
  OptimizerKind kind = OptimizerKind::sgd;
  double momentum = 0;                  ///< sgd
  bool nesterov = false;                ///< sgd
  double weight_decay = 0;              ///< sgd: added to the gradient; adamw: decoupled from it
  bool decay_norms_and_biases = false;  ///< else tensors of fewer than two dimensions are not decayed
  double beta1 = 0.9;                   ///< adamw
  double beta2 = 0.999;                 ///< adamw
  double epsilon = 1e-8;                ///< adamw
  double clip_norm = 0;                 ///< gradients of a larger norm are scaled down to it; 0: never
};

/// In f64, in a fixed order: the same bits on every instruction set. Any thread.
[[nodiscard]] double sum_of_squares(std::span<const float> values);

/// What gradients with these squares are scaled by, so that their norm is no larger than `clip_norm`; 1 where
/// that is 0. As torch::nn::utils::clip_grad_norm_ has it.
[[nodiscard]] double clipping(double squares, double clip_norm);

/// SGD with momentum (Sutskever et al. 2013, in PyTorch's form) or AdamW (Loshchilov and Hutter 2019) on flat
/// memory: parameters, gradients and state are arrays with the same places, and an update is one pass over
/// them; clipping takes one more over the gradients, for their norm. The same bits on every instruction set.
/// One thread.
class FlatOptimizer {
 public:
  /// `elements` places in all. Those in a range of `decayed` have weight decay.
  struct Range {
    std::size_t begin = 0;
    std::size_t end = 0;
  };
  FlatOptimizer(OptimizerConfig config, std::size_t elements, std::vector<Range> decayed);

  /// What is made of gradients before anything else.
  struct Use {
    double factor = 1;  ///< above 0
    bool must_be_finite =
        false;  ///< else nothing is applied; costs a pass over them where there is no clipping
  };
  /// One update; gives the sum of squares of the gradients times `use.factor`, before clipping, added up in a
  /// fixed order. With clipping, or where it must be finite, a sum that is not leaves everything as it was.
  double apply(std::span<float> parameters, std::span<const float> gradients, double learning_rate, Use use);
  double apply(std::span<float> parameters, std::span<const float> gradients, double learning_rate) {
    return apply(parameters, gradients, learning_rate, Use{});
  }

  /// Updates applied so far.
  [[nodiscard]] std::int64_t updates() const noexcept { return updates_; }

  /// All of its state, for copying out and in.
  struct State {
    std::span<float> momentum;
    std::span<float> second_moment;  ///< empty: sgd
    std::int64_t& updates;
  };
  [[nodiscard]] State state() noexcept { return {momentum_, second_moment_, updates_}; }

 private:
  double update(std::span<float> parameters, std::span<const float> gradients, double learning_rate,
                double gradient_scale);

  struct Piece {
    Range range;
    bool decayed = false;
  };
  OptimizerConfig config_;
  std::vector<Piece> pieces_;  // cover all elements, ascending
  std::vector<float> momentum_;
  std::vector<float> second_moment_;  // adamw
  std::int64_t updates_ = 0;
};

}  // namespace paceline
