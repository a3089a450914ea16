#include "paceline/train/device.hpp"

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string_view>

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
    return Error{ErrorCode::io, concat("the GPU does not work: ", words_of(exception))};
  }
}

void set_gpu_arithmetic(const GpuArithmetic& arithmetic) {
  at::Context& context = at::globalContext();
  // cuBLAS adds up in an order that depends on which of its workspaces are free, unless it has this one.
  if (arithmetic.deterministic) ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", 0);
  context.setDeterministicAlgorithms(arithmetic.deterministic, /*warn_only=*/false);
  context.setDeterministicCuDNN(arithmetic.deterministic);
  context.setBenchmarkCuDNN(arithmetic.tries_ways && !arithmetic.deterministic);
  context.setAllowTF32CuDNN(false);
  context.setAllowTF32CuBLAS(false);
  // LibTorch 2.2 and later would fill every tensor before it is written.
  const auto leave_unfilled = [](auto& settings) {
    if constexpr (requires { settings.setDeterministicFillUninitializedMemory(false); })
      settings.setDeterministicFillUninitializedMemory(false);
  };
  leave_unfilled(context);
}

const TransferStreams& transfer_streams(torch::Device device) {
  const c10::impl::VirtualGuardImpl pool(device.type());
  static const TransferStreams streams{pool.getStreamFromGlobalPool(device),
                                       pool.getStreamFromGlobalPool(device),
                                       pool.getStreamFromGlobalPool(device, /*isHighPriority=*/true)};
  return streams;
}

std::string words_of(const std::exception& exception) {
  const auto* const error = dynamic_cast<const c10::Error*>(&exception);
  std::string words = error != nullptr ? error->what_without_backtrace() : exception.what();
  if (dynamic_cast<const c10::OutOfMemoryError*>(&exception) != nullptr)
    words = concat("it needs more memory than the GPU has: lower batch.micro: ", words);
  return words;
}

bool is_broken_device(std::string_view words) {
  // cudaGetErrorString's words.
  static constexpr std::array<std::string_view, 6> broken = {"uncorrectable ECC error",
                                                             "uncorrectable NVLink error",
                                                             "hardware stack error",
                                                             "busy or unavailable",
                                                             "GPU is lost",
                                                             "or a hardware error"};
  const auto has = [&](std::string_view text) { return words.find(text) != std::string_view::npos; };
  return (has("CUDA error") || has("cudaError")) && std::ranges::any_of(broken, has);
}

}  // namespace paceline
