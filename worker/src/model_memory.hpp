#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "bucket_layout.hpp"
#include "normalization.hpp"
#include "paceline/base/result.hpp"
#include "paceline/train/device.hpp"
#include "paceline/train/trainer.hpp"

namespace paceline {

/// What of a model lasts from step to step, averages of batch norms apart: parameters that are trained, in one
/// piece of memory in the places of their gradients, and all others. It is in the host's memory; where the
/// model computes apart from that, its tensors are copies on the device. Parameters change on the host and go
/// to the device, others change in passes and come from there.
class ModelMemory {
 public:
  struct Parameter {
    std::string name;
    torch::Tensor tensor;
  };
  /// Moves `module` to the device, and finds the parameters that are trained, in the order of registration,
  /// tied ones once. Errors: unsupported, one that isn't f32 or stays behind; invalid_argument, there is none.
  [[nodiscard]] static Result<ModelMemory> find(torch::nn::Module& module, const ComputeDevice& device);

  [[nodiscard]] const std::vector<Parameter>& trained() const noexcept { return trained_; }
  [[nodiscard]] std::int64_t trained_elements() const noexcept { return trained_elements_; }

  /// Once, with the place of each parameter: the module's tensors are views of this memory from then on.
  /// Buffers that `statistics` owns are left to it.
  void take_over(torch::nn::Module& module, const BucketLayout& layout, torch::MemoryFormat images,
                 const NormalizationStatistics& statistics);
  /// On the host. What is changed here the model has after upload().
  [[nodiscard]] std::span<float> parameters();
  /// "parameters" and "other.<name>", on the host.
  void add_state(std::vector<StatePart>& parts) const;

  /// All of it to the device.
  void upload();
  /// A step has ended: parameters to the device, and from it what passes have changed.
  void synchronise();

 private:
  explicit ModelMemory(const ComputeDevice& device) : device_(device) {}

  /// One that isn't trained and stays between steps all the same.
  struct Other {
    std::string name;
    torch::Tensor tensor;      // the module's
    torch::Tensor host;        // its values in the host's memory; where that is the module's, the same
    std::int64_t version = 0;  // of `tensor`, when those were the same
  };
  void take_over_others(torch::nn::Module& module, const NormalizationStatistics& statistics);

  ComputeDevice device_;
  std::vector<Parameter> trained_;
  std::int64_t trained_elements_ = 0;
  torch::Tensor flat_;         // places as in the gradients' layout
  torch::Tensor device_flat_;  // what the model computes with; the same where that is not apart
  std::vector<Other> others_;  // buffers and frozen parameters
};

}  // namespace paceline
