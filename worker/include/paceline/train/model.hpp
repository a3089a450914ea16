#pragma once

/// What Paceline trains. A model of one's own is a class that derives from Model, compiled into a shared
/// library against the installed package and named in the job file: `model: {plugin: ./libmine.so}`.
/// `examples/my-model/` is one.

#include <torch/torch.h>

#include <cstdint>
#include <exception>
#include <map>
#include <string>
#include <vector>

namespace paceline {

/// Samples and what is known of them.
struct Batch {
  torch::Tensor inputs;   ///< f32, [samples, ...sample shape], normalised
  torch::Tensor targets;  ///< i64, [samples]
};

/// What a model made of a batch.
struct Outcome {
  torch::Tensor loss;        ///< scalar: the *sum* over the samples, so that batches of any size add up
  std::int64_t correct = 0;  ///< samples predicted right
};

/// What a model is told when it is made.
struct ModelConfig {
  std::vector<std::int64_t> sample_shape;  ///< e.g. {1, 28, 28}
  std::int64_t classes = 0;
  std::map<std::string, std::string> options;  ///< the job file's `model:` keys other than kind and plugin

  /// An option as a number, or `otherwise` where the job file does not have it. Throws std::invalid_argument.
  [[nodiscard]] std::int64_t integer(const std::string& key, std::int64_t otherwise) const {
    const auto found = options.find(key);
    return found == options.end() ? otherwise : std::stoll(found->second);
  }
};

/// A network and its loss. Used by one thread. Exceptions end the job with their text.
class Model {
 public:
  virtual ~Model() = default;
  /// The network: its parameters are trained, its buffers saved. Batch norms may be anywhere in it.
  [[nodiscard]] virtual torch::nn::Module& module() = 0;
  /// Predictions for inputs; for classification logits, [samples, classes].
  [[nodiscard]] virtual torch::Tensor forward(const torch::Tensor& inputs) = 0;
  /// The loss of a batch; cross-entropy unless overridden.
  [[nodiscard]] virtual Outcome loss(const Batch& batch) {
    namespace F = torch::nn::functional;
    const torch::Tensor logits = forward(batch.inputs);
    const auto options = F::CrossEntropyFuncOptions().reduction(torch::kSum);
    Outcome outcome;
    outcome.loss = F::cross_entropy(logits, batch.targets, options);
    outcome.correct = logits.detach().argmax(1).eq(batch.targets).sum().item<std::int64_t>();
    return outcome;
  }
};

/// Raised when Model changes; a plugin of another version, or of another LibTorch, is refused.
inline constexpr int model_abi_version = 1;

}  // namespace paceline

/// Makes `Class`, which derives from paceline::Model and is built from a ModelConfig, this library's model.
#define PACELINE_MODEL(Class)                                                                      \
  extern "C" __attribute__((visibility("default"))) const char* paceline_plugin_torch_version() {  \
    return TORCH_VERSION;                                                                          \
  }                                                                                                \
  extern "C" __attribute__((visibility("default"))) int paceline_plugin_abi_version() {            \
    return ::paceline::model_abi_version;                                                          \
  }                                                                                                \
  extern "C" __attribute__((visibility("default"))) ::paceline::Model* paceline_plugin_make_model( \
      const ::paceline::ModelConfig* config, std::string* error) {                                 \
    try {                                                                                          \
      return new Class(*config);                                                                   \
    } catch (const std::exception& exception) {                                                    \
      *error = exception.what();                                                                   \
      return nullptr;                                                                              \
    }                                                                                              \
  }
