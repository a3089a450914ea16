#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <string>
#include <vector>

#include "paceline/base/result.hpp"

namespace paceline {

/// A tensor of a model under its name.
struct NamedWeight {
  std::string name;
  torch::Tensor tensor;
};

/// All parameters and buffers of a module, in the order of registration; of a module on a device copies in
/// the host's memory.
[[nodiscard]] std::vector<NamedWeight> weights_of(torch::nn::Module& module);

/// SHA-256 over names, shapes and values, in that order: equal for equal weights and nothing else.
[[nodiscard]] std::string weights_sha256(const std::vector<NamedWeight>& weights);

/// What a model takes in: kept with its weights, so that they can be used without the data they came from.
struct InputSpec {
  std::vector<std::int64_t> sample_shape;  ///< of text {context}
  std::int64_t classes = 0;                ///< of images
  std::vector<double> mean;                ///< of images, by channel: ((value / 255) - mean) / deviation
  std::vector<double> standard_deviation;
  std::int64_t vocabulary = 0;  ///< of text; 0: samples are images
};

/// Writes the safetensors format (a JSON header with offsets, then the raw values), atomically. `input` is
/// in its metadata.
[[nodiscard]] Status save_safetensors(const std::string& path, const std::vector<NamedWeight>& weights,
                                      const InputSpec& input);
[[nodiscard]] Result<InputSpec> load_input_spec(const std::string& path);

/// Reads it back into `weights`, which say what must be there. Bytes from outside: names, types, shapes and
/// offsets are checked before anything is copied.
[[nodiscard]] Status load_safetensors(const std::string& path, std::vector<NamedWeight>& weights);

}  // namespace paceline
