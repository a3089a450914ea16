#pragma once

#include <cuda_runtime_api.h>

#include "../device.hpp"
#include "body.hpp"
#include "paceline/allreduce.hpp"

// The kernels within a node, as the host sees them: data without its type.

namespace paceline::cuda::ipc {

/// What is added up, and how.
struct Arithmetic {
  DataType type = DataType::f32;
  ReduceOp op = ReduceOp::sum;  ///< average: Scaling::divisor says by what
  bool fixed_point = false;     ///< f32 and f64 only
};

/// Threads of a block of all kernels.
inline constexpr int block_threads = 512;
/// Blocks for `bytes` that one rank copies into staging.
[[nodiscard]] int blocks_for(std::size_t bytes);

/// Put into `stream`. `call` is of bytes, its pointers and counts those of the elements.
[[nodiscard]] Status launch(const Arithmetic& arithmetic, const Peers& peers, const OneShot<std::byte>& call,
                            cudaStream_t stream);
[[nodiscard]] Status launch(const Arithmetic& arithmetic, const Peers& peers, const ByRows<std::byte>& call,
                            cudaStream_t stream);

/// `stream` goes on when `*word`, in host memory that the device has mapped, has reached `turn`. Bounded by
/// whoever writes it: the communicator's own thread, which does in any case.
[[nodiscard]] Status launch_wait(const std::uint32_t* word, std::uint32_t turn, cudaStream_t stream);

/// Loads all kernels, which CUDA may otherwise do in the middle of the first step, waiting for all that runs.
[[nodiscard]] Status load_kernels();

}  // namespace paceline::cuda::ipc
