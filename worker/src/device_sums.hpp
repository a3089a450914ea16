#pragma once

#include "accelerator.hpp"
#include "gradient_sums.hpp"

namespace paceline {

/// Sums in f32 in the memory of the ranks' devices; figures and statistics go through the host's. Collective.
/// `gradients`: flat memory on the device for all of them, such as make_device_gradients() gives, that no
/// other sums use at the same time.
[[nodiscard]] Result<std::unique_ptr<GradientSums>> make_device_sums(Communicator& communicator,
                                                                     const SummedTensors& tensors,
                                                                     const Accelerator& accelerator,
                                                                     const torch::Tensor& gradients);
[[nodiscard]] torch::Tensor make_device_gradients(const SummedTensors& tensors, torch::Device device);

}  // namespace paceline
