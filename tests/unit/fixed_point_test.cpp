// Conversions between f32 and fixed point against what long double says, on every instruction set.

#include "../../worker/src/fixed_point/fixed_point.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "../../worker/src/fixed_point/kernels.hpp"
#include "paceline/base/hash.hpp"

namespace paceline::fixed_point {
namespace {

constexpr float smallest = std::numeric_limits<float>::denorm_min();
constexpr float infinity = std::numeric_limits<float>::infinity();

std::vector<Kernels> all_kernels() {
  std::vector<Kernels> all = {generic::kernels()};
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx2")) all.push_back(avx2::kernels());
  if (__builtin_cpu_supports("avx512f")) all.push_back(avx512::kernels());
#endif
  return all;
}

std::int64_t expected_sum(float value, int exponent) {
  return static_cast<std::int64_t>(std::rint(std::ldexp(static_cast<long double>(value), exponent)));
}

/// Values of either sign whose products with 2^exponent are of all magnitudes below 2^62.
std::vector<float> values_that_fit(int exponent, std::size_t count) {
  SplitMix64 random(static_cast<std::uint64_t>(exponent + 1000));
  std::vector<float> values;
  while (values.size() < count) {
    const auto mantissa = static_cast<double>(random.below(1 << 24));
    const int magnitude = static_cast<int>(random.below(70)) - 8;  // of the product
    const auto value = static_cast<float>(std::ldexp(mantissa, magnitude - 24 - exponent));
    if (std::abs(std::ldexp(static_cast<double>(value), exponent)) >= 0x1p62) continue;
    values.push_back(random.below(2) == 0 ? value : -value);
  }
  return values;
}

TEST(FixedPoint, IsTheNearestIntegerOnEveryInstructionSet) {
  for (const Kernels& kernels : all_kernels()) {
    for (const int exponent : {-120, -66, -30, 0, 1, 24, 43, 80, 149, 192}) {
      const std::vector<float> values = values_that_fit(exponent, 5003);
      std::vector<std::int64_t> sums(values.size(), -7);
      const std::uint32_t greatest =
          kernels.set(values.data(), values.size(), std::ldexp(1.0, exponent), sums.data());
      float expected_greatest = 0;
      for (std::size_t i = 0; i < values.size(); ++i) {
        ASSERT_EQ(sums[i], expected_sum(values[i], exponent)) << values[i] << " * 2^" << exponent;
        expected_greatest = std::max(expected_greatest, std::abs(values[i]));
      }
      EXPECT_EQ(std::bit_cast<float>(greatest), expected_greatest);
      EXPECT_EQ(kernels.add(values.data(), values.size(), std::ldexp(1.0, exponent), sums.data()), greatest);
      for (std::size_t i = 0; i < values.size(); ++i)
        ASSERT_EQ(sums[i], 2 * expected_sum(values[i], exponent)) << values[i] << " * 2^" << exponent;
    }
  }
}

TEST(FixedPoint, RoundsTiesToEven) {
  const std::vector<float> values = {0.5F,       1.5F,        2.5F, -0.5F, -1.5F,       -2.5F,
                                     0.25F,      0.75F,       3.5F, 4.5F,  -3.5F,       8388607.5F,
                                     8388606.5F, -8388607.5F, 0.0F, -0.0F, 0.49999997F, 0.50000006F};
  const std::vector<std::int64_t> expected = {0, 2,  2,       0,       -2,       -2, 0, 1, 4,
                                              4, -4, 8388608, 8388606, -8388608, 0,  0, 0, 1};
  for (const Kernels& kernels : all_kernels())
    for (const int exponent : {-50, 0, 70}) {
      std::vector<float> scaled;
      for (const float value : values) scaled.push_back(std::ldexp(value, -exponent));
      std::vector<std::int64_t> sums(values.size());
      kernels.set(scaled.data(), scaled.size(), std::ldexp(1.0, exponent), sums.data());
      EXPECT_EQ(sums, expected) << exponent;
    }
}

TEST(FixedPoint, KeepsDenormalNumbersAndTheEndsOfItsRange) {
  for (const Kernels& kernels : all_kernels()) {
    const float denormals[] = {smallest, -3 * smallest,
                               std::nextafter(std::numeric_limits<float>::min(), 0.0F)};
    std::int64_t sums[3];
    kernels.set(denormals, 3, std::ldexp(1.0, most_exponent), sums);
    EXPECT_EQ(sums[0], std::int64_t{1} << (most_exponent - 149));
    EXPECT_EQ(sums[1], -3 * (std::int64_t{1} << (most_exponent - 149)));
    kernels.set(denormals, 3, 0x1p149, sums);
    EXPECT_EQ(sums[2], (1 << 23) - 1);
    float back[3];
    kernels.convert(sums, 3, 0x1p-149, back);
    EXPECT_EQ(back[2], denormals[2]);

    const float large[] = {std::nextafter(0x1p62F, 0.0F), -0x1p61F, std::numeric_limits<float>::max()};
    kernels.set(large, 2, 1.0, sums);
    EXPECT_EQ(sums[0], (std::int64_t{1} << 62) - (std::int64_t{1} << 38));
    EXPECT_EQ(sums[1], -(std::int64_t{1} << 61));
    kernels.set(large + 2, 1, 0x1p-104, sums);  // (2 - 2^-23) * 2^127
    EXPECT_EQ(sums[0], (1 << 24) - 1);
  }
}

TEST(FixedPoint, TheGreatestTellsWhatIsNotFinite) {
  for (const Kernels& kernels : all_kernels()) {
    std::vector<std::int64_t> sums(3000);
    std::vector<float> values(sums.size(), -1.0F);
    const auto greatest = [&] { return kernels.add(values.data(), values.size(), 1.0, sums.data()); };
    EXPECT_EQ(greatest(), std::bit_cast<std::uint32_t>(1.0F));
    values[2999] = -infinity;
    EXPECT_EQ(greatest(), std::bit_cast<std::uint32_t>(infinity));
    values[5] = -std::numeric_limits<float>::quiet_NaN();
    EXPECT_TRUE(std::isnan(std::bit_cast<float>(greatest())));
    EXPECT_EQ(kernels.set(nullptr, 0, 1.0, nullptr), 0U);
  }
}

TEST(FixedPoint, ComesBackRoundedAsF64AndThenF32) {
  SplitMix64 random(5);
  std::vector<std::int64_t> sums = {0,
                                    1,
                                    -1,
                                    std::numeric_limits<std::int64_t>::max(),
                                    std::numeric_limits<std::int64_t>::min(),
                                    (std::int64_t{1} << 53) + 1,
                                    -(std::int64_t{1} << 53) - 1};
  while (sums.size() < 5001) sums.push_back(static_cast<std::int64_t>(random.next()) >> random.below(64));
  for (const Kernels& kernels : all_kernels()) {
    for (const int exponent : {-120, 0, 43, 149, 192}) {
      std::vector<float> values(sums.size());
      kernels.convert(sums.data(), sums.size(), std::ldexp(1.0, -exponent), values.data());
      for (std::size_t i = 0; i < sums.size(); ++i) {
        const auto rounded = static_cast<double>(static_cast<long double>(sums[i]));
        ASSERT_EQ(std::bit_cast<std::uint32_t>(values[i]),
                  std::bit_cast<std::uint32_t>(static_cast<float>(std::ldexp(rounded, -exponent))))
            << sums[i] << " / 2^" << exponent;
      }
    }
  }
}

TEST(FixedPoint, RoomIsSuchThatAllTermsFit) {
  EXPECT_EQ(room_for(1), 62);
  EXPECT_EQ(room_for(2), 61);
  EXPECT_EQ(room_for(3), 60);
  EXPECT_EQ(room_for(8), 59);
  EXPECT_EQ(room_for(9), 58);
  EXPECT_EQ(room_for(std::int64_t{1} << 30), 32);
}

TEST(FixedPoint, ScalesLeaveHeadroomWithinTheirClamps) {
  EXPECT_EQ(scale_exponent(1.0F, 59), 59 - headroom - 1);
  EXPECT_EQ(scale_exponent(std::nextafter(1.0F, 0.0F), 59), 59 - headroom);
  EXPECT_EQ(scale_exponent(0x1p-20F, 59), 59 - headroom + 19);
  EXPECT_EQ(scale_exponent(0, 59), most_exponent);
  EXPECT_EQ(scale_exponent(smallest, 62), most_exponent);
  EXPECT_EQ(scale_exponent(std::numeric_limits<float>::max(), 32), 32 - headroom - 128);
  EXPECT_EQ(scale_exponent(std::numeric_limits<float>::max(), 0), least_exponent);
}

TEST(FixedPoint, ATermOverflowsWhereItHasNoRoom) {
  for (const int room : {32, 59, 62})
    for (const float power : {smallest, 0x1p-126F, 0x1p-3F, 1.0F, 0x1p127F}) {
      const int exponent = room - std::ilogb(power);  // so that the term is 2^room
      EXPECT_TRUE(overflows(power, exponent, room)) << power;
      EXPECT_FALSE(overflows(power, exponent - 1, room)) << power;
      EXPECT_FALSE(overflows(std::nextafter(power, 0.0F), exponent, room)) << power;
      // What a scale was chosen for has room, and so has 2^headroom times as much, a little less.
      const int chosen = scale_exponent(power, room);
      EXPECT_FALSE(overflows(power, chosen, room));
    }
  EXPECT_FALSE(overflows(0, most_exponent, 32));
  const int chosen = scale_exponent(1.5F, 59);
  EXPECT_FALSE(overflows(std::nextafter(0x1p17F, 0.0F), chosen, 59));
  EXPECT_TRUE(overflows(0x1p17F, chosen, 59));
}

}  // namespace
}  // namespace paceline::fixed_point
