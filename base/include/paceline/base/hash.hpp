#pragma once

#include <cstdint>
#include <string_view>

namespace paceline {

/// A bijection of 64-bit words in which every input bit moves half of the output bits: the finaliser
/// of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
[[nodiscard]] constexpr std::uint64_t mix64(std::uint64_t x) noexcept {
  x += 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

/// One word from several, order matters: seeds for (seed, epoch, ...) are made with this.
template <class... Words>
[[nodiscard]] constexpr std::uint64_t mix64(std::uint64_t first, Words... rest) noexcept {
  std::uint64_t state = mix64(first);
  ((state = mix64(state ^ static_cast<std::uint64_t>(rest))), ...);
  return state;
}

/// SplitMix64 as a generator: reproducible everywhere, unlike the standard library's distributions.
class SplitMix64 {
 public:
  explicit constexpr SplitMix64(std::uint64_t seed) noexcept : state_(seed) {}
  constexpr std::uint64_t next() noexcept {
    const std::uint64_t word = mix64(state_);
    state_ += 0x9e3779b97f4a7c15U;
    return word;
  }
  /// Uniform in [0, bound), bound > 0, without modulo bias (Lemire 2019).
  constexpr std::uint64_t below(std::uint64_t bound) noexcept {
    __extension__ using Wide = unsigned __int128;
    Wide product = static_cast<Wide>(next()) * bound;
    auto low = static_cast<std::uint64_t>(product);
    if (low < bound) {
      const std::uint64_t threshold = -bound % bound;
      while (low < threshold) {
        product = static_cast<Wide>(next()) * bound;
        low = static_cast<std::uint64_t>(product);
      }
    }
    return static_cast<std::uint64_t>(product >> 64);
  }

 private:
  std::uint64_t state_;
};

}  // namespace paceline
