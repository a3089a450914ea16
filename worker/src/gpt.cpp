#include "gpt.hpp"

#include <cmath>
#include <limits>
#include <stdexcept>

#include "paceline/base/text.hpp"

namespace paceline {
namespace {

namespace nn = torch::nn;

// Between the layers all activations are matrices, [samples * tokens, width]: that is the shape in which the
// linear layers, where nearly all the time goes, are single matrix products. Wherever samples are told apart
// again their number is left open (-1), so that a trace serves batches of any size.

struct GptOptions {
  std::int64_t layers, heads, width, context, vocabulary;
  double dropout;
  bool tied_embeddings;
};

std::int64_t count_option(const ModelConfig& config, const char* key, std::int64_t otherwise) {
  const std::int64_t count = config.integer(key, otherwise);
  if (count < 1) throw std::invalid_argument(concat("model.", key, " is ", count, ": it must be at least 1"));
  return count;
}

GptOptions options_from(const ModelConfig& config) {
  GptOptions options{};
  options.layers = count_option(config, "layers", 4);
  options.heads = count_option(config, "heads", 4);
  options.width = count_option(config, "width", 128);
  options.vocabulary = config.vocabulary;
  options.context = config.sample_shape.at(0);
  options.dropout = config.number("dropout", 0);
  options.tied_embeddings = config.flag("tied_embeddings", true);
  if (options.width % options.heads != 0)
    throw std::invalid_argument(concat("model.width is ", options.width, ", which model.heads, ",
                                       options.heads, ", does not divide: make it a multiple"));
  if (!(options.dropout >= 0 && options.dropout < 1))
    throw std::invalid_argument(
        concat("model.dropout is ", options.dropout, ": it must be at least 0 and less than 1"));
  if (config.integer("context", options.context) != options.context)
    throw std::invalid_argument(concat("model.context is ", config.integer("context", 0),
                                       ", but the samples have ", options.context, " tokens"));
  return options;
}

/// Every token looks at itself and what stands before it (Vaswani et al. 2017, "Attention is all you need").
class CausalAttentionImpl : public nn::Module {
 public:
  explicit CausalAttentionImpl(const GptOptions& options)
      : heads_(options.heads), head_width_(options.width / options.heads), dropout_(options.dropout) {
    qkv_ = register_module("qkv", nn::Linear(options.width, 3 * options.width));
    projection_ = register_module("projection", nn::Linear(options.width, options.width));
  }
  /// `mask`: [tokens, tokens], added to the scores.
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& mask) {
    const std::int64_t tokens = mask.size(0);
    // Queries, keys and values, each [samples, heads, tokens, head width].
    const torch::Tensor parts =
        qkv_->forward(x).view({-1, tokens, 3, heads_, head_width_}).permute({2, 0, 3, 1, 4});
    const torch::Tensor mixed = mix(parts, mask);
    return dropped(projection_->forward(mixed.transpose(1, 2).reshape({-1, heads_ * head_width_})));
  }
  /// Its part of the residual stream comes out of here.
  [[nodiscard]] torch::Tensor& projection_weight() { return projection_->weight; }

 private:
  torch::Tensor dropped(const torch::Tensor& x) const {
    return dropout_ > 0 ? torch::dropout(x, dropout_, is_training()) : x;
  }

  torch::Tensor mix(const torch::Tensor& parts, const torch::Tensor& mask) const {
    // LibTorch 2 has kernels that keep no matrix of all pairs. On GPUs, and not where the same bits are
    // wanted again: their backward passes add up in any order.
#if TORCH_VERSION_MAJOR >= 2
    if (parts.is_cuda() && !at::globalContext().deterministicAlgorithms()) {
      const std::vector<torch::Tensor> whole = parts.unbind(0);
      return at::scaled_dot_product_attention(whole[0], whole[1], whole[2], /*attn_mask=*/{},
                                              is_training() ? dropout_ : 0.0, /*is_causal=*/true);
    }
#endif
    // All of them in one copy, each [samples * heads, tokens, head width].
    const std::int64_t tokens = mask.size(0);
    const std::vector<torch::Tensor> each = parts.reshape({3, -1, tokens, head_width_}).unbind(0);
    const double scale = 1 / std::sqrt(static_cast<double>(head_width_));
    const torch::Tensor weights =
        torch::baddbmm(mask, each[0], each[1].transpose(1, 2), /*beta=*/1, /*alpha=*/scale).softmax(-1);
    return torch::bmm(dropped(weights), each[2]).view({-1, heads_, tokens, head_width_});
  }

