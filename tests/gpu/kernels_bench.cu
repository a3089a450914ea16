// How fast the kernels are, beside what memory can do: each is timed in turn with a copy of as much memory by
// cudaMemcpyAsync, and what counts is the ratio of the medians. A kernel's bytes are those that must move:
// every array it reads or writes, once.

#include <algorithm>
#include <functional>

#include "gpu/check.hpp"
#include "paceline/base/hash.hpp"
#include "paceline/cuda_kernels.hpp"

namespace paceline::gpu_testing {
namespace {

constexpr double target = 0.85;  ///< of the copy's rate
constexpr int rounds = 15;
constexpr int warm_up = 3;

struct Buffers {
  float *a, *b, *c, *d;  ///< f32 arrays
  std::int64_t* wide;    ///< 8 bytes per element
  std::int64_t* wide_two;
  void* half;  ///< 2 bytes per element
  void* workspace;
  double* squares;
  std::uint32_t* greatest;
  std::size_t* boundaries;
  float* factor;
  std::size_t boundary_count;
  std::size_t count;
};

struct Measured {
  const char* kernel;
  double bytes_per_element;
  std::function<Status(const Buffers&, cudaStream_t)> run;
};

/// Bits that no memory could compress: f32 between -1 and 1, and of the 64-bit integers as many below 2^40.
__global__ void fill(float* floats, std::int64_t* wide, std::size_t count, std::uint64_t seed) {
  const std::size_t step = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  for (std::size_t i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) {
    const std::uint64_t word = mix64(i ^ seed << 40);
    if (floats != nullptr) floats[i] = static_cast<float>(static_cast<std::int64_t>(word) >> 24) * 0x1p-39F;
    if (wide != nullptr) wide[i] = static_cast<std::int64_t>(word) >> 24;
  }
}

template <class T>
T* allocate(std::size_t count) {
  void* memory = nullptr;
  REQUIRE_CUDA(cudaMalloc(&memory, count * sizeof(T)));
  REQUIRE_CUDA(cudaMemset(memory, 0, count * sizeof(T)));
  return static_cast<T*>(memory);
}

Buffers make_buffers(std::size_t count) {
  Buffers m{};
  m.count = count;
  for (float** array : {&m.a, &m.b, &m.c, &m.d}) *array = allocate<float>(count);
  m.wide = allocate<std::int64_t>(count);
  m.wide_two = allocate<std::int64_t>(count);
  m.half = allocate<std::uint16_t>(count);
  m.workspace = allocate<std::uint8_t>(cuda::squares_workspace_bytes(DataType::f32, count));
  m.squares = allocate<double>(2);
  m.greatest = allocate<std::uint32_t>(1);
  m.factor = allocate<float>(1);
  fill<<<4096, 256>>>(m.a, m.wide, count, 1);
  fill<<<4096, 256>>>(m.b, m.wide_two, count, 2);
  fill<<<4096, 256>>>(m.c, nullptr, count, 3);
  fill<<<4096, 256>>>(m.d, nullptr, count, 4);
  const Status halves = cuda::scale_and_cast(m.half, DataType::bf16, m.b, DataType::f32, count, 1, nullptr);
  require(halves.ok(), __FILE__, __LINE__, text(halves));
  const float one = 1;
  REQUIRE_CUDA(cudaMemcpy(m.factor, &one, sizeof one, cudaMemcpyHostToDevice));
  // Weight decay as a network of some 60 tensors has it: on weights, not on the small ones between.
  std::vector<std::size_t> boundaries;
  for (std::size_t i = 0; i < 60; ++i) {
    boundaries.push_back(count / 60 * i);
    boundaries.push_back(count / 60 * i + count / 64);
  }
  m.boundary_count = boundaries.size();
  m.boundaries = allocate<std::size_t>(boundaries.size());
  REQUIRE_CUDA(cudaMemcpy(m.boundaries, boundaries.data(), boundaries.size() * sizeof(std::size_t),
                          cudaMemcpyHostToDevice));
  return m;
}

/// Milliseconds of what `start` puts on the stream.
template <class Start>
float timed(cudaStream_t stream, cudaEvent_t begin, cudaEvent_t end, const Start& start) {
  REQUIRE_CUDA(cudaEventRecord(begin, stream));
  start();
  REQUIRE_CUDA(cudaEventRecord(end, stream));
  REQUIRE_CUDA(cudaEventSynchronize(end));
  float ms = 0;
  REQUIRE_CUDA(cudaEventElapsedTime(&ms, begin, end));
  return ms;
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

struct Rates {
  double kernel_gbytes_per_s;
  double copy_gbytes_per_s;
};

Rates measure(const Measured& what, const Buffers& m, cudaStream_t stream) {
  cudaEvent_t begin{}, end{};
  REQUIRE_CUDA(cudaEventCreate(&begin));
  REQUIRE_CUDA(cudaEventCreate(&end));
  const double bytes = what.bytes_per_element * static_cast<double>(m.count);
  // A copy that moves as much (reads half and writes half), as far as two arrays go.
  const std::size_t copied =
      std::min(static_cast<std::size_t>(bytes / 2), m.count * sizeof(std::int64_t)) / 16 * 16;
  std::vector<double> kernel, copy;
  for (int round = 0; round < warm_up + rounds; ++round) {
    const float copy_ms = timed(stream, begin, end, [&] {
      REQUIRE_CUDA(cudaMemcpyAsync(m.wide_two, m.wide, copied, cudaMemcpyDeviceToDevice, stream));
    });
    const float kernel_ms = timed(stream, begin, end, [&] {
      const Status status = what.run(m, stream);
      require(status.ok(), __FILE__, __LINE__, text(status));
    });
    if (round < warm_up) continue;
    copy.push_back(2 * static_cast<double>(copied) / copy_ms / 1e6);
    kernel.push_back(bytes / kernel_ms / 1e6);
  }
  REQUIRE_CUDA(cudaEventDestroy(begin));
  REQUIRE_CUDA(cudaEventDestroy(end));
  return {median(kernel), median(copy)};
}

Status reduction(const Buffers& m, DataType type, int sources, std::span<const double> weights,
                 cudaStream_t stream) {
  const void* const floats[] = {m.b, m.c, m.d, m.wide, m.b, m.c, m.d, m.wide};
  const void* const halves[] = {m.b, m.c, m.d, m.wide, m.wide_two, m.a, m.b + m.count / 2, m.c + m.count / 2};
  const std::span all(type == DataType::f32 ? floats : halves);
  return cuda::reduce(type == DataType::f32 ? static_cast<void*>(m.a) : m.half, all.first(sources), m.count,
                      {type, ReduceOp::sum, weights}, stream);
}

cuda::FlatArrays flat(const Buffers& m, DataType gradients, bool copies) {
  cuda::FlatArrays arrays;
  arrays.parameters = m.a;
  arrays.gradients = gradients == DataType::f32 ? static_cast<const void*>(m.b) : m.half;
  arrays.gradient_type = gradients;
  arrays.count = m.count;
  arrays.decay_boundaries = m.boundaries;
  arrays.boundary_count = m.boundary_count;
  arrays.gradient_factor = m.factor;
  arrays.copy = copies ? static_cast<void*>(m.wide) : nullptr;
  return arrays;
}

Status adamw(const Buffers& m, DataType gradients, bool copies, cudaStream_t stream) {
  return cuda::adamw(flat(m, gradients, copies), m.c, m.d, {1e-3, 0.9, 0.999, 1e-8, 0.01, 10}, stream);
}

std::vector<Measured> kernels() {
  using B = const Buffers&;
  using S = cudaStream_t;
  constexpr DataType f32 = DataType::f32, f16 = DataType::f16, bf16 = DataType::bf16;
  static const double weights[] = {0.1, 0.2, 0.3, 0.4};
  constexpr double int8_bytes = 1 + 4.0 / 256;
  return {
      {"scale f32", 8, [](B m, S s) { return cuda::scale_and_cast(m.a, f32, m.b, f32, m.count, 0.5, s); }},
      {"scale, f32 to f16", 6,
       [](B m, S s) { return cuda::scale_and_cast(m.half, f16, m.b, f32, m.count, 0.5, s); }},
      {"scale, f32 to bf16", 6,
       [](B m, S s) { return cuda::scale_and_cast(m.half, bf16, m.b, f32, m.count, 0.5, s); }},
      {"scale, bf16 to f32", 6,
       [](B m, S s) { return cuda::scale_and_cast(m.a, f32, m.half, bf16, m.count, 0.5, s); }},
      {"scale, f16 to f32", 6,
       [](B m, S s) { return cuda::scale_and_cast(m.a, f32, m.half, f16, m.count, 0.5, s); }},
      {"sum of 2, f32", 12, [](B m, S s) { return reduction(m, f32, 2, {}, s); }},
      {"weighted sum of 4, f32", 20, [](B m, S s) { return reduction(m, f32, 4, weights, s); }},
      {"sum of 2, bf16", 6, [](B m, S s) { return reduction(m, bf16, 2, {}, s); }},
      {"sum of 8, bf16", 18, [](B m, S s) { return reduction(m, bf16, 8, {}, s); }},
      {"sum of 8, f16", 18, [](B m, S s) { return reduction(m, f16, 8, {}, s); }},
      {"encode f16, error feedback", 14,
       [](B m, S s) { return cuda::encode(Codec::f16, m.half, m.b, m.count, m.c, s); }},
      {"encode bf16, error feedback", 14,
       [](B m, S s) { return cuda::encode(Codec::bf16, m.half, m.b, m.count, m.c, s); }},
      {"encode int8", 4 + int8_bytes,
       [](B m, S s) { return cuda::encode(Codec::int8, m.half, m.b, m.count, nullptr, s); }},
      {"encode int8, error feedback", 12 + int8_bytes,
       [](B m, S s) { return cuda::encode(Codec::int8, m.half, m.b, m.count, m.c, s); }},
      {"decode int8", 4 + int8_bytes,
       [](B m, S s) { return cuda::decode(Codec::int8, m.a, m.half, m.count, s); }},
      {"fixed point, partial sum of 1", 12,
       [](B m, S s) {
         const void* const one[] = {m.b};
         return cuda::fixed_partial(m.wide, one, {}, f32, 24, m.count, s);
       }},
      {"fixed point, sum of 2", 24,
       [](B m, S s) {
         const std::int64_t* const two[] = {m.wide, m.wide_two};
         return cuda::fixed_add(m.wide, two, m.count, s);
       }},
      {"fixed point, decode", 12,
       [](B m, S s) { return cuda::fixed_decode(m.a, m.wide, f32, 24, 1, m.count, s); }},
      {"fixed point, accumulate a term", 20,
       [](B m, S s) { return cuda::fixed_accumulate(m.wide, m.b, 24, false, m.greatest, m.count, s); }},
      {"fixed point, convert", 12, [](B m, S s) { return cuda::fixed_convert(m.a, m.wide, 24, m.count, s); }},
      {"sum of squares, f32", 4,
       [](B m, S s) { return cuda::sum_of_squares(m.squares, m.b, f32, m.count, false, m.workspace, s); }},
      {"sum of squares, bf16", 2,
       [](B m, S s) {
         return cuda::sum_of_squares(m.squares, m.half, bf16, m.count, false, m.workspace, s);
       }},
      {"noise statistics, f32", 8,
       [](B m, S s) {
         return cuda::noise_statistics(m.squares, m.b, 2, m.c, f32, m.count, false, m.workspace, s);
       }},
      {"sgd with momentum", 20,
       [](B m, S s) {
         return cuda::sgd(flat(m, f32, false), m.c, {0.1, 0.9, false, 0.01}, s);
       }},
      {"adamw", 28, [](B m, S s) { return adamw(m, f32, false, s); }},
      {"adamw, bf16 copy", 30, [](B m, S s) { return adamw(m, f32, true, s); }},
      {"adamw, bf16 gradients and copy", 28, [](B m, S s) { return adamw(m, bf16, true, s); }},
  };
}

int run(std::size_t count, std::FILE* json) {
  cudaDeviceProp device{};
  REQUIRE_CUDA(cudaGetDeviceProperties(&device, 0));
  cudaStream_t stream{};
  REQUIRE_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  const Buffers m = make_buffers(count);
  REQUIRE_CUDA(cudaDeviceSynchronize());
  std::printf("%s, %zu elements, medians of %d\n%-32s %10s %10s %7s\n", device.name, count, rounds, "kernel",
              "GB/s", "copy GB/s", "ratio");
  for (const Measured& kernel : kernels()) {
    const Rates rates = measure(kernel, m, stream);
    const double ratio = rates.kernel_gbytes_per_s / rates.copy_gbytes_per_s;
    std::printf("%-32s %10.0f %10.0f %6.1f%%%s\n", kernel.kernel, rates.kernel_gbytes_per_s,
                rates.copy_gbytes_per_s, 100 * ratio, ratio < target ? "  below 85%" : "");
    std::fflush(stdout);
    if (json == nullptr) continue;
    std::fprintf(json,
                 "{\"gpu\": \"%s\", \"kernel\": \"%s\", \"elements\": %zu, \"gbytes_per_s\": %.1f, "
                 "\"copy_gbytes_per_s\": %.1f, \"fraction_of_copy\": %.3f}\n",
                 device.name, kernel.kernel, count, rates.kernel_gbytes_per_s, rates.copy_gbytes_per_s,
                 ratio);
  }
  return 0;
}

}  // namespace
}  // namespace paceline::gpu_testing

/// kernels_bench [--elements N] [--json FILE]: 34 bytes of GPU memory per element; by default 2^27 elements,
/// so that no array fits a cache. Appends one JSON object per kernel and line to FILE.
int main(int argc, char** argv) {
  using namespace paceline::gpu_testing;
  std::size_t count = std::size_t{1} << 27;
  std::FILE* json = nullptr;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view option = argv[i];
    if (option == "--elements") count = std::strtoull(argv[i + 1], nullptr, 10) / 256 * 256;
    if (option != "--json") continue;
    json = std::fopen(argv[i + 1], "a");
    require(json != nullptr, __FILE__, __LINE__, std::string(argv[i + 1]) + " cannot be written");
  }
  require(count >= 4096, __FILE__, __LINE__, "--elements takes a number from 4096");
  require_gpu("kernels_bench");
  const int status = run(count, json);
  if (json != nullptr) static_cast<void>(std::fclose(json));
  return status;
}
