#include "accelerator.hpp"

namespace paceline {

Result<std::unique_ptr<Accelerator>> make_cuda_accelerator(const ComputeDevice& /*device*/) {
  return Error{ErrorCode::unsupported,
               "Paceline was built without CUDA: build it where nvcc is, with a LibTorch that has CUDA and "
               "without PACELINE_CUDA=OFF, or set device to cpu"};
}

}  // namespace paceline