  std::int64_t heads_;
  std::int64_t head_width_;
  double dropout_;
  nn::Linear qkv_{nullptr};
  nn::Linear projection_{nullptr};
};
TORCH_MODULE(CausalAttention);

class GptBlockImpl : public nn::Module {
 public:
  explicit GptBlockImpl(const GptOptions& options) : dropout_(options.dropout) {
    const std::int64_t width = options.width;
    norm1_ = register_module("norm1", nn::LayerNorm(nn::LayerNormOptions({width})));
    attention_ = register_module("attention", CausalAttention(options));
    norm2_ = register_module("norm2", nn::LayerNorm(nn::LayerNormOptions({width})));
    up_ = register_module("up", nn::Linear(width, 4 * width));
    down_ = register_module("down", nn::Linear(4 * width, width));
  }
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& mask) {
    const torch::Tensor attended = x + attention_->forward(norm1_->forward(x), mask);
    torch::Tensor thought = down_->forward(torch::gelu(up_->forward(norm2_->forward(attended))));
    if (dropout_ > 0) thought = torch::dropout(thought, dropout_, is_training());
    return attended + thought;
  }
  [[nodiscard]] std::vector<torch::Tensor> residual_projections() {
    return {attention_->projection_weight(), down_->weight};
  }

 private:
  double dropout_;
  nn::LayerNorm norm1_{nullptr};
  CausalAttention attention_{nullptr};
  nn::LayerNorm norm2_{nullptr};
  nn::Linear up_{nullptr};
  nn::Linear down_{nullptr};
};
TORCH_MODULE(GptBlock);

class GptImpl : public nn::Module {
 public:
  explicit GptImpl(const GptOptions& options) : options_(options) {
    tokens_ = register_module("tokens", nn::Embedding(options.vocabulary, options.width));
    positions_ = register_module("positions", nn::Embedding(options.context, options.width));
    for (std::int64_t layer = 0; layer < options.layers; ++layer) blocks_->push_back(GptBlock(options));
    register_module("blocks", blocks_);
    norm_ = register_module("norm", nn::LayerNorm(nn::LayerNormOptions({options.width})));
    if (!options.tied_embeddings)
      head_ = register_module("head",
                              nn::Linear(nn::LinearOptions(options.width, options.vocabulary).bias(false)));
    // Not a buffer: it is no weight, and would be saved with them.
    mask_ = torch::full({options.context, options.context}, -std::numeric_limits<float>::infinity()).triu(1);
    initialise();
  }
  torch::Tensor forward(const torch::Tensor& ids) {
    if (ids.dim() != 2 || ids.size(1) < 1 || ids.size(1) > options_.context)
      throw std::invalid_argument(concat("gpt takes samples of 1 to ", options_.context,
                                         " tokens, and these have the shape ", ids.sizes()));
    const std::int64_t tokens = ids.size(1);
    const bool whole = tokens == options_.context;
    const torch::Tensor places = whole ? positions_->weight : positions_->weight.narrow(0, 0, tokens);
    if (mask_.device() != ids.device()) mask_ = mask_.to(ids.device());
    const torch::Tensor mask = whole ? mask_ : mask_.narrow(0, 0, tokens).narrow(1, 0, tokens);
    // Flattened, so that a trace refuses samples of another length instead of broadcasting them.
    torch::Tensor x = (tokens_->forward(ids).flatten(1) + places.flatten()).view({-1, options_.width});
    if (options_.dropout > 0) x = torch::dropout(x, options_.dropout, is_training());
    for (const std::shared_ptr<nn::Module>& block : *blocks_) x = block->as<GptBlock>()->forward(x, mask);
    x = norm_->forward(x);
    const torch::Tensor& predictor = options_.tied_embeddings ? tokens_->weight : head_->weight;
    return torch::linear(x, predictor).view({-1, tokens, options_.vocabulary});
  }

 private:
  void initialise() {
    const torch::NoGradGuard no_grad;
    constexpr double deviation = 0.02;
    for (const auto& item : named_parameters()) {
      if (item.value().dim() >= 2)
        nn::init::normal_(item.value(), 0, deviation);
      else if (item.key().ends_with("bias"))
        nn::init::zeros_(item.value());
    }
    // So that the residual stream is no wider at the end of many layers than of few.
    const double residual = deviation / std::sqrt(2.0 * static_cast<double>(options_.layers));
    for (const std::shared_ptr<nn::Module>& block : *blocks_)
      for (const torch::Tensor& weight : block->as<GptBlock>()->residual_projections())
        nn::init::normal_(weight, 0, residual);
  }

  GptOptions options_;
  nn::Embedding tokens_{nullptr};
  nn::Embedding positions_{nullptr};
  nn::ModuleList blocks_;
  nn::LayerNorm norm_{nullptr};
  nn::Linear head_{nullptr};
  torch::Tensor mask_;
};
TORCH_MODULE(Gpt);

class GptModel final : public Model {
 public:
  explicit GptModel(const ModelConfig& config) : network_(options_from(config)) {}
  torch::nn::Module& module() override { return *network_; }
  torch::Tensor forward(const torch::Tensor& inputs) override { return network_->forward(inputs); }

 private:
  Gpt network_;
};

}  // namespace

std::unique_ptr<Model> make_gpt(const ModelConfig& config) {
  return std::make_unique<GptModel>(config);
}

}  // namespace paceline
