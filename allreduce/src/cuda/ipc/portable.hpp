#pragma once

#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

// What the kernels need in two forms: for the GPU, and for threads on the host that run the same code in
// tests.

#ifdef __CUDACC__
#define PACELINE_HD __host__ __device__
#else
#define PACELINE_HD
#endif

namespace paceline::cuda::ipc {

/// Reads and writes words that ranks tell each other things with. Acquire and release at the scope of the
/// system: what was written before the release, anywhere, is seen after the acquire. `word` may be a peer's
/// memory.
PACELINE_HD inline std::uint32_t load_acquire(const std::uint32_t* word) {
#ifdef __CUDA_ARCH__
  std::uint32_t value = 0;
  asm volatile("ld.acquire.sys.u32 %0, [%1];" : "=r"(value) : "l"(word) : "memory");
  return value;
#else
  return __atomic_load_n(word, __ATOMIC_ACQUIRE);
#endif
}

PACELINE_HD inline void store_release(std::uint32_t* word, std::uint32_t value) {
#ifdef __CUDA_ARCH__
  asm volatile("st.release.sys.u32 [%0], %1;" : : "l"(word), "r"(value) : "memory");
#else
  __atomic_store_n(word, value, __ATOMIC_RELEASE);
#endif
}

/// A product that is rounded before anything is added to it. A compiler that fuses the two here and not there
/// would give ranks whose data lies differently in memory different bits.
PACELINE_HD inline float multiply(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}
PACELINE_HD inline double multiply(double a, double b) {
#ifdef __CUDA_ARCH__
  return __dmul_rn(a, b);
#else
  return a * b;
#endif
}

/// Binary16 and bfloat16, rounded to nearest even; the bits are those of the host's kernels but for NaN.
struct Half {
  std::uint16_t bits;
};
struct Brain {
  std::uint16_t bits;
};

#ifndef __CUDA_ARCH__
template <class To, class From>
inline To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}
#endif

PACELINE_HD inline float widen(Half half) {
#ifdef __CUDA_ARCH__
  return __half2float(__ushort_as_half(half.bits));
#else
  const std::uint32_t sign = static_cast<std::uint32_t>(half.bits & 0x8000U) << 16;
  const std::uint32_t magnitude = half.bits & 0x7fffU;
  if (magnitude >= 0x7c00U) return bits_as<float>(sign | 0x7f800000U | (magnitude & 0x3ffU) << 13);
  // The exponent's bias is put right by a multiplication, which also makes subnormals normal.
  const float scaled = bits_as<float>(magnitude << 13) * 0x1p112F;
  return bits_as<float>(sign | bits_as<std::uint32_t>(scaled));
#endif
}

PACELINE_HD inline Half narrow_half(float value) {
#ifdef __CUDA_ARCH__
  return {__half_as_ushort(__float2half_rn(value))};
#else
  const std::uint32_t all = bits_as<std::uint32_t>(value);
  const std::uint16_t sign = static_cast<std::uint16_t>(all >> 16 & 0x8000U);
  const std::uint32_t magnitude = all & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return {static_cast<std::uint16_t>(sign | 0x7e00U)};
  if (magnitude >= 0x477ff000U) return {static_cast<std::uint16_t>(sign | 0x7c00U)};  // rounds to infinity
  if (magnitude < 0x38800000U) {  // subnormal: the processor rounds when a half of the last place is added
    const float rounded = bits_as<float>(magnitude) + 0.5F;
    return {static_cast<std::uint16_t>(sign | (bits_as<std::uint32_t>(rounded) - 0x3f000000U))};
  }
  const std::uint32_t odd = magnitude >> 13 & 1U;
  return {static_cast<std::uint16_t>(sign | (magnitude - (112U << 23) + 0xfffU + odd) >> 13)};
#endif
}

PACELINE_HD inline float widen(Brain half) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(static_cast<std::uint32_t>(half.bits) << 16);
#else
  return bits_as<float>(static_cast<std::uint32_t>(half.bits) << 16);
#endif
}

PACELINE_HD inline Brain narrow_brain(float value) {
#ifdef __CUDA_ARCH__
  return {__bfloat16_as_ushort(__float2bfloat16_rn(value))};
#else
  const std::uint32_t all = bits_as<std::uint32_t>(value);
  if ((all & 0x7fffffffU) > 0x7f800000U) return {static_cast<std::uint16_t>(all >> 16 | 0x40U)};
  return {static_cast<std::uint16_t>((all + 0x7fffU + (all >> 16 & 1U)) >> 16)};
#endif
}

}  // namespace paceline::cuda::ipc
