#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <string>
#include <vector>

#include "bucket_layout.hpp"
#include "host_copies.hpp"
#include "normalization.hpp"
#include "paceline/base/result.hpp"

namespace paceline {

/// What of a model lasts from step to step, averages of batch norms apart: parameters that are trained, in
/// one piece of memory in the places of their gradients, and all others. It is where the model computes.
class ModelMemory {
 public:
  struct Parameter {
    std::string name;
    torch::Tensor tensor;
  };
  /// Moves `module` to the device, and finds the parameters that are trained, in the order of registration,
  /// tied ones once. Errors: unsupported, one that isn't f32 or stays behind; invalid_argument, there is
  /// none.
  [[nodiscard]] static Result<ModelMemory> find(torch::nn::Module& module, torch::Device device);

  [[nodiscard]] const std::vector<Parameter>& trained() const noexcept { return trained_; }
  [[nodiscard]] std::int64_t trained_elements() const noexcept { return trained_elements_; }

  /// Once, with the place of each parameter: the module's tensors are views of this memory from then on.
  /// Buffers that `statistics` owns are left to it.
  void take_over(torch::nn::Module& module, const BucketLayout& layout, torch::MemoryFormat images,
                 const NormalizationStatistics& statistics);
  /// Those that are trained, flat.
  [[nodiscard]] const torch::Tensor& parameters() const noexcept { return flat_; }
  /// "parameters" and "other.<name>".
  void add_to(HostCopies& copies) const;

 private:
  explicit ModelMemory(torch::Device device) : device_(device) {}
  void take_over_others(torch::nn::Module& module, const NormalizationStatistics& statistics);

  torch::Device device_;
  std::vector<Parameter> trained_;
  std::int64_t trained_elements_ = 0;
  torch::Tensor flat_;             // places as in the gradients' layout
  std::vector<Parameter> others_;  // buffers, and parameters that aren't trained
};

}  // namespace paceline
