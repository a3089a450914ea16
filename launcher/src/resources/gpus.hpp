#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "paceline/base/result.hpp"
#include "paceline/sched/placement.hpp"

namespace paceline {

/// The GPUs that this process may use, by NVML, which is loaded now: libnvidia-ml.so.1, or the library that
/// PACELINE_NVML names. Empty without a driver. Those that CUDA_VISIBLE_DEVICES leaves out are left out; of
/// a GPU that is cut into slices (MIG), the slices are listed. Errors: io, a driver that does not work, with
/// its own words.
[[nodiscard]] Result<std::vector<Gpu>> find_gpus();

}  // namespace paceline
