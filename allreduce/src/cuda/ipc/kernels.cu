#include <algorithm>

#include "kernels.hpp"

namespace paceline::cuda::ipc {
namespace {

/// body.hpp's Block.
struct GpuBlock {
  __device__ int index() const { return static_cast<int>(blockIdx.x); }
  __device__ int count() const { return static_cast<int>(gridDim.x); }
  __device__ int thread() const { return static_cast<int>(threadIdx.x); }
  __device__ int threads() const { return static_cast<int>(blockDim.x); }
  __device__ void meet() const { __syncthreads(); }
  __device__ bool all(bool mine) const { return __syncthreads_and(mine ? 1 : 0) != 0; }
};

template <class Adding>
__global__ void __launch_bounds__(block_threads)
    one_shot_kernel(const __grid_constant__ Peers peers,
                    const __grid_constant__ OneShot<typename Adding::Stored> call) {
  one_shot<Adding>(GpuBlock{}, peers, call);
}

template <class Adding>
__global__ void __launch_bounds__(block_threads)
    by_rows_kernel(const __grid_constant__ Peers peers,
                   const __grid_constant__ ByRows<typename Adding::Stored> call) {
  by_rows<Adding>(GpuBlock{}, peers, call);
}

__global__ void wait_kernel(const std::uint32_t* word, std::uint32_t turn) {
  while (!has_reached(load_acquire(word), turn)) __nanosleep(200);
}

/// Calls `use` with a value of the type that does this arithmetic.
template <class Stored, class Use>
Status with_op(const Arithmetic& arithmetic, Use&& use) {
  switch (arithmetic.op) {
    case ReduceOp::min: return use(Plain<Stored, Min>{});
    case ReduceOp::max: return use(Plain<Stored, Max>{});
    case ReduceOp::sum:
    case ReduceOp::average: break;
  }
  return use(Plain<Stored, Sum>{});
}

template <class Use>
Status with_adding(const Arithmetic& arithmetic, Use&& use) {
  if (arithmetic.fixed_point) {
    if (arithmetic.type == DataType::f64) return use(Fixed<double>{});
    return use(Fixed<float>{});
  }
  switch (arithmetic.type) {
    case DataType::f32: return with_op<float>(arithmetic, use);
    case DataType::f64: return with_op<double>(arithmetic, use);
    case DataType::i32: return with_op<std::int32_t>(arithmetic, use);
    case DataType::i64: return with_op<std::int64_t>(arithmetic, use);
    case DataType::f16: return with_op<Half>(arithmetic, use);
    case DataType::bf16: return with_op<Brain>(arithmetic, use);
    case DataType::u8: break;
  }
  return with_op<std::uint8_t>(arithmetic, use);
}

template <class Stored>
OneShot<Stored> typed(const OneShot<std::byte>& call) {
  OneShot<Stored> own;
  own.input = reinterpret_cast<const Stored*>(call.input);
  own.output = reinterpret_cast<Stored*>(call.output);
  own.count = call.count;
  own.weight = call.weight;
  own.scaling = call.scaling;
  own.turn = call.turn;
  return own;
}

template <class Stored>
ByRows<Stored> typed(const ByRows<std::byte>& call) {
  ByRows<Stored> own;
  own.input = reinterpret_cast<const Stored*>(call.input);
  own.output = reinterpret_cast<Stored*>(call.output);
  std::copy(std::begin(call.row_begin), std::end(call.row_begin), std::begin(own.row_begin));
  std::copy(std::begin(call.row_count), std::end(call.row_count), std::begin(own.row_count));
  own.offset = call.offset;
  own.step = call.step;
  own.reduces = call.reduces;
  own.gathers = call.gathers;
  own.weight = call.weight;
  own.scaling = call.scaling;
  own.turn = call.turn;
  return own;
}

Status load(const void* kernel) {
  cudaFuncAttributes attributes{};
  return check(cudaFuncGetAttributes(&attributes, kernel), "a kernel cannot be loaded");
}

template <class Adding>
Status load_both(Adding) {
  PACELINE_TRY(load(reinterpret_cast<const void*>(&one_shot_kernel<Adding>)));
  return load(reinterpret_cast<const void*>(&by_rows_kernel<Adding>));
}

}  // namespace

int blocks_for(std::size_t bytes) {
  // A block is worth its flags from here on: each of its threads has 16 bytes to move.
  constexpr std::size_t bytes_per_block = 16 * block_threads;
  return static_cast<int>(std::clamp<std::size_t>(bytes / bytes_per_block, 1, most_blocks));
}

Status launch(const Arithmetic& arithmetic, const Peers& peers, const OneShot<std::byte>& call,
              cudaStream_t stream) {
  const int blocks = blocks_for(call.count * element_bytes(arithmetic.type));
  return with_adding(arithmetic, [&](auto adding) {
    using Adding = decltype(adding);
    one_shot_kernel<Adding>
        <<<blocks, block_threads, 0, stream>>>(peers, typed<typename Adding::Stored>(call));
    return check(cudaGetLastError(), "a kernel cannot be launched");
  });
}

Status launch(const Arithmetic& arithmetic, const Peers& peers, const ByRows<std::byte>& call,
              cudaStream_t stream) {
  const std::size_t rows = call.reduces ? static_cast<std::size_t>(peers.size) : 1;
  const int blocks = blocks_for(rows * call.step * element_bytes(arithmetic.type));
  return with_adding(arithmetic, [&](auto adding) {
    using Adding = decltype(adding);
    by_rows_kernel<Adding><<<blocks, block_threads, 0, stream>>>(peers, typed<typename Adding::Stored>(call));
    return check(cudaGetLastError(), "a kernel cannot be launched");
  });
}

Status launch_wait(const std::uint32_t* word, std::uint32_t turn, cudaStream_t stream) {
  wait_kernel<<<1, 1, 0, stream>>>(word, turn);
  return check(cudaGetLastError(), "a kernel cannot be launched");
}

Status load_kernels() {
  PACELINE_TRY(load(reinterpret_cast<const void*>(&wait_kernel)));
  const auto both = [](auto adding) { return load_both(adding); };
  for (const DataType type : {DataType::f32, DataType::f64, DataType::i32, DataType::i64, DataType::f16,
                              DataType::bf16, DataType::u8})
    for (const ReduceOp op : {ReduceOp::sum, ReduceOp::min, ReduceOp::max})
      PACELINE_TRY(with_adding({type, op, false}, both));
  for (const DataType type : {DataType::f32, DataType::f64})
    PACELINE_TRY(with_adding({type, ReduceOp::sum, true}, both));
  return {};
}

}  // namespace paceline::cuda::ipc
