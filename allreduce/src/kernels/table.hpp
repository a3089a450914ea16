#pragma once

#include <stddef.h>
#include <stdint.h>

namespace paceline::kernels {

/// out[o][i] = (in[0][i] * weight[0] op in[1][i] * weight[1] op ...) / divisor, for every o: one pass over
/// memory. An output may be an input itself, but must not overlap one otherwise.
struct Combine {
  void* const* outs;
  int out_count;
  const void* const* ins;
  int in_count;
  const double* weights;  ///< by input; null: all 1
  double divisor;         ///< 1: none
  size_t count;           ///< elements
};

/// The same for fixed point. Partial sums are int64; `poison` stands for an element that is out of range.
struct FixedCombine {
  const void* const* ins;  ///< floats or doubles
  int in_count;
  const double* weights;  ///< by input; null: all 1
  double factor;          ///< 2^exponent
  size_t count;
};

/// Elements of a block of the int8 codec, which travel as one f32 scale and as many int8.
inline constexpr size_t int8_block = 256;

inline constexpr int fixed_combine_inputs = 2048;

/// Every kernel of one instruction set. Types and operations in the order of the enumerations.
struct Table {
  void (*combine[7][3])(const Combine&);
  void (*fixed_partial[2])(int64_t* out, const FixedCombine&);  ///< f32, f64
  void (*fixed_add)(int64_t* out, const int64_t* a, const int64_t* b, size_t count);
  /// Partial sums of up to fixed_combine_inputs inputs, decoded at once.
  void (*fixed_combine[2])(const Combine&, double factor);
  /// outs[o][i] = in[i] / factor / divisor, NaN for poison
  void (*fixed_decode[2])(void* const* outs, int out_count, const int64_t* in, double factor, double divisor,
                          size_t count);
  void (*encode_f16)(uint16_t* out, const float* in, size_t count);
  void (*decode_f16)(float* out, const uint16_t* in, size_t count);
  void (*encode_bf16)(uint16_t* out, const float* in, size_t count);
  void (*decode_bf16)(float* out, const uint16_t* in, size_t count);
  /// One block of `count` <= int8_block elements.
  void (*encode_int8)(float* scale, int8_t* out, const float* in, size_t count);
  void (*decode_int8)(float* out, float scale, const int8_t* in, size_t count);
};

namespace generic {
Table table();
}
namespace avx2 {
Table table();
}
namespace avx512 {
Table table();
}

}  // namespace paceline::kernels
