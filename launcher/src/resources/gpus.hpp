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

/// Which of the GPUs with these UUIDs CUDA_VISIBLE_DEVICES names, by their places: numbers, UUIDs or their
/// beginnings, up to the first that is none of these, as CUDA reads it. Nothing where it is unset.
[[nodiscard]] std::vector<std::size_t> visible_gpus(const std::vector<std::string>& uuids,
                                                    const std::optional<std::string>& variable);

}  // namespace paceline
