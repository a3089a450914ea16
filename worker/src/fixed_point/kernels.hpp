#pragma once

#include <stddef.h>
#include <stdint.h>

namespace paceline::fixed_point {

/// Between f32 and 64-bit fixed point. The same bits on every instruction set, of all that fits; what doesn't
/// or isn't finite leaves a sum that says nothing.
struct Kernels {
  /// sums[i] = or += round(values[i] * factor), ties to even, for a power of two as the factor and products
  /// below 2^62. Gives the bits of the greatest |values[i]|: as integers, floats that are not negative are in
  /// their own order, then comes infinity, then what is not a number.
  uint32_t (*set)(const float* values, size_t count, double factor, int64_t* sums);
  uint32_t (*add)(const float* values, size_t count, double factor, int64_t* sums);
  /// values[i] = sums[i] * factor, rounded to f64 and then to f32.
  void (*convert)(const int64_t* sums, size_t count, double factor, float* values);
};

namespace generic {
Kernels kernels();
}
namespace avx2 {
Kernels kernels();
}
namespace avx512 {
Kernels kernels();
}

}  // namespace paceline::fixed_point
