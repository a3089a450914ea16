#pragma once

/// What Paceline trains. A model of one's own is a class that derives from Model, compiled into a shared
/// library against the installed package and named in the job file: `model: {plugin: ./libmine.so}`.
/// `examples/my-model/` is one.

#include <torch/torch.h>

#include <cstdint>
#include <exception>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace paceline {

/// Samples and what is known of them. Images have a class each; a sample of text is a window of tokens, and
/// the target of each token is the one that follows it.
struct Batch {
  torch::Tensor inputs;   ///< f32, [samples, ...sample shape], normalised; of text i64, [samples, context]
  torch::Tensor targets;  ///< i64, [samples]; of text [samples, context]
};

/// What a model made of a batch.
struct Outcome {
  torch::Tensor loss;  ///< scalar: the *sum* over the samples, so that batches of any size add up; the loss
                       ///< of a sample of text is the mean over its tokens
  double correct = 0;  ///< samples predicted right; a sample of text counts by the fraction of its tokens
};

/// What a model is told when it is made.
struct ModelConfig {
  std::vector<std::int64_t> sample_shape;  ///< e.g. {1, 28, 28}; of text {context}
  std::int64_t classes = 0;
  std::map<std::string, std::string> options;  ///< the job file's `model:` keys other than kind and plugin
  std::int64_t vocabulary = 0;  ///< of text: token ids are less than this; 0: samples are images

  // An option, or `otherwise` where the job file does not have it. These throw std::invalid_argument.
  [[nodiscard]] std::int64_t integer(const std::string& key, std::int64_t otherwise) const {
    return read(key, otherwise, "a whole number", [](const std::string& text, std::size_t* end) {
      return std::int64_t{std::stoll(text, end)};
    });
  }
  [[nodiscard]] double number(const std::string& key, double otherwise) const {
    return read(key, otherwise, "a number",
                [](const std::string& text, std::size_t* end) { return std::stod(text, end); });
  }
  [[nodiscard]] bool flag(const std::string& key, bool otherwise) const {
    return read(key, otherwise, "true or false", [](const std::string& text, std::size_t* end) {
      *end = text == "true" || text == "false" ? text.size() : 0;
      return text == "true";
    });
  }

 private:
  /// `parse` says how many characters it understood.
  template <class Value, class Parse>
  [[nodiscard]] Value read(const std::string& key, Value otherwise, const char* what,
                           const Parse& parse) const {
    const auto found = options.find(key);
    if (found == options.end()) return otherwise;
    try {
      std::size_t end = 0;
      const Value value = parse(found->second, &end);
      if (end == found->second.size() && end > 0) return value;
    } catch (const std::logic_error&) {  // not a number at all, or one that does not fit
    }
    throw std::invalid_argument("model." + key + " is \"" + found->second + "\": it must be " + what);
  }
};

/// A network and its loss. Used by one thread. Exceptions end the job with their text.
class Model {
 public:
  virtual ~Model() = default;
  /// The network: its parameters are trained, its buffers saved. Batch norms may be anywhere in it.
  [[nodiscard]] virtual torch::nn::Module& module() = 0;
  /// Predictions for inputs: logits, [samples, classes]; of text [samples, context, vocabulary].
  [[nodiscard]] virtual torch::Tensor forward(const torch::Tensor& inputs) = 0;
  /// The loss of a batch; cross-entropy unless overridden.
  [[nodiscard]] virtual Outcome loss(const Batch& batch) {
    namespace F = torch::nn::functional;
    const torch::Tensor predictions = forward(batch.inputs);
    const torch::Tensor logits = predictions.reshape({-1, predictions.size(-1)});
    const torch::Tensor targets = batch.targets.reshape({-1});
    const auto options = F::CrossEntropyFuncOptions().reduction(torch::kSum);
    Outcome outcome;
    outcome.loss = F::cross_entropy(logits, targets, options);
    const torch::Tensor scores = logits.detach();
    if (batch.targets.dim() == 1) {
      outcome.correct = scores.argmax(1).eq(targets).sum().item<double>();
      return outcome;
    }
    // Over a vocabulary the greatest score is found many times faster than its place.
    const torch::Tensor of_targets = scores.gather(1, targets.unsqueeze(1)).squeeze(1);
    const auto tokens = static_cast<double>(batch.targets.size(1));
    outcome.correct = of_targets.eq(scores.amax(1)).sum().item<double>() / tokens;
    outcome.loss = outcome.loss / tokens;
    return outcome;
  }
};

/// Raised when Model changes; a plugin of another version, or of another LibTorch, is refused.
inline constexpr int model_abi_version = 2;

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
