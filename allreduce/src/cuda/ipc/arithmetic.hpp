#pragma once

#include "../kernels/element.cuh"
#include "portable.hpp"

// How elements are added up: one value per element and rank, in the order of the ranks, so that every rank
// that works an element out gets the same bits. The rules are those of the host's kernels
// (paceline/allreduce.hpp).

namespace paceline::cuda::ipc {

template <class Stored>
struct Element {
  using Wide = Stored;
  PACELINE_HD static Wide load(Stored value) { return value; }
  PACELINE_HD static Stored store(Wide value) { return value; }
};
template <>
struct Element<Half> {
  using Wide = float;
  PACELINE_HD static float load(Half value) { return kernels::widen_f16(value.bits); }
  PACELINE_HD static Half store(float value) { return {kernels::narrow_f16(value)}; }
};
template <>
struct Element<Brain> {
  using Wide = float;
  PACELINE_HD static float load(Brain value) { return kernels::widen_bf16(value.bits); }
  PACELINE_HD static Brain store(float value) { return {kernels::narrow_bf16(value)}; }
};

template <class T>
inline constexpr bool is_integer = static_cast<T>(0.5) == T{};

struct Sum {
  static constexpr bool adds = true;
  template <class T>
  PACELINE_HD static T apply(T a, T b) {
    if constexpr (is_integer<T>)  // integers wrap, whatever the language says of signed ones
      return static_cast<T>(static_cast<unsigned long long>(a) + static_cast<unsigned long long>(b));
    else
      return a + b;
  }
};
struct Min {
  static constexpr bool adds = false;
  template <class T>
  PACELINE_HD static T apply(T a, T b) {
    return b < a ? b : a;
  }
};
struct Max {
  static constexpr bool adds = false;
  template <class T>
  PACELINE_HD static T apply(T a, T b) {
    return a < b ? b : a;
  }
};

/// What is done to a sum besides adding.
struct Scaling {
  double divisor = 1.0;  ///< 1: none
  double factor = 1.0;   ///< of fixed point: 2^exponent
};

/// Elements as they are, each times its rank's weight (1 for whoever does not add).
template <class Stored_, class Op>
struct Plain {
  using Stored = Stored_;
  using Wide = typename Element<Stored>::Wide;
  using Total = Wide;

  PACELINE_HD static Total first(Stored value, double weight, const Scaling&) {
    return weighted(value, weight);
  }
  PACELINE_HD static Total add(Total total, Stored value, double weight, const Scaling&) {
    return Op::apply(total, weighted(value, weight));
  }
  PACELINE_HD static Stored finish(Total total, const Scaling& scaling) {
    if constexpr (Op::adds)
      if (scaling.divisor != 1.0) total = static_cast<Total>(total / static_cast<Total>(scaling.divisor));
    return Element<Stored>::store(total);
  }

 private:
  PACELINE_HD static Wide weighted(Stored value, double weight) {
    const Wide wide = Element<Stored>::load(value);
    if constexpr (is_integer<Wide> || !Op::adds)
      return wide;
    else
      return weight == 1.0 ? wide : wide * static_cast<Wide>(weight);
  }
};

/// Elements as 64-bit fixed point. One that is out of range, or NaN, makes the sum NaN.
template <class Stored_>
struct Fixed {
  using Stored = Stored_;
  using Total = std::int64_t;
  static constexpr Total poison = INT64_MIN;
  static constexpr double limit = 4398046511104.0;  // 2^42

  PACELINE_HD static Total first(Stored value, double weight, const Scaling& scaling) {
    const Stored weighted = weight == 1.0 ? value : value * static_cast<Stored>(weight);
    const double scaled = static_cast<double>(weighted) * scaling.factor;
    if (!(scaled > -limit && scaled < limit)) return poison;
    // Rounds to nearest even, as the host does: beyond this number doubles have no fractions.
    constexpr double magic = 6755399441055744.0;  // 1.5 * 2^52
    const double rounded = scaled + magic;
    return static_cast<Total>(rounded - magic);
  }
  PACELINE_HD static Total add(Total total, Stored value, double weight, const Scaling& scaling) {
    const Total next = first(value, weight, scaling);
    return total == poison || next == poison ? poison : total + next;
  }
  PACELINE_HD static Stored finish(Total total, const Scaling& scaling) {
    if (total == poison) return static_cast<Stored>(__builtin_nan(""));
    const double value = static_cast<double>(total) * (1.0 / scaling.factor);
    return static_cast<Stored>(scaling.divisor == 1.0 ? value : value / scaling.divisor);
  }
};

}  // namespace paceline::cuda::ipc
