#include "device.hpp"

#include "paceline/base/text.hpp"
#include "paceline/cuda.hpp"

namespace paceline::cuda {

Error cuda_error(cudaError_t code, std::string_view what) {
  return {ErrorCode::io, concat(what, ": ", cudaGetErrorName(code), ", ", cudaGetErrorString(code))};
}

Status check(cudaError_t code, std::string_view what) {
  if (code != cudaSuccess) return cuda_error(code, what);
  return {};
}

Result<int> device_count() {
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code == cudaErrorNoDevice) return 0;
  if (code != cudaSuccess) return cuda_error(code, "the GPUs cannot be counted");
  return count;
}

}  // namespace paceline::cuda
