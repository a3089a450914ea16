#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace paceline {

// A 64-bit word that is summed over ranks in f32 places: each place holds 8 bits of it, so that the sums of
// up to 65,536 ranks' are whole numbers below 2^24, which f32 adds exactly in any order.

inline constexpr std::size_t limb_count = 8;
inline constexpr float greatest_limb_sum = 255.0F * 65536.0F;

inline void put_limbs(std::uint64_t word, std::span<float, limb_count> places) noexcept {
  for (std::size_t i = 0; i < limb_count; ++i) places[i] = static_cast<float>(word >> (8 * i) & 0xff);
}

/// The sum modulo 2^64 of the words whose limbs were added up; nothing where something else than exact sums
/// has been done with them.
[[nodiscard]] inline std::optional<std::uint64_t> sum_of_limbs(
    std::span<const float, limb_count> places) noexcept {
  std::uint64_t word = 0;
  for (std::size_t i = 0; i < limb_count; ++i) {
    const float place = places[i];
    if (!(place >= 0 && place <= greatest_limb_sum) || place != std::trunc(place)) return std::nullopt;
    word += static_cast<std::uint64_t>(place) << (8 * i);
  }
  return word;
}

}  // namespace paceline
