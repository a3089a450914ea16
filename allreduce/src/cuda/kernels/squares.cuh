#pragma once

// The sum of squares in an order that depends on the type and the count alone, not on the chip, the grid or
// the array's alignment. An array is cut into *chunks*; a chunk's threads each add up groups that lie side by
// side among threads, each element of a group in a sum of its own (the thread's *lanes*); then the lanes, the
// threads and the chunks are added up in fixed trees. All in f64, in which squares of f32 are exact.

#include <cmath>

#include "element.cuh"
#include "walk.cuh"

namespace paceline::cuda::kernels {

inline constexpr int square_threads = 256;
inline constexpr int square_rounds = 16;      ///< groups of a thread in a chunk
inline constexpr int square_ahead = 4;        ///< of them under way at a time
inline constexpr int partial_threads = 1024;  ///< that add up the chunks

template <class E>
inline constexpr int chunk_elements = square_threads* square_rounds* elements_of_16_bytes<E>;

/// sums[0] + sums[width / 2], and so on: halves until one is left.
template <int width>
PACELINE_HD double tree_sum(double (&sums)[width]) {
  PACELINE_UNROLL
  for (int half = width / 2; half > 0; half /= 2) {
    PACELINE_UNROLL
    for (int i = 0; i < half; ++i) sums[i] += sums[i + half];
  }
  return sums[0];
}

/// One thread's sum over a chunk of which `left` elements are there.
template <class E>
PACELINE_HD double square_share(const typename E::Stored* chunk, std::size_t left, int thread, bool wide) {
  using Stored = typename E::Stored;
  constexpr int group = elements_of_16_bytes<E>;
  double lanes[group] = {};
  for (int round = 0; round < square_rounds; round += square_ahead) {
    Pack<Stored, group> read[square_ahead] = {};
    PACELINE_UNROLL
    for (int j = 0; j < square_ahead; ++j) {
      const std::size_t first = (static_cast<std::size_t>(round + j) * square_threads + thread) * group;
      if (wide && first + group <= left) {
        read[j] = load<group>(chunk + first);
      } else {
        PACELINE_UNROLL
        for (int e = 0; e < group; ++e)
          if (first + e < left) read[j].at[e] = chunk[first + e];
      }
    }
    PACELINE_UNROLL
    for (int j = 0; j < square_ahead; ++j) {
      PACELINE_UNROLL
      for (int e = 0; e < group; ++e) {
        const double value = static_cast<double>(E::widen(read[j].at[e]));
        lanes[e] += value * value;
      }
    }
  }
  return tree_sum(lanes);
}

/// What one of the threads that add up the chunks begins with.
PACELINE_HD double partial_share(const double* partials, std::size_t count, int thread) {
  double sum = 0;
  for (std::size_t i = thread; i < count; i += partial_threads) sum += partials[i];
  return sum;
}

/// As torch::nn::utils::clip_grad_norm_ has it: keeps the division away from zero.
inline constexpr double clip_epsilon = 1e-6;

/// What gradients are multiplied by, given their sum of squares: `scale`, and less where the norm is then
/// over `clip_norm` (0: never less). NaN where the sum is not finite: that update must not be.
PACELINE_HD float factor_for(double squares, double clip_norm, double scale) {
  const std::uint64_t magnitude = bits_as<std::uint64_t>(squares) & 0x7fffffffffffffffU;
  if (magnitude >= 0x7ff0000000000000U) return bits_as<float>(0x7fc00000U);
  if (clip_norm == 0) return static_cast<float>(scale);
  const double clip = clip_norm / (sqrt(squares) * scale + clip_epsilon);
  return static_cast<float>(clip < 1 ? scale * clip : scale);
}

}  // namespace paceline::cuda::kernels
