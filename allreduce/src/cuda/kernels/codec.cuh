#pragma once

// The codecs of allreduce/src/codec.cpp, bit for bit. A block of the int8 codec is one f32 scale and, behind
// it, as many int8 as the block has elements: 260 bytes, so that on the wire only every fourth block begins
// at 16 bytes, and a warp, which does a block, writes it in words of 4 bytes that lie side by side.

#include "element.cuh"
#include "walk.cuh"

namespace paceline::cuda::kernels {

/// What stays of an element for the next call: what rounding took, unless it was an overflow, which is in the
/// result and must not stay for ever.
PACELINE_HD float kept_error(float corrected, float decoded) {
  const float error = corrected - decoded;
  return is_finite(error) ? error : 0.0F;
}

/// wire = 16 bits of (in + residual), residual = what that lost.
template <class Half>
struct EncodeWithFeedback {
  static constexpr int group = 4;
  static constexpr int unroll = 2;
  template <int n>
  struct Loaded {
    Pack<float, n> in;
    Pack<float, n> lost;
  };

  std::uint16_t* wire;
  const float* in;
  float* residual;

  template <int n>
  PACELINE_HD Loaded<n> load(std::size_t first) const {
    return {kernels::load<n>(in + first), kernels::load<n>(static_cast<const float*>(residual) + first)};
  }
  template <int n>
  PACELINE_HD void finish(std::size_t first, const Loaded<n>& loaded) const {
    Pack<std::uint16_t, n> coded;
    Pack<float, n> lost;
    PACELINE_UNROLL
    for (int e = 0; e < n; ++e) {
      const float corrected = loaded.in.at[e] + loaded.lost.at[e];
      coded.at[e] = Half::narrow(corrected);
      lost.at[e] = kept_error(corrected, Half::widen(coded.at[e]));
    }
    store(wire + first, coded);
    store(residual + first, lost);
  }
};

inline constexpr int int8_block = 256;
inline constexpr std::size_t int8_wire_block = sizeof(float) + int8_block;
inline constexpr int warp_lanes = 32;
inline constexpr int lane_elements = int8_block / warp_lanes;

/// The largest magnitude becomes 127. Infinities and NaN make the whole block NaN; below 2^-100 the inverse
/// would overflow, and such blocks count as zero. `largest`: its bits, which are ordered as magnitudes are.
struct Int8Scale {
  PACELINE_HD explicit Int8Scale(std::uint32_t largest) {
    finite = largest < 0x7f800000U;
    const float top = bits_as<float>(largest);
    const bool tiny = top < 7.8886090522e-31F;
    scale = finite ? (tiny ? 0.0F : top / 127.0F) : bits_as<float>(0x7fc00000U);
    inverse = finite && !tiny ? 127.0F / top : 0.0F;
  }
  PACELINE_HD std::int8_t quantize(float value) const {
    constexpr float magic = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
    const float scaled = finite ? value * inverse : 0.0F;
    return static_cast<std::int8_t>(bits_as<std::int32_t>(scaled + magic) - bits_as<std::int32_t>(magic));
  }
  float scale;
  float inverse;
  bool finite;
};

PACELINE_HD float dequantize(std::int8_t value, float scale) {
  return static_cast<float>(value) * scale;
}

/// A lane's elements of its warp's block: 4 from its own place in the block's first half, 4 in the second.
PACELINE_HD int lane_element(int lane, int half) {
  return half * (int8_block / 2) + lane * 4;
}

PACELINE_HD void put_scale(std::uint8_t* block, float scale, bool words) {
  if (words)
    *reinterpret_cast<float*>(block) = scale;
  else
    for (int b = 0; b < 4; ++b)
      block[b] = static_cast<std::uint8_t>(bits_as<std::uint32_t>(scale) >> (8 * b));
}

PACELINE_HD float get_scale(const std::uint8_t* block, bool words) {
  if (words) return *reinterpret_cast<const float*>(block);
  std::uint32_t bits = 0;
  for (int b = 0; b < 4; ++b) bits |= static_cast<std::uint32_t>(block[b]) << (8 * b);
  return bits_as<float>(bits);
}

struct Int8Arrays {
  std::uint8_t* wire;
  float* values;    ///< read by the encoder, written by the decoder
  float* residual;  ///< or null
  std::size_t count;
  bool wide_values;  ///< values and residual begin at 16 bytes
  bool wide_wire;    ///< the wire begins at 4 bytes

