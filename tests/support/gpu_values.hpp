#pragma once

// For tests of what GPU kernels compute: values of all kinds, arrays at odd addresses, and a grid of one
// thread after the other.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numbers>
#include <type_traits>
#include <vector>

#include "../../allreduce/src/cuda/kernels/element.cuh"
#include "../../allreduce/src/cuda/kernels/walk.cuh"
#include "paceline/base/hash.hpp"

namespace paceline::testing {

/// In (0, 1].
inline double uniform(SplitMix64& random) {
  return static_cast<double>((random.next() >> 11) + 1) * 0x1p-53;
}

inline double normal(SplitMix64& random) {
  const double radius = std::sqrt(-2 * std::log(uniform(random)));
  return radius * std::cos(2 * std::numbers::pi * uniform(random));
}

/// Half of them any bits at all, so of every exponent, with denormals, infinities and NaN; half about 1; and
/// the special ones one after the other in between.
template <class T>
std::vector<T> values_of_all_kinds(std::size_t count, std::uint64_t seed) {
  SplitMix64 random(mix64(seed));
  std::vector<T> values(count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t bits = random.next();
    std::memcpy(&values[i], &bits, sizeof(T));
    if constexpr (std::is_floating_point_v<T>) {
      using Limits = std::numeric_limits<T>;
      const T special[] = {T{0},
                           -T{0},
                           Limits::infinity(),
                           -Limits::infinity(),
                           Limits::quiet_NaN(),
                           Limits::max(),
                           Limits::lowest(),
                           Limits::min(),
                           Limits::denorm_min(),
                           T{1}};
      if (i % 2 == 1) values[i] = static_cast<T>(normal(random));
      if (i % 16 == 4) values[i] = special[i / 16 % std::size(special)];
    }
  }
  return values;
}

/// x rounded to a format of so many bits behind the point, by doubles; 0 and infinity where it ends.
inline double reference_rounding(double x, int mantissa_bits, int least_exponent, double most) {
  if (x == 0 || !std::isfinite(x)) return x;
  const double unit = std::ldexp(1.0, std::max(std::ilogb(x), least_exponent) - mantissa_bits);
  const double rounded = std::rint(x / unit) * unit;
  return std::abs(rounded) > most ? std::copysign(std::numeric_limits<double>::infinity(), x) : rounded;
}
inline double reference_f16(double x) {
  return reference_rounding(x, 10, -14, 65504);
}
inline double reference_bf16(double x) {
  return reference_rounding(x, 7, -126, 0x1.fep127);
}
inline double reference_f32(double x) {
  return static_cast<double>(static_cast<float>(x));
}
inline double reference_f64(double x) {
  return x;
}

/// The same bits, or NaN on both sides: whose payload comes out of a sum is not defined.
template <class E>
bool same_bits_or_nan(typename E::Stored a, typename E::Stored b) {
  if (std::memcmp(&a, &b, sizeof a) == 0) return true;
  return E::widen(a) != E::widen(a) && E::widen(b) != E::widen(b);
}

/// `count` elements that begin `shift` elements behind a multiple of 64 bytes, between guards.
template <class T>
class Misaligned {
 public:
  Misaligned(std::size_t count, std::size_t shift) : count_(count), shift_(shift) {
    memory_.assign(count * sizeof(T) + 3 * 64 + shift * sizeof(T), guard);
    for (std::size_t i = 0; i < count; ++i) data()[i] = T{};
  }
  T* data() { return reinterpret_cast<T*>(begin()); }
  const T* data() const { return const_cast<Misaligned*>(this)->data(); }
  T& operator[](std::size_t i) { return data()[i]; }

  [[nodiscard]] bool untouched_around() {
    for (unsigned char* p = memory_.data(); p < begin(); ++p)
      if (*p != guard) return false;
    for (unsigned char* p = begin() + count_ * sizeof(T); p < memory_.data() + memory_.size(); ++p)
      if (*p != guard) return false;
    return true;
  }

 private:
  static constexpr unsigned char guard = 0xa5;
  unsigned char* begin() {
    const auto at = reinterpret_cast<std::uintptr_t>(memory_.data());
    return memory_.data() + ((at + 127) / 64 * 64 - at) + shift_ * sizeof(T);
  }
  std::size_t count_, shift_;
  std::vector<unsigned char> memory_;
};

/// Every thread of a small grid.
template <class Share>
void walk_all(Share& share, const cuda::kernels::Split& split) {
  constexpr std::size_t workers = 13;
  for (std::size_t worker = 0; worker < workers; ++worker) cuda::kernels::walk(share, split, worker, workers);
}

}  // namespace paceline::testing
