#pragma once

// How elements lie in memory and what they are computed in. Conversions round to nearest, ties to even, and
// give the bits of the CPU library's (allreduce/src/kernels/body.inc), NaN's included.

#include <type_traits>

#include "host_device.cuh"

namespace paceline::cuda::kernels {

PACELINE_HD float widen_f16_by_integers(std::uint16_t half) {
  constexpr std::uint32_t infinity = 0x1fU
                                     << 23;  // binary16's largest exponent, where it lands after the shift
  const std::uint32_t magnitude = (half & 0x7fffU) << 13;
  const std::uint32_t exponent = magnitude & infinity;
  const std::uint32_t normal = magnitude + ((127U - 15U) << 23);
  const std::uint32_t special = normal + ((128U - 16U) << 23);  // infinities and NaNs
  // A subnormal: one more exponent, and the implicit bit that it does not have is taken away again.
  const float subnormal = bits_as<float>(normal + (1U << 23)) - bits_as<float>(113U << 23);
  const std::uint32_t value =
      exponent == infinity ? special : (exponent == 0 ? bits_as<std::uint32_t>(subnormal) : normal);
  const std::uint32_t quiet = exponent == infinity && (magnitude & 0x007fffffU) != 0 ? 1U << 22 : 0U;
  return bits_as<float>(value | quiet | static_cast<std::uint32_t>(half & 0x8000U) << 16);
}

PACELINE_HD std::uint16_t narrow_f16_by_integers(float value) {
  constexpr std::uint32_t overflow = (127U + 16U) << 23;
  constexpr std::uint32_t least_normal = 113U << 23;
  const std::uint32_t all = bits_as<std::uint32_t>(value);
  const std::uint32_t sign = all & 0x80000000U;
  const std::uint32_t magnitude = all ^ sign;
  const std::uint32_t special = magnitude > 0x7f800000U ? 0x7e00U | (magnitude >> 13 & 0x3ffU) : 0x7c00U;
  // Adding a half makes the processor round where binary16's subnormals end.
  const std::uint32_t half = ((127U - 15U) + (23U - 10U) + 1U) << 23;
  const std::uint32_t subnormal =
      bits_as<std::uint32_t>(bits_as<float>(magnitude) + bits_as<float>(half)) - half;
  const std::uint32_t odd = magnitude >> 13 & 1U;
  const std::uint32_t normal = (magnitude - ((127U - 15U) << 23) + 0xfffU + odd) >> 13;
  const std::uint32_t result =
      magnitude >= overflow ? special : (magnitude < least_normal ? subnormal : normal);
  return static_cast<std::uint16_t>(result | sign >> 16);
}

// On the GPU its own conversions, of which only those of NaN differ.

PACELINE_HD float widen_f16(std::uint16_t half) {
#ifdef __CUDA_ARCH__
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half));
  if ((half & 0x7fffU) > 0x7c00U)
    return bits_as<float>(0x7fc00000U | (half & 0x3ffU) << 13 | (half & 0x8000U) << 16);
  return value;
#else
  return widen_f16_by_integers(half);
#endif
}

PACELINE_HD std::uint16_t narrow_f16(float value) {
#ifdef __CUDA_ARCH__
  std::uint16_t half;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(value));
  const std::uint32_t all = bits_as<std::uint32_t>(value);
  if ((all & 0x7fffffffU) > 0x7f800000U)
    return static_cast<std::uint16_t>(0x7e00U | (all >> 13 & 0x3ffU) | (all >> 16 & 0x8000U));
  return half;
#else
  return narrow_f16_by_integers(value);
#endif
}

PACELINE_HD float widen_bf16(std::uint16_t half) {
  return bits_as<float>(static_cast<std::uint32_t>(half) << 16);
}

PACELINE_HD std::uint16_t narrow_bf16(float value) {
  const std::uint32_t all = bits_as<std::uint32_t>(value);
  const std::uint32_t rounded = (all + 0x7fffU + (all >> 16 & 1U)) >> 16;
  const std::uint32_t nan = all >> 16 | 0x40U;
  return static_cast<std::uint16_t>((all & 0x7fffffffU) > 0x7f800000U ? nan : rounded);
}

/// f64 on its way to 16 bits: cut off to f32, with the last bit set where something was lost. To round that
/// is to round once (Boldo and Melquiond, "Emulation of a FMA and correctly-rounded sums", 2008, section 2).
PACELINE_HD float round_to_odd(double value) {
  const float nearest = static_cast<float>(value);
  const double back = static_cast<double>(nearest);
  if (back == value || value != value) return nearest;
  const double magnitude = value < 0 ? -value : value;
  const bool up = (back < 0 ? -back : back) > magnitude;
  return bits_as<float>((bits_as<std::uint32_t>(nearest) - (up ? 1U : 0U)) | 1U);
}

template <class T>
struct Plain {
  using Stored = T;
  using Wide = T;
  PACELINE_HD static T widen(T value) { return value; }
  template <class From>
  PACELINE_HD static T narrow(From value) {
    return static_cast<T>(value);
  }
};

struct F16 {
  using Stored = std::uint16_t;
  using Wide = float;
  PACELINE_HD static float widen(std::uint16_t value) { return widen_f16(value); }
  PACELINE_HD static std::uint16_t narrow(float value) { return narrow_f16(value); }
  PACELINE_HD static std::uint16_t narrow(double value) { return narrow_f16(round_to_odd(value)); }
};

struct BF16 {
  using Stored = std::uint16_t;
  using Wide = float;
  PACELINE_HD static float widen(std::uint16_t value) { return widen_bf16(value); }
  PACELINE_HD static std::uint16_t narrow(float value) { return narrow_bf16(value); }
  PACELINE_HD static std::uint16_t narrow(double value) { return narrow_bf16(round_to_odd(value)); }
};

/// Elements of one 16-byte access.
template <class E>
inline constexpr int elements_of_16_bytes = 16 / static_cast<int>(sizeof(typename E::Stored));

}  // namespace paceline::cuda::kernels
