#pragma once

#include "element.cuh"
#include "walk.cuh"

namespace paceline::cuda::kernels {

struct Sum {
  template <class T>
  PACELINE_HD static T apply(T a, T b) {
    if constexpr (std::is_integral_v<T>)  // integers wrap, whatever the language says of signed ones
      return static_cast<T>(static_cast<unsigned long long>(a) + static_cast<unsigned long long>(b));
    else
      return a + b;
  }
};
struct Min {
  template <class T>
  PACELINE_HD static T apply(T a, T b) {
    return b < a ? b : a;
  }
};
struct Max {
  template <class T>
  PACELINE_HD static T apply(T a, T b) {
    return a < b ? b : a;
  }
};

/// As many as a kernel's parameters hold with room to spare.
inline constexpr int most_sources = 64;

/// out[i] = (in[0][i] * weight[0] op in[1][i] * weight[1] op ...) / divisor, in this order, whoever does it.
template <class E, class Op>
struct Combine {
  using Stored = typename E::Stored;
  using Wide = typename E::Wide;
  static constexpr int group = elements_of_16_bytes<E>;
  static constexpr int unroll = 1;
  static constexpr int ahead = 4;  ///< sources that are read before the first is added
  template <int n>
  struct Loaded {};

  Stored* out;
  const Stored* in[most_sources];
  Wide weight[most_sources];
  int in_count;
  bool weighted;
  bool divided;
  Wide divisor;

  template <int n>
  PACELINE_HD Loaded<n> load(std::size_t) const {
    return {};
  }
  template <int n>
  PACELINE_HD void finish(std::size_t first, const Loaded<n>&) const {
    Wide sum[n] = {};
    for (int k = 0; k < in_count; k += ahead) {
      Pack<Stored, n> read[ahead];
      PACELINE_UNROLL
      for (int j = 0; j < ahead; ++j)
        if (k + j < in_count) read[j] = kernels::load<n>(in[k + j] + first);
      PACELINE_UNROLL
      for (int j = 0; j < ahead; ++j)
        if (k + j < in_count) add(sum, read[j], k + j);
    }
    Pack<Stored, n> result;
    PACELINE_UNROLL
    for (int e = 0; e < n; ++e)
      result.at[e] = E::narrow(divided ? static_cast<Wide>(sum[e] / divisor) : sum[e]);
    store(out + first, result);
  }

 private:
  template <int n>
  PACELINE_HD void add(Wide (&sum)[n], const Pack<Stored, n>& read, int source) const {
    PACELINE_UNROLL
    for (int e = 0; e < n; ++e) {
      Wide value = E::widen(read.at[e]);
      if (weighted) value = static_cast<Wide>(value * weight[source]);
      sum[e] = source == 0 ? value : Op::apply(sum[e], value);
    }
  }
};

}  // namespace paceline::cuda::kernels
