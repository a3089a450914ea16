#include "autocast.hpp"

#include <ATen/autocast_mode.h>
#include <torch/version.h>

namespace paceline {
namespace {

void switch_on(bool on) {
#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 4)
  if (on) at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  at::autocast::set_autocast_enabled(at::kCPU, on);
#else
  if (on) at::autocast::set_autocast_cpu_dtype(at::kBFloat16);
  at::autocast::set_cpu_enabled(on);
#endif
}

}  // namespace

Autocast::Autocast(ComputeType type) : active_(type == ComputeType::bf16) {
  if (!active_) return;
  at::autocast::increment_nesting();
  switch_on(true);
}

Autocast::~Autocast() {
  if (!active_) return;
  switch_on(false);
  // The weights' copies in 16 bits are kept until here: the optimizer is about to change the weights.
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
}

Status check_compute_type(ComputeType type) {
  if (type != ComputeType::f16) return {};
  return Error{ErrorCode::unsupported, "LibTorch has no f16 on the CPU: set dtype to bf16 or f32"};
}

}  // namespace paceline
