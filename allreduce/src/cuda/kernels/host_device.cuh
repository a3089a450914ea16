#pragma once

// What kernels compute with an element, a group or a block stands in functions that the host can call too, so
// that they can be tested without a GPU: a C++ compiler without CUDA accepts every .cuh here but launch.cuh.
// No product is ever fused with an addition (--fmad=false, -ffp-contract=off): the bits must be the CPU's.

#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__
#define PACELINE_HD __host__ __device__ inline
#else
#define PACELINE_HD inline
#endif
#ifdef __CUDA_ARCH__
#define PACELINE_UNROLL _Pragma("unroll")
#else
#define PACELINE_UNROLL
#endif

namespace paceline::cuda::kernels {

template <class To, class From>
PACELINE_HD To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  return __builtin_bit_cast(To, from);
}

PACELINE_HD bool is_finite(float value) {
  return (bits_as<std::uint32_t>(value) & 0x7fffffffU) < 0x7f800000U;
}

}  // namespace paceline::cuda::kernels
