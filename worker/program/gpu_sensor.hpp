#pragma once

#include <memory>
#include <optional>
#include <string>

#include "paceline/gpu/parts.hpp"
#include "paceline/job/telemetry.hpp"

namespace paceline {

/// What the driver says of this process's GPU: the first that CUDA_VISIBLE_DEVICES leaves it, which is the
/// one that CUDA uses where nobody asks for another. One thread; the driver may take its time.
class GpuSensor {
 public:
  /// Loads NVML, or `library` instead. Without a driver or a GPU there is nothing to read, and that is no
  /// error.
  [[nodiscard]] static Result<GpuSensor> open(const std::optional<std::string>& library);

  /// Fills in the members of the GPU. Absent is what it doesn't say, or says and can't be; the sum of its
  /// energy never shrinks. Of a slice of a GPU (MIG) memory alone is its own, and all else that of the whole.
  void read(Telemetry& telemetry);

 private:
  std::shared_ptr<const nvml::Api> api_;
  std::optional<nvml::Part> part_;
};

}  // namespace paceline
