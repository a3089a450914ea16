#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace paceline::fixed_point {

// Sums of f32 values that are the same in every order: each value x is added as the integer round(x * 2^k),
// and integer addition is associative. The scale exponent k is one for a whole tensor and step.
//
// A step's M terms (a term is one pass's value) each stay below 2^room, room = 62 - ceil(log2 M), so that
// their sum fits 63 bits. A term that doesn't is an overflow. It is seen by the greatest |x| of all terms, so
// alike wherever they were added up.

/// Bits that are kept free above the values that are expected: what comes may be 65,536 times as large.
inline constexpr int headroom = 16;
/// Scale exponents are clamped to these. The least is never met (f32 ends at 2^128); with the most, f32's
/// smallest number is 2^43.
inline constexpr int least_exponent = -128;
inline constexpr int most_exponent = 192;

/// Bits for each of so many terms.
[[nodiscard]] int room_for(std::int64_t terms) noexcept;

/// k for terms of about `expected` in absolute value; 0: nothing is known of them.
[[nodiscard]] int scale_exponent(float expected, int room) noexcept;

/// Whether a finite term of this absolute value is an overflow.
[[nodiscard]] bool overflows(float greatest, int exponent, int room) noexcept;

/// Adds the values, or is the first to (what was in `sums` doesn't matter then). Gives the bits of the
/// greatest |value|; those of what is not a number or not finite are greater than all others'.
[[nodiscard]] std::uint32_t accumulate(std::span<const float> values, int exponent, std::int64_t* sums,
                                       bool first) noexcept;

/// The sums as f32.
void convert(std::span<const std::int64_t> sums, int exponent, float* values) noexcept;

/// The same of one sum, without rounding to f32.
[[nodiscard]] double value_of(std::int64_t sum, int exponent) noexcept;

}  // namespace paceline::fixed_point