  PACELINE_HD std::size_t blocks() const { return (count + int8_block - 1) / int8_block; }
  PACELINE_HD int elements_of(std::size_t block) const {
    const std::size_t left = count - block * int8_block;
    return left < int8_block ? static_cast<int>(left) : int8_block;
  }
};

/// What one lane does with a block: read(), then the largest of all lanes' is found, then write().
struct Int8EncodeLane {
  const Int8Arrays& arrays;
  std::size_t block;
  int lane;
  float corrected[lane_elements] = {};

  /// Gives the bits of the largest magnitude among this lane's elements.
  PACELINE_HD std::uint32_t read() {
    const float* in = arrays.values + block * int8_block;
    const float* lost = arrays.residual == nullptr ? nullptr : arrays.residual + block * int8_block;
    const int n = arrays.elements_of(block);
    PACELINE_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int first = lane_element(lane, half);
      float* mine = corrected + half * 4;
      if (arrays.wide_values && first + 4 <= n) {
        const Pack<float, 4> value = load<4>(in + first);
        Pack<float, 4> add = {};
        if (lost != nullptr) add = load<4>(lost + first);
        PACELINE_UNROLL
        for (int e = 0; e < 4; ++e) mine[e] = lost == nullptr ? value.at[e] : value.at[e] + add.at[e];
      } else {
        PACELINE_UNROLL
        for (int e = 0; e < 4; ++e)
          if (first + e < n) mine[e] = lost == nullptr ? in[first + e] : in[first + e] + lost[first + e];
      }
    }
    std::uint32_t largest = 0;
    PACELINE_UNROLL
    for (int e = 0; e < lane_elements; ++e) {
      const std::uint32_t magnitude = bits_as<std::uint32_t>(corrected[e]) & 0x7fffffffU;
      largest = largest < magnitude ? magnitude : largest;
    }
    return largest;
  }

  PACELINE_HD void write(std::uint32_t largest) const {
    const Int8Scale scale(largest);
    std::uint8_t* out = arrays.wire + block * int8_wire_block;
    if (lane == 0) put_scale(out, scale.scale, arrays.wide_wire);
    const int n = arrays.elements_of(block);
    PACELINE_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int first = lane_element(lane, half);
      Pack<std::int8_t, 4> coded;
      PACELINE_UNROLL
      for (int e = 0; e < 4; ++e) coded.at[e] = scale.quantize(corrected[half * 4 + e]);
      put(out + sizeof(float) + first, coded, n - first);
      if (arrays.residual != nullptr) keep(first, half, coded, scale.scale, n - first);
    }
  }

 private:
  PACELINE_HD void put(std::uint8_t* to, const Pack<std::int8_t, 4>& coded, int left) const {
    if (arrays.wide_wire && left >= 4) return store(reinterpret_cast<std::int8_t*>(to), coded);
    PACELINE_UNROLL
    for (int e = 0; e < 4; ++e)
      if (e < left) to[e] = static_cast<std::uint8_t>(coded.at[e]);
  }
  PACELINE_HD void keep(int first, int half, const Pack<std::int8_t, 4>& coded, float scale, int left) const {
    float* lost = arrays.residual + block * int8_block + first;
    Pack<float, 4> error;
    PACELINE_UNROLL
    for (int e = 0; e < 4; ++e)
      error.at[e] = kept_error(corrected[half * 4 + e], dequantize(coded.at[e], scale));
    if (arrays.wide_values && left >= 4) return store(lost, error);
    PACELINE_UNROLL
    for (int e = 0; e < 4; ++e)
      if (e < left) lost[e] = error.at[e];
  }
};

PACELINE_HD void decode_int8_lane(const Int8Arrays& arrays, std::size_t block, int lane) {
  const std::uint8_t* in = arrays.wire + block * int8_wire_block;
  const float scale = get_scale(in, arrays.wide_wire);
  const int n = arrays.elements_of(block);
  PACELINE_UNROLL
  for (int half = 0; half < 2; ++half) {
    const int first = lane_element(lane, half);
    const int left = n - first;
    const auto* from = reinterpret_cast<const std::int8_t*>(in + sizeof(float) + first);
    Pack<std::int8_t, 4> coded = {};
    if (arrays.wide_wire && left >= 4) {
      coded = load<4>(from);
    } else {
      PACELINE_UNROLL
      for (int e = 0; e < 4; ++e)
        if (e < left) coded.at[e] = from[e];
    }
    Pack<float, 4> value;
    PACELINE_UNROLL
    for (int e = 0; e < 4; ++e) value.at[e] = dequantize(coded.at[e], scale);
    float* to = arrays.values + block * int8_block + first;
    if (arrays.wide_values && left >= 4) {
      store(to, value);
    } else {
      PACELINE_UNROLL
      for (int e = 0; e < 4; ++e)
        if (e < left) to[e] = value.at[e];
    }
  }
}

}  // namespace paceline::cuda::kernels
