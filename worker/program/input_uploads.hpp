#pragma once

#include <c10/core/Stream.h>
#include <torch/torch.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "paceline/data/loader.hpp"
#include "paceline/train/device.hpp"

namespace paceline {

/// Takes the values of batches to a device ahead of the step that needs them, through page-locked memory and
/// on a stream of its own, from the threads of a loader.
class InputUploads {
 public:
  explicit InputUploads(const ComputeDevice& device);

  /// Begins to copy batch.values, which are of samples of `shape`, and takes them from the batch. Any thread.
  /// io: what the device says.
  [[nodiscard]] Status begin(SampleBatch& batch, std::vector<std::int64_t> shape) const;
  /// What was begun: [samples, ...shape], for what the calling thread does on the device from now on.
  [[nodiscard]] static torch::Tensor take(const SampleBatch& batch);

 private:
  torch::Device device_;
  std::optional<c10::Stream> stream_;  // nothing: the device has none, and copies are made at once
};

}  // namespace paceline
