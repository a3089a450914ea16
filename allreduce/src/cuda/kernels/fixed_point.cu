#include "fixed_point.cuh"

#include <cmath>

#include "launch.cuh"
#include "paceline/cuda_kernels.hpp"

namespace paceline::cuda {
namespace {

using namespace kernels;

// As the CPU library and the worker have them.
constexpr int most_sum_exponent = 60;
constexpr int least_term_exponent = -128;
constexpr int most_term_exponent = 192;

template <class T>
Status partial(std::int64_t* sums, std::span<const void* const> sources, std::span<const double> weights,
               int exponent, std::size_t count, cudaStream_t stream) {
  using P = FixedPartial<T>;
  P share{};
  share.out = sums;
  share.in_count = static_cast<int>(sources.size());
  share.factor = std::ldexp(1.0, exponent);
  Split parts = split({{sums, sizeof *sums}}, P::group, count);
  for (std::size_t k = 0; k < sources.size(); ++k) {
    share.in[k] = static_cast<const T*>(sources[k]);
    share.weight[k] = weights.empty() ? T{1} : static_cast<T>(weights[k]);
    const Split common = split({{sums, sizeof *sums}, {sources[k], sizeof(T)}}, P::group, count);
    if (common.groups == 0) parts = common;
  }
  return launch_walk(share, parts, stream, "a fixed-point sum");
}

template <class T>
Status decode_sums(void* out, const std::int64_t* sums, int exponent, double divisor, std::size_t count,
                   cudaStream_t stream) {
  using D = FixedDecode<T>;
  const D share{static_cast<T*>(out), sums, std::ldexp(1.0, -exponent), divisor};
  const Split parts = split({{out, sizeof(T)}, {sums, sizeof *sums}}, D::group, count);
  return launch_walk(share, parts, stream, "fixed-point sums' conversion");
}

__global__ void __launch_bounds__(block_threads)
    accumulate_kernel(const __grid_constant__ AccumulateTerms share, Split split, std::uint32_t* greatest) {
  AccumulateTerms mine = share;
  const std::size_t worker = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  walk(mine, split, worker, static_cast<std::size_t>(gridDim.x) * blockDim.x);
  const std::uint32_t of_warp = __reduce_max_sync(0xffffffffU, mine.greatest);
  // In any order: the greatest is the greatest.
  if (threadIdx.x % warpSize == 0 && of_warp > 0) atomicMax(greatest, of_warp);
}

Status check_type(DataType type) {
  if (type == DataType::f32 || type == DataType::f64) return {};
  return invalid(concat("fixed-point sums are of f32 or f64, not ", to_string(type)));
}

Status check_exponent(int exponent, int least, int most) {
  if (exponent >= least && exponent <= most) return {};
  return invalid(concat("the fixed-point exponent must be from ", least, " to ", most, ", not ", exponent));
}

}  // namespace

Status fixed_partial(std::int64_t* sums, std::span<const void* const> sources,
                     std::span<const double> weights, DataType type, int exponent, std::size_t count,
                     cudaStream_t stream) {
  if (sources.empty() || sources.size() > max_sources)
    return invalid(concat("a reduction has 1 to ", max_sources, " sources, not ", sources.size()));
  if (!weights.empty() && weights.size() != sources.size())
    return invalid(concat("a reduction of ", sources.size(), " sources has ", weights.size(), " weights"));
  PACELINE_TRY(check_type(type));
  PACELINE_TRY(check_exponent(exponent, -most_sum_exponent, most_sum_exponent));
  if (count == 0) return {};
  PACELINE_TRY(check_pointer(sums, sizeof *sums, "the fixed-point sum"));
  for (const void* source : sources)
    PACELINE_TRY(check_pointer(source, element_bytes(type), "a source of a fixed-point sum"));
  if (type == DataType::f32) return partial<float>(sums, sources, weights, exponent, count, stream);
  return partial<double>(sums, sources, weights, exponent, count, stream);
}

Status fixed_add(std::int64_t* sum, std::span<const std::int64_t* const> parts, std::size_t count,
                 cudaStream_t stream) {
  if (parts.empty() || parts.size() > max_sources)
    return invalid(concat("a reduction has 1 to ", max_sources, " sources, not ", parts.size()));
  if (count == 0) return {};
  PACELINE_TRY(check_pointer(sum, sizeof *sum, "the fixed-point sum"));
  using C = Combine<FixedElement, FixedSum>;
  C share{};
  share.out = sum;
  share.in_count = static_cast<int>(parts.size());
  Split range = split({{sum, sizeof *sum}}, C::group, count);
  for (std::size_t k = 0; k < parts.size(); ++k) {
    PACELINE_TRY(check_pointer(parts[k], sizeof *sum, "a part of a fixed-point sum"));
    share.in[k] = parts[k];
    const Split common = split({{sum, sizeof *sum}, {parts[k], sizeof *sum}}, C::group, count);
    if (common.groups == 0) range = common;
  }
  return launch_walk(share, range, stream, "a fixed-point sum");
}

Status fixed_decode(void* out, const std::int64_t* sums, DataType type, int exponent, double divisor,
                    std::size_t count, cudaStream_t stream) {
  PACELINE_TRY(check_type(type));
  PACELINE_TRY(check_exponent(exponent, -most_sum_exponent, most_sum_exponent));
  if (count == 0) return {};
  PACELINE_TRY(check_pointer(out, element_bytes(type), "the output of fixed-point sums"));
  PACELINE_TRY(check_pointer(sums, sizeof *sums, "fixed-point sums"));
  if (type == DataType::f32) return decode_sums<float>(out, sums, exponent, divisor, count, stream);
  return decode_sums<double>(out, sums, exponent, divisor, count, stream);
}

Status fixed_accumulate(std::int64_t* sums, const float* values, int exponent, bool first,
                        std::uint32_t* greatest, std::size_t count, cudaStream_t stream) {
  PACELINE_TRY(check_exponent(exponent, least_term_exponent, most_term_exponent));
  if (count == 0) return {};
  PACELINE_TRY(check_pointer(sums, sizeof *sums, "fixed-point sums"));
  PACELINE_TRY(check_pointer(values, sizeof *values, "the terms of fixed-point sums"));
  PACELINE_TRY(check_pointer(greatest, sizeof *greatest, "the place for the greatest term"));
  static ResidentBlocks known;
  const AccumulateTerms share{sums, values, std::ldexp(1.0, exponent), first, 0};
  const Split parts = split({{sums, sizeof *sums}, {values, sizeof *values}}, AccumulateTerms::group, count);
  return launch(&accumulate_kernel, known, workers_for(parts), stream, "fixed-point accumulation", share,
                parts, greatest);
}

Status fixed_convert(float* values, const std::int64_t* sums, int exponent, std::size_t count,
                     cudaStream_t stream) {
  PACELINE_TRY(check_exponent(exponent, least_term_exponent, most_term_exponent));
  if (count == 0) return {};
  PACELINE_TRY(check_pointer(values, sizeof *values, "the output of fixed-point sums"));
  PACELINE_TRY(check_pointer(sums, sizeof *sums, "fixed-point sums"));
  const ConvertTerms share{values, sums, std::ldexp(1.0, -exponent)};
  const Split parts = split({{values, sizeof *values}, {sums, sizeof *sums}}, ConvertTerms::group, count);
  return launch_walk(share, parts, stream, "fixed-point sums' conversion");
}

}  // namespace paceline::cuda
