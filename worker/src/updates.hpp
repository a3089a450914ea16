#pragma once

#include <torch/torch.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "paceline/base/result.hpp"
#include "paceline/train/optimizer.hpp"

namespace paceline {

/// What an optimizer is made for: flat memory of so many places, of which ascending ranges are decayed.
struct UpdateRules {
  OptimizerConfig config;
  std::size_t elements = 0;
  std::vector<FlatOptimizer::Range> decayed;
  torch::Tensor uploads;  ///< on a device, where gradients of the host's memory go first
};

/// The optimizer where the weights are: FlatOptimizer, or the same arithmetic in a device's memory, where
/// only squares of gradients that lie there are added up in another order. One thread.
class Updates {
 public:
  Updates() = default;
  Updates(const Updates&) = delete;
  Updates& operator=(const Updates&) = delete;
  virtual ~Updates() = default;

  struct Applied {
    double squares = 0;   ///< of the gradients times `use.factor`, before clipping, in a fixed order
    bool changed = true;  ///< false: squares are not finite, and weights and state are as they were; that is
                          ///< so in any case where clipping or `use.must_be_finite` says so
  };
  /// One update of `parameters`, which has the rules' places. `gradients` has them too, in this memory or the
  /// host's. What the thread's stream holds comes before, and what it gets comes after.
  [[nodiscard]] virtual Result<Applied> apply(const torch::Tensor& parameters, const torch::Tensor& gradients,
                                              double learning_rate, FlatOptimizer::Use use) = 0;

  /// What lasts, where it is; second_moment is undefined for sgd.
  struct State {
    torch::Tensor momentum;
    torch::Tensor second_moment;
    std::int64_t& updates;
  };
  [[nodiscard]] virtual State state() = 0;
};

[[nodiscard]] std::unique_ptr<Updates> make_host_updates(UpdateRules rules);

}  // namespace paceline
