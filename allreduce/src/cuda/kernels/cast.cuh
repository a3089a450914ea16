#pragma once

#include "element.cuh"
#include "walk.cuh"

namespace paceline::cuda::kernels {

/// out[i] = in[i] * factor, in f64 if either is f64 and in f32 otherwise, rounded once more into `To`.
template <class To, class From>
struct Cast {
  using Out = typename To::Stored;
  using In = typename From::Stored;
  using Wide = std::conditional_t<(sizeof(Out) > 4 || sizeof(In) > 4), double, float>;
  static constexpr int group = 16 / static_cast<int>(sizeof(Out) > sizeof(In) ? sizeof(Out) : sizeof(In));
  static constexpr int unroll = 4;
  template <int n>
  using Loaded = Pack<In, n>;

  Out* out;
  const In* in;
  Wide factor;
  bool scaled;  ///< else the factor is 1, and NaN keeps its bits

  template <int n>
  PACELINE_HD Loaded<n> load(std::size_t first) const {
    return kernels::load<n>(in + first);
  }
  template <int n>
  PACELINE_HD void finish(std::size_t first, const Loaded<n>& loaded) const {
    Pack<Out, n> result;
    PACELINE_UNROLL
    for (int e = 0; e < n; ++e) {
      if constexpr (std::is_same_v<To, From>) {
        result.at[e] =
            scaled ? To::narrow(static_cast<Wide>(From::widen(loaded.at[e])) * factor) : loaded.at[e];
      } else {
        const Wide value = static_cast<Wide>(From::widen(loaded.at[e]));
        result.at[e] = To::narrow(scaled ? value * factor : value);
      }
    }
    store(out + first, result);
  }
};

}  // namespace paceline::cuda::kernels
