#pragma once

// Two formats of 64-bit fixed point, each bit for bit that of the CPU:
//
//   sums     Codec::fixed_point (allreduce/src/kernels/body.inc): an element below 2^42 after scaling, or
//   else
//            `poison`, which stays what it is whatever is added and comes out as NaN
//   terms    reproducible training (worker/src/fixed_point): below 2^62 after scaling; that a term had no
//   room
//            is known from the greatest of them, which is found beside

#include "combine.cuh"
#include "element.cuh"
#include "walk.cuh"

namespace paceline::cuda::kernels {

inline constexpr std::int64_t poison = INT64_MIN;
inline constexpr double element_limit = 4398046511104.0;  // 2^42

PACELINE_HD std::int64_t wrapping_sum(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
}

PACELINE_HD std::int64_t fixed_sum(std::int64_t a, std::int64_t b) {
  return a == poison || b == poison ? poison : wrapping_sum(a, b);
}

/// To the nearest integer (even at halves): below 2^51 the addition of 1.5 * 2^52 leaves it in the low bits.
PACELINE_HD std::int64_t to_fixed(double scaled) {
  constexpr double magic = 6755399441055744.0;
  const std::int64_t value = bits_as<std::int64_t>(scaled + magic) - bits_as<std::int64_t>(magic);
  return scaled > -element_limit && scaled < element_limit ? value : poison;
}

template <class T>
PACELINE_HD T from_fixed(std::int64_t sum, double inverse, double divisor) {
  if (sum == poison) return static_cast<T>(bits_as<float>(0x7fc00000U));
  const double value = static_cast<double>(sum) * inverse;
  return static_cast<T>(divisor == 1 ? value : value / divisor);
}

/// out[i] = round(in[0][i] * weight[0] * factor) + ...
template <class T>
struct FixedPartial {
  static constexpr int group = 2;  ///< of int64 and of f64; f32 by 8 bytes
  static constexpr int unroll = 1;
  static constexpr int ahead = 4;
  template <int n>
  struct Loaded {};

  std::int64_t* out;
  const T* in[most_sources];
  T weight[most_sources];
  int in_count;
  double factor;

  template <int n>
  PACELINE_HD Loaded<n> load(std::size_t) const {
    return {};
  }
  template <int n>
  PACELINE_HD void finish(std::size_t first, const Loaded<n>&) const {
    Pack<std::int64_t, n> sum = {};
    for (int k = 0; k < in_count; k += ahead) {
      Pack<T, n> read[ahead];
      PACELINE_UNROLL
      for (int j = 0; j < ahead; ++j)
        if (k + j < in_count) read[j] = kernels::load<n>(in[k + j] + first);
      PACELINE_UNROLL
      for (int j = 0; j < ahead; ++j)
        if (k + j < in_count) add(sum, read[j], k + j);
    }
    store(out + first, sum);
  }

 private:
  template <int n>
  PACELINE_HD void add(Pack<std::int64_t, n>& sum, const Pack<T, n>& read, int source) const {
    PACELINE_UNROLL
    for (int e = 0; e < n; ++e) {
      const T value = static_cast<T>(read.at[e] * weight[source]);
      sum.at[e] = fixed_sum(sum.at[e], to_fixed(static_cast<double>(value) * factor));
    }
  }
};

/// Element of partial sums, for Combine.
struct FixedElement {
  using Stored = std::int64_t;
  using Wide = std::int64_t;
  PACELINE_HD static std::int64_t widen(std::int64_t value) { return value; }
  PACELINE_HD static std::int64_t narrow(std::int64_t value) { return value; }
};
struct FixedSum {
  PACELINE_HD static std::int64_t apply(std::int64_t a, std::int64_t b) { return fixed_sum(a, b); }
};

/// out[i] = sum[i] / factor / divisor, NaN for poison.
template <class T>
struct FixedDecode {
  static constexpr int group = 2;
  static constexpr int unroll = 2;
  template <int n>
  using Loaded = Pack<std::int64_t, n>;

  T* out;
  const std::int64_t* in;
  double inverse;  ///< 2^-exponent
  double divisor;

  template <int n>
  PACELINE_HD Loaded<n> load(std::size_t first) const {
    return kernels::load<n>(in + first);
  }
  template <int n>
  PACELINE_HD void finish(std::size_t first, const Loaded<n>& loaded) const {
    Pack<T, n> result;
    PACELINE_UNROLL
    for (int e = 0; e < n; ++e) result.at[e] = from_fixed<T>(loaded.at[e], inverse, divisor);
    store(out + first, result);
  }
};

/// The integer next to x (even at halves), in two halves of 32 bits, for |x| < 2^62.
PACELINE_HD std::uint64_t rounded_term(double x) {
  constexpr double magic = 0x1.8p52;
  constexpr std::uint64_t magic_bits = 0x4338000000000000;
  constexpr double two_32 = 0x1p32;
  const double high = x * (1 / two_32) + magic;              // rounds, to within half of its unit
  const double low = (x - (high - magic) * two_32) + magic;  // what is left; rounds where x has a fraction
  return ((bits_as<std::uint64_t>(high) - magic_bits) << 32) + (bits_as<std::uint64_t>(low) - magic_bits);
}

/// sums[i] = or += round(values[i] * factor). `greatest` is one thread's: the bits of the greatest |value|.
struct AccumulateTerms {
  static constexpr int group = 2;
  static constexpr int unroll = 4;
  template <int n>
  struct Loaded {
    Pack<float, n> value;
    Pack<std::int64_t, n> sum;
  };

  std::int64_t* sums;
  const float* values;
  double factor;
  bool first_term;
  std::uint32_t greatest;

  template <int n>
  PACELINE_HD Loaded<n> load(std::size_t first) const {
    Loaded<n> loaded = {kernels::load<n>(values + first), {}};
    if (!first_term) loaded.sum = kernels::load<n>(static_cast<const std::int64_t*>(sums) + first);
    return loaded;
  }
  template <int n>
  PACELINE_HD void finish(std::size_t first, const Loaded<n>& loaded) {
    Pack<std::int64_t, n> sum;
    PACELINE_UNROLL
    for (int e = 0; e < n; ++e) {
      const float value = loaded.value.at[e];
      const std::uint32_t magnitude = bits_as<std::uint32_t>(value) & 0x7fffffffU;
      greatest = magnitude > greatest ? magnitude : greatest;
      const std::uint64_t term = rounded_term(static_cast<double>(value) * factor);
      sum.at[e] = wrapping_sum(loaded.sum.at[e], static_cast<std::int64_t>(term));
    }
    store(sums + first, sum);
  }
};

/// values[i] = sums[i] * factor, rounded to f64 and then to f32.
struct ConvertTerms {
  static constexpr int group = 2;
  static constexpr int unroll = 4;
  template <int n>
  using Loaded = Pack<std::int64_t, n>;

  float* values;
  const std::int64_t* sums;
  double factor;

  template <int n>
  PACELINE_HD Loaded<n> load(std::size_t first) const {
    return kernels::load<n>(sums + first);
  }
  template <int n>
  PACELINE_HD void finish(std::size_t first, const Loaded<n>& loaded) const {
    Pack<float, n> result;
    PACELINE_UNROLL
    for (int e = 0; e < n; ++e) result.at[e] = static_cast<float>(static_cast<double>(loaded.at[e]) * factor);
    store(values + first, result);
  }
};

}  // namespace paceline::cuda::kernels
