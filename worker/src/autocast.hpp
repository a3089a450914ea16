#pragma once

#include "paceline/base/result.hpp"
#include "paceline/train/trainer.hpp"

namespace paceline {

/// As long as it lives, this thread's operations that gain by it compute in 16 bits, and those that need f32
/// stay there: LibTorch's automatic mixed precision. Weights and gradients are f32 all the time. Does nothing
/// for f32.
class Autocast {
 public:
  Autocast(ComputeType type, torch::Device device);
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;
  ~Autocast();

 private:
  bool active_;
  torch::DeviceType device_;
};

/// Whether LibTorch can compute in it there. unsupported.
[[nodiscard]] Status check_compute_type(ComputeType type, torch::Device device);

}  // namespace paceline
