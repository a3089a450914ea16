#include "squares.cuh"

#include <algorithm>
#include <cmath>

#include "launch.cuh"
#include "paceline/cuda_kernels.hpp"

namespace paceline::cuda {
namespace {

using namespace kernels;

constexpr int most_arrays = 2;

struct Squares {
  const void* arrays[most_arrays];
  double scale[most_arrays];  ///< of each array's sum
  std::size_t count;
  std::size_t chunks;
  double* partials;  ///< by array and chunk
  double* results;
  bool accumulate;
  bool wide;
};

/// tree_sum() of what a block's threads hold, in thread 0. `shared` has `width` places.
template <int width>
__device__ double block_tree_sum(double mine, double* shared) {
  const auto thread = static_cast<int>(threadIdx.x);
  shared[thread] = mine;
  __syncthreads();
  for (int half = width / 2; half >= 32; half /= 2) {
    if (thread < half) shared[thread] += shared[thread + half];
    __syncthreads();
  }
  double sum = thread < 32 ? shared[thread] : 0;
  __syncthreads();  // the places may be used again
  if (thread < 32)
    for (int half = 16; half > 0; half /= 2) sum += __shfl_down_sync(0xffffffffU, sum, half);
  return sum;
}

template <class E>
__global__ void __launch_bounds__(square_threads) chunks_kernel(const __grid_constant__ Squares squares) {
  __shared__ double shared[square_threads];
  const auto* array = static_cast<const typename E::Stored*>(squares.arrays[blockIdx.y]);
  for (std::size_t chunk = blockIdx.x; chunk < squares.chunks; chunk += gridDim.x) {
    const std::size_t begin = chunk * chunk_elements<E>;
    const double mine =
        square_share<E>(array + begin, squares.count - begin, static_cast<int>(threadIdx.x), squares.wide);
    const double sum = block_tree_sum<square_threads>(mine, shared);
    if (threadIdx.x == 0) squares.partials[blockIdx.y * squares.chunks + chunk] = sum;
  }
}

__global__ void __launch_bounds__(partial_threads) partials_kernel(const __grid_constant__ Squares squares) {
  __shared__ double shared[partial_threads];
  const double* partials = squares.partials + blockIdx.x * squares.chunks;
  const double mine = partial_share(partials, squares.chunks, static_cast<int>(threadIdx.x));
  const double sum = block_tree_sum<partial_threads>(mine, shared) * squares.scale[blockIdx.x];
  if (threadIdx.x == 0)
    squares.results[blockIdx.x] = squares.accumulate ? squares.results[blockIdx.x] + sum : sum;
}

__global__ void factor_kernel(float* factor, const double* squares, double clip_norm, double scale) {
  *factor = factor_for(*squares, clip_norm, scale);
}

template <class E>
Status start_chunks(Squares squares, unsigned arrays, cudaStream_t stream) {
  static ResidentBlocks known;
  const auto* chunks = reinterpret_cast<const void*>(&chunks_kernel<E>);
  PACELINE_ASSIGN(const int most, resident_blocks(chunks, square_threads, known));
  const auto blocks = static_cast<unsigned>(std::min<std::size_t>(squares.chunks, most));
  void* arguments[] = {&squares};
  return start(chunks, dim3(blocks, arrays), square_threads, arguments, stream, "a sum of squares");
}

std::size_t chunk_of(DataType type) {
  return static_cast<std::size_t>(chunk_elements<Plain<float>>) * sizeof(float) / element_bytes(type);
}
static_assert(chunk_elements<Plain<double>> * 2 == chunk_elements<Plain<float>> &&
                  chunk_elements<F16> == chunk_elements<Plain<float>> * 2,
              "chunks are of the same bytes");

std::size_t chunks_of(DataType type, std::size_t count) {
  return (count + chunk_of(type) - 1) / chunk_of(type);
}

Status start_squares(Squares squares, DataType type, unsigned arrays, cudaStream_t stream) {
  if (squares.chunks > 0) switch (type) {
      case DataType::f32: PACELINE_TRY(start_chunks<Plain<float>>(squares, arrays, stream)); break;
      case DataType::f64: PACELINE_TRY(start_chunks<Plain<double>>(squares, arrays, stream)); break;
      case DataType::f16: PACELINE_TRY(start_chunks<F16>(squares, arrays, stream)); break;
      default: PACELINE_TRY(start_chunks<BF16>(squares, arrays, stream)); break;
    }
  void* arguments[] = {&squares};
  return start(reinterpret_cast<const void*>(&partials_kernel), dim3(arrays), partial_threads, arguments,
               stream, "a sum of squares");
}

Status check_squares(DataType type, const double* results, const void* workspace) {
  if (type != DataType::f32 && type != DataType::f64 && type != DataType::f16 && type != DataType::bf16)
    return invalid(concat("norms are of floating types, not of ", to_string(type)));
  PACELINE_TRY(check_pointer(results, sizeof(double), "the place for a sum of squares"));
  return check_pointer(workspace, sizeof(double), "the workspace of a sum of squares");
}

bool aligned_for_groups(const void* array) {
  return reinterpret_cast<std::uintptr_t>(array) % 16 == 0;
}

}  // namespace

std::size_t squares_workspace_bytes(DataType type, std::size_t count) noexcept {
  return (chunks_of(type, count) + 1) * most_arrays * sizeof(double);
}

Status sum_of_squares(double* result, const void* values, DataType type, std::size_t count, bool accumulate,
                      void* workspace, cudaStream_t stream) {
  PACELINE_TRY(check_squares(type, result, workspace));
  if (count > 0) PACELINE_TRY(check_pointer(values, element_bytes(type), "the data of a sum of squares"));
  const Squares squares{{values},
                        {1},
                        count,
                        chunks_of(type, count),
                        static_cast<double*>(workspace),
                        result,
                        accumulate,
                        aligned_for_groups(values)};
  return start_squares(squares, type, 1, stream);
}

Status noise_statistics(double* results, const void* local, double local_scale, const void* mean,
                        DataType type, std::size_t count, bool accumulate, void* workspace,
                        cudaStream_t stream) {
  PACELINE_TRY(check_squares(type, results, workspace));
  if (!std::isfinite(local_scale)) return invalid("the scale of a rank's gradient must be finite");
  if (count > 0) PACELINE_TRY(check_pointer(local, element_bytes(type), "a rank's gradient"));
  if (count > 0) PACELINE_TRY(check_pointer(mean, element_bytes(type), "the mean gradient"));
  const Squares squares{{local, mean},
                        {local_scale * local_scale, 1},
                        count,
                        chunks_of(type, count),
                        static_cast<double*>(workspace),
                        results,
                        accumulate,
                        aligned_for_groups(local) && aligned_for_groups(mean)};
  return start_squares(squares, type, 2, stream);
}

Status gradient_factor(float* factor, const double* squares, double clip_norm, double scale,
                       cudaStream_t stream) {
  PACELINE_TRY(check_pointer(factor, sizeof *factor, "the place for the gradients' factor"));
  PACELINE_TRY(check_pointer(squares, sizeof *squares, "the sum of squares"));
  if (!(clip_norm >= 0) || !std::isfinite(clip_norm))
    return invalid(concat("gradients cannot be clipped to a norm of ", clip_norm));
  if (!(scale > 0) || !std::isfinite(scale)) return invalid(concat("gradients cannot be scaled by ", scale));
  void* arguments[] = {&factor, &squares, &clip_norm, &scale};
  return start(reinterpret_cast<const void*>(&factor_kernel), dim3(1), 1, arguments, stream,
               "the gradients' factor");
}

}  // namespace paceline::cuda
