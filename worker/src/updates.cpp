#include "updates.hpp"

#include <cmath>
#include <span>
#include <utility>

namespace paceline {
namespace {

std::span<float> values_of(const torch::Tensor& flat) {
  return {flat.data_ptr<float>(), static_cast<std::size_t>(flat.numel())};
}

torch::Tensor view_of(std::span<float> values) {
  if (values.empty()) return {};
  return torch::from_blob(values.data(), {std::ssize(values)}, torch::kFloat);
}

class HostUpdates final : public Updates {
 public:
  explicit HostUpdates(UpdateRules rules)
      : always_checks_(rules.config.clip_norm > 0),
        optimizer_(rules.config, rules.elements, std::move(rules.decayed)) {}

  [[nodiscard]] Result<Applied> apply(const torch::Tensor& parameters, const torch::Tensor& gradients,
                                      double learning_rate, FlatOptimizer::Use use) override {
    const double squares = optimizer_.apply(values_of(parameters), values_of(gradients), learning_rate, use);
    return Applied{squares, std::isfinite(squares) || !(always_checks_ || use.must_be_finite)};
  }
  [[nodiscard]] State state() override {
    const FlatOptimizer::State state = optimizer_.state();
    return {view_of(state.momentum), view_of(state.second_moment), state.updates};
  }

 private:
  bool always_checks_;
  FlatOptimizer optimizer_;
};

}  // namespace

std::unique_ptr<Updates> make_host_updates(UpdateRules rules) {
  return std::make_unique<HostUpdates>(std::move(rules));
}

}  // namespace paceline
