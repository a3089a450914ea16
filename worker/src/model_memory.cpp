#include "model_memory.hpp"

#include <unordered_set>

#include "memory_format.hpp"
#include "paceline/base/text.hpp"

namespace paceline {

Result<ModelMemory> ModelMemory::find(torch::nn::Module& module, torch::Device device) {
  module.to(device);  // before there are hooks: it makes new places for them
  ModelMemory memory(device);
  std::unordered_set<const void*> seen;
  for (const auto& item : module.named_parameters()) {
    const torch::Tensor& tensor = item.value();
    if (!tensor.requires_grad() || !seen.insert(tensor.unsafeGetTensorImpl()).second) continue;
    if (tensor.scalar_type() != torch::kFloat || tensor.device() != device)
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
  flat_ = torch::zeros({static_cast<std::int64_t>(layout.tail)},
                       torch::TensorOptions(torch::kFloat).device(device_));
  for (std::size_t i = 0; i < trained_.size(); ++i) {
    torch::Tensor& tensor = trained_[i].tensor;
    const torch::Tensor place =
        place_in_flat_tensor(flat_, static_cast<std::int64_t>(layout.offset[i]), tensor.sizes(), images);
    place.copy_(tensor);
    tensor.set_data(place);
  }
  take_over_others(module, statistics);
}

/// In memory of one piece each.
void ModelMemory::take_over_others(torch::nn::Module& module, const NormalizationStatistics& statistics) {
  for (const auto& item : module.named_buffers())
    if (!statistics.owns(item.value())) others_.push_back({item.key(), item.value()});
  for (const auto& item : module.named_parameters())
    if (!item.value().requires_grad()) others_.push_back({item.key(), item.value()});
  for (Parameter& other : others_)
    if (!other.tensor.is_contiguous()) other.tensor.set_data(other.tensor.contiguous());
}

void ModelMemory::add_to(HostCopies& copies) const {
  copies.add("parameters", flat_);
  for (const Parameter& other : others_) copies.add(concat("other.", other.name), other.tensor);
}

}  // namespace paceline
