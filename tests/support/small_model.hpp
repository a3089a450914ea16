#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "paceline/base/text.hpp"
#include "paceline/train/model.hpp"

namespace paceline::testing {

/// A small network of every kind that the step must cope with.
class SmallModel : public Model {
 public:
  enum Kind { plain, norms, frozen, tied, unused, sparse, dropout };

  explicit SmallModel(Kind kind) : drops_(kind == dropout) {
    network_ = std::make_shared<torch::nn::Module>();
    first_ = network_->register_module("first", torch::nn::Linear(6, 8));
    second_ = network_->register_module("second", torch::nn::Linear(8, 8));
    last_ = network_->register_module("last", torch::nn::Linear(8, 3));
    if (kind == norms) norm_ = network_->register_module("norm", torch::nn::BatchNorm1d(8));
    if (kind == frozen) first_->weight.set_requires_grad(false);
    if (kind == tied) tied_ = network_->register_parameter("tied", second_->weight);
    if (kind == unused) network_->register_module("nobody", torch::nn::Linear(2, 2));
    if (kind == sparse)
      embedding_ = network_->register_module(
          "embedding", torch::nn::Embedding(torch::nn::EmbeddingOptions(4, 8).sparse(true)));
    // Not from torch's generator, which all threads share.
    const torch::NoGradGuard no_grad;
    double phase = 0;
    for (torch::Tensor& parameter : network_->parameters())
      parameter.copy_((torch::arange(parameter.numel()) * 0.7 + ++phase).sin().view(parameter.sizes()) * 0.4);
  }
  torch::nn::Module& module() override { return *network_; }
  torch::Tensor forward(const torch::Tensor& inputs) override {
    torch::Tensor x = torch::relu(first_(inputs));
    if (!norm_.is_empty()) x = norm_(x);
    if (drops_) x = torch::dropout(x, 0.3, network_->is_training());
    x = torch::tanh(second_(x));
    if (tied_.defined()) x = torch::tanh(torch::nn::functional::linear(x, tied_));
    if (!embedding_.is_empty())
      x = x + embedding_(torch::zeros({inputs.size(0)}, inputs.options().dtype(torch::kLong)));
    return last_(x);
  }

 private:
  bool drops_;
  std::shared_ptr<torch::nn::Module> network_;
  torch::nn::Linear first_{nullptr};
  torch::nn::Linear second_{nullptr};
  torch::nn::Linear last_{nullptr};
  torch::Tensor tied_;
  torch::nn::BatchNorm1d norm_{nullptr};
  torch::nn::Embedding embedding_{nullptr};
};

inline Batch batch_of(std::int64_t step, std::int64_t first, std::int64_t count) {
  const torch::Tensor places = torch::arange(first, first + count) + step * 100;
  const torch::Tensor columns = torch::arange(6);
  return {torch::sin(places.unsqueeze(1) * 1.7 + columns.unsqueeze(0) * 0.9).to(torch::kFloat),
          (places * 7 % 3).to(torch::kLong)};
}

inline std::vector<torch::Tensor> values_of(Model& model) {
  std::vector<torch::Tensor> values;
  for (const torch::Tensor& parameter : model.module().parameters())
    values.push_back(parameter.detach().clone().to(torch::kCPU));
  return values;
}

inline std::string difference(const std::vector<torch::Tensor>& a, const std::vector<torch::Tensor>& b,
                              double tolerance) {
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double most = (a[i] - b[i]).abs().max().item<double>();
    if (!(most <= tolerance)) return concat("parameter ", i, " differs by ", most);
  }
  return {};
}

}  // namespace paceline::testing
