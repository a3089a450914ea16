#include "model_memory.hpp"

#include <unordered_set>

#include "memory_format.hpp"
#include "paceline/base/text.hpp"

namespace paceline {

Result<ModelMemory> ModelMemory::find(torch::nn::Module& module, const ComputeDevice& device) {
  module.to(device.device);  // before there are hooks: it makes new places for them
  ModelMemory memory(device);
  std::unordered_set<const void*> seen;
  for (const auto& item : module.named_parameters()) {
    const torch::Tensor& tensor = item.value();
    if (!tensor.requires_grad() || !seen.insert(tensor.unsafeGetTensorImpl()).second) continue;
    if (tensor.scalar_type() != torch::kFloat || tensor.device() != device.device)
      return Error{ErrorCode::unsupported,
                   concat("parameter ", item.key(), " is ", tensor.toString(),
                          ": only f32 parameters that a module's to() moves can be trained")};
    memory.trained_.push_back({item.key(), tensor});
    memory.trained_elements_ += tensor.numel();
  }
  if (memory.trained_.empty())
    return Error{ErrorCode::invalid_argument, "the model has no parameters that can be trained"};
  return memory;
}

void ModelMemory::take_over(torch::nn::Module& module, const BucketLayout& layout, torch::MemoryFormat images,
                            const NormalizationStatistics& statistics) {
  const torch::NoGradGuard no_grad;
  const auto floats = torch::TensorOptions(torch::kFloat);
  const auto elements = static_cast<std::int64_t>(layout.tail);
  flat_ = torch::zeros({elements}, floats.pinned_memory(!device_.device.is_cpu()));
  device_flat_ = device_.apart ? torch::zeros({elements}, floats.device(device_.device)) : flat_;
  for (std::size_t i = 0; i < trained_.size(); ++i) {
    torch::Tensor& tensor = trained_[i].tensor;
    const torch::Tensor place = place_in_flat_tensor(
        device_flat_, static_cast<std::int64_t>(layout.offset[i]), tensor.sizes(), images);
    place.copy_(tensor);
    tensor.set_data(place);
  }
  if (device_.apart) flat_.copy_(device_flat_);
  take_over_others(module, statistics);
}

/// In memory of one piece each.
void ModelMemory::take_over_others(torch::nn::Module& module, const NormalizationStatistics& statistics) {
  for (const auto& item : module.named_buffers())
    if (!statistics.owns(item.value())) others_.push_back({item.key(), item.value(), {}});
  for (const auto& item : module.named_parameters())
    if (!item.value().requires_grad()) others_.push_back({item.key(), item.value(), {}});
  for (Other& other : others_) {
    if (!other.tensor.is_contiguous()) other.tensor.set_data(other.tensor.contiguous());
    other.host = device_.apart ? other.tensor.to(torch::kCPU, other.tensor.scalar_type(),
                                                 /*non_blocking=*/false, /*copy=*/true)
                               : other.tensor;
    other.version = other.tensor._version();
  }
}

std::span<float> ModelMemory::parameters() {
  return {flat_.data_ptr<float>(), static_cast<std::size_t>(flat_.numel())};
}

void ModelMemory::add_state(std::vector<StatePart>& parts) const {
  const auto add = [&parts](std::string name, const torch::Tensor& tensor) {
    parts.push_back({std::move(name), {static_cast<std::byte*>(tensor.data_ptr()), tensor.nbytes()}});
  };
  add("parameters", flat_);
  for (const Other& other : others_) add(concat("other.", other.name), other.host);
}

void ModelMemory::upload() {
  if (!device_.apart) return;
  const torch::NoGradGuard no_grad;
  device_flat_.copy_(flat_);
  for (Other& other : others_) {
    other.tensor.copy_(other.host);
    other.version = other.tensor._version();
  }
}

void ModelMemory::synchronise() {
  if (!device_.apart) return;
  const torch::NoGradGuard no_grad;
  device_flat_.copy_(flat_);
  for (Other& other : others_) {
    if (other.tensor._version() == other.version) continue;
    other.host.copy_(other.tensor);
    other.version = other.tensor._version();
  }
}

}  // namespace paceline
