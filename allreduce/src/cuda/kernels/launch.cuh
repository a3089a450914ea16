#pragma once

// Starting kernels: a grid as large as what the chip runs at once, or as there is work.

#include <cuda_runtime.h>

#include <array>
#include <atomic>
#include <span>
#include <string_view>

#include "../device.hpp"
#include "paceline/allreduce.hpp"
#include "paceline/base/text.hpp"
#include "walk.cuh"

namespace paceline::cuda::kernels {

inline constexpr unsigned block_threads = 256;

/// By device: blocks of one kernel that run at once. 0: not asked yet. Any thread may ask and write down the
/// same number.
using ResidentBlocks = std::array<std::atomic<int>, 64>;

/// Multiprocessors of the current device times the kernel's blocks on each.
[[nodiscard]] Result<int> resident_blocks(const void* kernel, unsigned threads, ResidentBlocks& known);

/// What `kernel` is started with. No error of an earlier kernel is taken for this one's.
[[nodiscard]] Status start(const void* kernel, dim3 blocks, unsigned threads, void** arguments,
                           cudaStream_t stream, std::string_view what);

/// An invalid_argument error unless the pointer is there and a multiple of `bytes`.
[[nodiscard]] Status check_pointer(const void* pointer, std::size_t bytes, std::string_view name);
[[nodiscard]] Error invalid(std::string_view what);

#ifdef __CUDACC__
template <class Share>
__global__ void __launch_bounds__(block_threads)
    walk_kernel(const __grid_constant__ Share share, Split split) {
  const std::size_t worker = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  walk(share, split, worker, static_cast<std::size_t>(gridDim.x) * blockDim.x);
}

/// A kernel over `workers` threads' worth of work; each template instance knows its own occupancy.
template <class Kernel, class... Arguments>
[[nodiscard]] Status launch(Kernel* kernel, ResidentBlocks& known, std::size_t workers, cudaStream_t stream,
                            std::string_view what, Arguments... arguments) {
  const auto* function = reinterpret_cast<const void*>(kernel);
  PACELINE_ASSIGN(const int most, resident_blocks(function, block_threads, known));
  const std::size_t wanted = (workers + block_threads - 1) / block_threads;
  const auto blocks = static_cast<unsigned>(wanted < static_cast<std::size_t>(most) ? wanted : most);
  void* pointers[] = {&arguments...};
  return start(function, dim3(blocks), block_threads, pointers, stream, what);
}

/// walk() by as many threads as there is work for.
template <class Share>
[[nodiscard]] Status launch_walk(const Share& share, const Split& split, cudaStream_t stream,
                                 std::string_view what) {
  static ResidentBlocks known;
  return launch(&walk_kernel<Share>, known, workers_for(split), stream, what, share, split);
}
#endif

}  // namespace paceline::cuda::kernels
