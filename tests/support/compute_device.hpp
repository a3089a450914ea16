#pragma once

#include <cstdlib>
#include <stdexcept>
#include <string>

#include "paceline/train/device.hpp"

namespace paceline::testing {

/// Where tests of training compute, as PACELINE_TEST_DEVICE says: nothing or "cpu", "apart" (the CPU in the
/// place of a GPU), or "gpu".
inline ComputeDevice compute_device() {
  const char* const wanted = std::getenv("PACELINE_TEST_DEVICE");
  const std::string name = wanted != nullptr ? wanted : "cpu";
  if (name == "cpu") return {};
  if (name == "apart") return {torch::kCPU, true};
  const Result<ComputeDevice> gpu = find_gpu();
  if (name != "gpu" || !gpu.ok())
    throw std::runtime_error("PACELINE_TEST_DEVICE is " + name +
                             (gpu.ok() ? "" : ": " + gpu.error().message));
  return *gpu;
}

}  // namespace paceline::testing
