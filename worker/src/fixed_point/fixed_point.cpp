#include "fixed_point.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels.hpp"
#include "paceline/base/assert.hpp"

namespace paceline::fixed_point {
namespace {

Kernels widest_kernels() {
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx512f")) return avx512::kernels();
  if (__builtin_cpu_supports("avx2")) return avx2::kernels();
#endif
  return generic::kernels();
}

const Kernels& kernels() {
  static const Kernels widest = widest_kernels();
  return widest;
}

/// The least e with value < 2^e.
int exponent_above(float value) noexcept {
  int exponent = 0;
  static_cast<void>(std::frexp(value, &exponent));
  return exponent;
}

}  // namespace

int room_for(std::int64_t terms) noexcept {
  PACELINE_ASSERT(terms > 0, "a sum has terms");
  return 62 - std::bit_width(static_cast<std::uint64_t>(terms - 1));
}

int scale_exponent(float expected, int room) noexcept {
  PACELINE_ASSERT(std::isfinite(expected) && expected >= 0, "what is expected is a finite absolute value");
  if (expected == 0) return most_exponent;
  return std::clamp(room - headroom - exponent_above(expected), least_exponent, most_exponent);
}

bool overflows(float greatest, int exponent, int room) noexcept {
  return greatest > 0 && exponent_above(greatest) + exponent > room;
}

std::uint32_t accumulate(std::span<const float> values, int exponent, std::int64_t* sums,
                         bool first) noexcept {
  const auto kernel = first ? kernels().set : kernels().add;
  return kernel(values.data(), values.size(), std::ldexp(1.0, exponent), sums);
}

void convert(std::span<const std::int64_t> sums, int exponent, float* values) noexcept {
  kernels().convert(sums.data(), sums.size(), std::ldexp(1.0, -exponent), values);
}

double value_of(std::int64_t sum, int exponent) noexcept {
  return std::ldexp(static_cast<double>(sum), -exponent);
}

}  // namespace paceline::fixed_point
