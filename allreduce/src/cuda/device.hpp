#pragma once

#include <cuda_runtime_api.h>

#include <string_view>

#include "paceline/base/result.hpp"

namespace paceline::cuda {

/// `what` failed, in words: CUDA's name of the error and its text.
[[nodiscard]] Error cuda_error(cudaError_t code, std::string_view what);
[[nodiscard]] Status check(cudaError_t code, std::string_view what);

}  // namespace paceline::cuda
