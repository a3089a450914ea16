#include "paceline/train/device.hpp"

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>

#include <cstdlib>

#include "paceline/base/text.hpp"

namespace paceline {

Result<ComputeDevice> find_gpu() {
  if (!at::detail::getCUDAHooks().hasCUDART())
    return Error{ErrorCode::unsupported, concat("LibTorch ", TORCH_VERSION,
                                                " was built without CUDA: build Paceline with one that has "
                                                "it (-DTorch_DIR=...), or set device to cpu")};
  try {
    if (!torch::cuda::is_available())
      return Error{ErrorCode::not_found,
                   "this process sees no GPU: look at nvidia-smi, and at CUDA_VISIBLE_DEVICES"};
    ComputeDevice gpu{torch::Device(torch::kCUDA, 0), true};
    // The context is made, and the memory is there, or it says why not.
    torch::zeros({1}, gpu.device).item<float>();
    return gpu;
  } catch (const std::exception& exception) {
    return Error{ErrorCode::io, concat("the GPU does not work: ", exception.what())};
  }
}

void compute_deterministically(bool wanted) {
  // cuBLAS adds up in an order that depends on which of its workspaces are free, unless it has this one.
  if (wanted) ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", 0);
  at::globalContext().setDeterministicAlgorithms(wanted, /*warn_only=*/false);
  at::globalContext().setDeterministicCuDNN(wanted);
  at::globalContext().setBenchmarkCuDNN(!wanted);
}

}  // namespace paceline
