#include "normalization.hpp"

#include <algorithm>
#include <memory>

#include "paceline/base/assert.hpp"

namespace paceline {
namespace {

/// Calls `visit` with every batch norm in `module`, of whichever dimension.
template <class Visit>
void for_each_batch_norm(torch::nn::Module& module, const Visit& visit) {
  for (const std::shared_ptr<torch::nn::Module>& child : module.modules(/*include_self=*/false)) {
    if (auto* norm1 = child->as<torch::nn::BatchNorm1d>()) visit(*norm1);
    if (auto* norm2 = child->as<torch::nn::BatchNorm2d>()) visit(*norm2);
    if (auto* norm3 = child->as<torch::nn::BatchNorm3d>()) visit(*norm3);
  }
  // The module itself can't be asked for a shared pointer when it lives on the stack, hence apart.
  if (auto* norm1 = module.as<torch::nn::BatchNorm1d>()) visit(*norm1);
  if (auto* norm2 = module.as<torch::nn::BatchNorm2d>()) visit(*norm2);
  if (auto* norm3 = module.as<torch::nn::BatchNorm3d>()) visit(*norm3);
}

}  // namespace

NormalizationStatistics::NormalizationStatistics(torch::nn::Module& module) {
  for_each_batch_norm(module, [this](auto& norm) {
    if (!norm.options.track_running_stats() || !norm.running_mean.defined()) return;
    add(norm.running_mean, norm.running_var, norm.num_batches_tracked, norm.options.momentum());
    give_back_.emplace_back([&norm, momentum = norm.options.momentum()] { norm.options.momentum(momentum); });
    norm.options.momentum(1.0);
  });
}

NormalizationStatistics::~NormalizationStatistics() {
  for (const std::function<void()>& give_back : give_back_) give_back();
}

void NormalizationStatistics::add(torch::Tensor& mean, torch::Tensor& variance, torch::Tensor& batches,
                                  const c10::optional<double>& momentum) {
  const double factor = momentum.has_value() ? *momentum : 0.0;
  const auto copy_of = [](const torch::Tensor& tensor) {
    return tensor.to(torch::kCPU, tensor.scalar_type(), /*non_blocking=*/false, /*copy=*/true);
  };
  entries_.push_back({mean, copy_of(mean), batches, factor, !momentum.has_value()});
  entries_.push_back({variance, copy_of(variance), {}, factor, !momentum.has_value()});
  elements_ += static_cast<std::size_t>(mean.numel() + variance.numel());
}

std::vector<std::size_t> NormalizationStatistics::elements_of_buffers() const {
  std::vector<std::size_t> elements;
  for (const Entry& entry : entries_) elements.push_back(static_cast<std::size_t>(entry.buffer.numel()));
  return elements;
}

void NormalizationStatistics::collect(std::span<float> sum, float weight) const {
  PACELINE_ASSERT(sum.size() == elements_, "the sum has a place for every statistic");
  if (entries_.empty()) return;
  std::vector<torch::Tensor> pieces;
  for (const Entry& entry : entries_) pieces.push_back(entry.buffer.flatten());
  const torch::Tensor values = torch::cat(pieces).to(torch::kCPU);  // from a device all at once
  const float* value = values.data_ptr<float>();
  for (float& each : sum) each += weight * *value++;
}

void NormalizationStatistics::commit(std::span<const float> sum) {
  PACELINE_ASSERT(sum.size() == elements_, "the sum has a place for every statistic");
  ++steps_;
  std::size_t at = 0;
  for (Entry& entry : entries_) {
    const auto factor =
        static_cast<float>(entry.cumulative ? 1.0 / static_cast<double>(steps_) : entry.momentum);
    float* committed = entry.committed.data_ptr<float>();
    for (std::int64_t i = 0; i < entry.committed.numel(); ++i, ++at)
      committed[i] = (1 - factor) * committed[i] + factor * sum[at];
  }
}

NormalizationStatistics::State NormalizationStatistics::state() {
  State state{{}, steps_};
  for (const Entry& entry : entries_) state.averages.push_back(entry.committed);
  return state;
}

bool NormalizationStatistics::owns(const torch::Tensor& buffer) const {
  return std::ranges::any_of(entries_, [&](const Entry& entry) {
    return entry.buffer.is_same(buffer) || entry.batches.is_same(buffer);
  });
}

void NormalizationStatistics::publish() const {
  const torch::NoGradGuard no_grad;
  for (const Entry& entry : entries_) {
    entry.buffer.copy_(entry.committed);
    if (entry.batches.defined()) entry.batches.fill_(steps_);
  }
}

}  // namespace paceline
