#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <vector>

namespace paceline {

// Images and convolution weights are kept with their channels last: the same values in another order in
// memory, in which LibTorch's CPU kernels take about 30% less time for `cnn`.

/// The order for the 4-dimensional tensors of this network. Channels last but for networks with a 1x1
/// convolution of fewer than 8 input channels: oneDNN 2.6 (LibTorch 1.13) writes past its buffers there.
[[nodiscard]] inline torch::MemoryFormat image_format(const torch::nn::Module& module) {
  for (const torch::Tensor& parameter : module.parameters())
    if (parameter.dim() == 4 && parameter.size(1) < 8 && parameter.size(2) == 1 && parameter.size(3) == 1)
      return torch::MemoryFormat::Contiguous;
  return torch::MemoryFormat::ChannelsLast;
}

[[nodiscard]] inline torch::MemoryFormat format_for(torch::IntArrayRef sizes, torch::MemoryFormat images) {
  return sizes.size() == 4 ? images : torch::MemoryFormat::Contiguous;
}

[[nodiscard]] inline torch::Tensor in_format(const torch::Tensor& tensor, torch::MemoryFormat images) {
  return tensor.contiguous(format_for(tensor.sizes(), images));
}

/// Of a dense tensor of these sizes.
[[nodiscard]] inline std::vector<std::int64_t> strides_of(torch::IntArrayRef sizes,
                                                          torch::MemoryFormat images) {
  return torch::empty(sizes, torch::TensorOptions(torch::kMeta), format_for(sizes, images)).strides().vec();
}

/// A tensor of these sizes whose values lie at `data`, dense. Does not own them.
[[nodiscard]] inline torch::Tensor place_in_flat_memory(float* data, torch::IntArrayRef sizes,
                                                        torch::MemoryFormat images) {
  return torch::from_blob(data, sizes, strides_of(sizes, images), torch::kFloat);
}

/// The same in a flat tensor, whose memory it shares, from this element on.
[[nodiscard]] inline torch::Tensor place_in_flat_tensor(const torch::Tensor& flat, std::int64_t begin,
                                                        torch::IntArrayRef sizes,
                                                        torch::MemoryFormat images) {
  return flat.as_strided(sizes, strides_of(sizes, images), begin);
}

}  // namespace paceline
