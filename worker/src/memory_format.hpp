#pragma once

#include <torch/torch.h>

namespace paceline {

// Images and convolution weights are kept with their channels last: the same values in another order in
// memory, in which LibTorch's CPU kernels take about 30% less time for `cnn`.

[[nodiscard]] inline torch::MemoryFormat best_format(torch::IntArrayRef sizes) {
  return sizes.size() == 4 ? torch::MemoryFormat::ChannelsLast : torch::MemoryFormat::Contiguous;
}

[[nodiscard]] inline torch::Tensor in_best_format(const torch::Tensor& tensor) {
  return tensor.contiguous(best_format(tensor.sizes()));
}

/// A tensor of these sizes whose values lie at `data`, dense and in the best order. Does not own them.
[[nodiscard]] inline torch::Tensor place_in_flat_memory(float* data, torch::IntArrayRef sizes) {
  const torch::Tensor shape =
      torch::empty(sizes, torch::TensorOptions(torch::kMeta), best_format(sizes));
  return torch::from_blob(data, sizes, shape.strides(), torch::kFloat);
}

}  // namespace paceline
