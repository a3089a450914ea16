#pragma once

#include <cuda_runtime_api.h>

#include <string>
#include <string_view>

#include "paceline/base/result.hpp"
#include "plan/devices.hpp"

namespace paceline::cuda {

/// `what` failed, in words: CUDA's name of the error, its text, and what to do where something can be done.
[[nodiscard]] Error cuda_error(cudaError_t code, std::string_view what);
[[nodiscard]] Status check(cudaError_t code, std::string_view what);

/// The GPU or this process's context on it is gone: nothing in this process can use it any more.
[[nodiscard]] bool is_fatal(cudaError_t code) noexcept;

/// What this process knows of GPU `device` (-1: the current one), or the trouble it has with it.
[[nodiscard]] DeviceFacts look_at_device(int device);

/// Makes `device` current in this thread, and again the one that was at its end.
class DeviceScope {
 public:
  explicit DeviceScope(int device);
  ~DeviceScope();
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;
  [[nodiscard]] const Status& status() const { return status_; }

 private:
  int before_ = -1;
  Status status_;
};

}  // namespace paceline::cuda
