#include "autocast.hpp"

#include <ATen/autocast_mode.h>
#include <torch/version.h>

namespace paceline {
namespace {

#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 4)
void switch_on(torch::DeviceType device, at::ScalarType type) {
  at::autocast::set_autocast_dtype(device, type);
  at::autocast::set_autocast_enabled(device, true);
}
void switch_off(torch::DeviceType device) {
  at::autocast::set_autocast_enabled(device, false);
}
#else
void switch_on(torch::DeviceType device, at::ScalarType type) {
  if (device == torch::kCPU) {
    at::autocast::set_autocast_cpu_dtype(type);
    at::autocast::set_cpu_enabled(true);
  } else {
    at::autocast::set_autocast_gpu_dtype(type);
    at::autocast::set_enabled(true);
  }
}
void switch_off(torch::DeviceType device) {
  if (device == torch::kCPU)
    at::autocast::set_cpu_enabled(false);
  else
    at::autocast::set_enabled(false);
}
#endif

}  // namespace

Autocast::Autocast(ComputeType type, torch::Device device)
    : active_(type != ComputeType::f32), device_(device.type()) {
  if (!active_) return;
  at::autocast::increment_nesting();
  switch_on(device_, type == ComputeType::f16 ? at::kHalf : at::kBFloat16);
}

Autocast::~Autocast() {
  if (!active_) return;
  switch_off(device_);
  // The weights' copies in 16 bits are kept until here: the optimizer is about to change the weights.
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
}

Status check_compute_type(ComputeType type, torch::Device device) {
  if (type != ComputeType::f16 || !device.is_cpu()) return {};
  return Error{ErrorCode::unsupported, "LibTorch has no f16 on the CPU: set dtype to bf16 or f32"};
}

}  // namespace paceline
