#pragma once

#include <string>

#include "paceline/base/result.hpp"

/// Collectives on device memory. Target paceline::cuda; it is there where Paceline was built with the CUDA toolkit.
namespace paceline::cuda {

/// GPUs that this process can use, as CUDA numbers them. Errors: unavailable where there is no driver, or one
/// that is too old for the toolkit this was built with, and which.
[[nodiscard]] Result<int> device_count();

}  // namespace paceline::cuda
