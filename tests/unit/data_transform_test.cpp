#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "paceline/data/transform.hpp"

namespace paceline {
namespace {

/// Pixel (channel, y, x) of the test image; none is 0, which is the border's.
int pixel(std::int64_t channel, std::int64_t y, std::int64_t x) {
  return static_cast<int>(1 + channel * 60 + y * 8 + x);
}

TransformSpec spec_of(std::int64_t channels, bool interleaved) {
  return {.channels = channels,
          .rows = 6,
          .columns = 7,
          .interleaved = interleaved,
          .mean = std::vector<double>(static_cast<std::size_t>(channels), 0.0),
          .standard_deviation = std::vector<double>(static_cast<std::size_t>(channels), 1.0 / 255)};
}

std::vector<std::byte> image(const TransformSpec& spec) {
  std::vector<std::byte> pixels;
  if (spec.interleaved) {
    for (std::int64_t y = 0; y < spec.rows; ++y)
      for (std::int64_t x = 0; x < spec.columns; ++x)
        for (std::int64_t c = 0; c < spec.channels; ++c)
          pixels.push_back(static_cast<std::byte>(pixel(c, y, x)));
  } else {
    for (std::int64_t c = 0; c < spec.channels; ++c)
      for (std::int64_t y = 0; y < spec.rows; ++y)
        for (std::int64_t x = 0; x < spec.columns; ++x)
          pixels.push_back(static_cast<std::byte>(pixel(c, y, x)));
  }
  return pixels;
}

/// With mean 0 and deviation 1/255 inputs are the pixels themselves.
std::vector<int> whole_numbers(const std::vector<float>& values) {
  std::vector<int> result;
  for (const float value : values) result.push_back(static_cast<int>(std::lround(value)));
  return result;
}

std::vector<int> expected(const TransformSpec& spec, std::int64_t row, std::int64_t column,
                          std::int64_t height, std::int64_t width, bool mirrored) {
  std::vector<int> result;
  for (std::int64_t c = 0; c < spec.channels; ++c)
    for (std::int64_t y = row; y < row + height; ++y)
      for (std::int64_t i = 0; i < width; ++i) {
        const std::int64_t x = column + (mirrored ? width - 1 - i : i);
        const bool inside = y >= 0 && y < spec.rows && x >= 0 && x < spec.columns;
        result.push_back(inside ? pixel(c, y, x) : 0);
      }
  return result;
}

class BothLayouts : public testing::TestWithParam<bool> {};

TEST_P(BothLayouts, TheCentreIsCutForEvaluation) {
  TransformSpec spec = spec_of(3, GetParam());
  spec.crop_rows = 4;
  spec.crop_columns = 3;
  spec.padding = 2;
  spec.flip = true;
  const ImageTransform transform = ImageTransform::make(spec).value();
  EXPECT_EQ(transform.output_shape(), (std::vector<std::int64_t>{3, 4, 3}));
  std::vector<float> out(static_cast<std::size_t>(transform.output_values()));
  transform.apply_centred(image(spec), out.data());
  EXPECT_EQ(whole_numbers(out), expected(spec, 1, 2, 4, 3, false));
}

// With a border of 2 there are 5 x 5 places for an image of its own size, and each may be mirrored: every one
// of the 50 appears, and nothing else.
TEST_P(BothLayouts, EveryPlaceAndMirroringIsDrawnAndNoOther) {
  TransformSpec spec = spec_of(2, GetParam());
  spec.padding = 2;
  spec.flip = true;
  const ImageTransform transform = ImageTransform::make(spec).value();
  const auto pixels = image(spec);
  std::map<std::vector<int>, int> all;
  for (std::int64_t row = -2; row <= 2; ++row)
    for (std::int64_t column = -2; column <= 2; ++column)
      for (const bool mirrored : {false, true}) all[expected(spec, row, column, 6, 7, mirrored)] = 0;
  ASSERT_EQ(all.size(), 50U);
  std::vector<float> out(static_cast<std::size_t>(transform.output_values()));
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    transform.apply_random(pixels, seed, out.data());
    const auto found = all.find(whole_numbers(out));
    ASSERT_NE(found, all.end()) << "seed " << seed;
    ++found->second;
  }
  // 2000 / 50 = 40 each, deviation 6.3
  for (const auto& [place, count] : all) EXPECT_NEAR(count, 40, 38);
}

INSTANTIATE_TEST_SUITE_P(All, BothLayouts, testing::Bool(),
                         [](const auto& layout) { return layout.param ? "interleaved" : "planar"; });

TEST(ImageTransform, NormalisesByChannel) {
  TransformSpec spec = spec_of(2, false);
  spec.mean = {0.25, 0.5};
  spec.standard_deviation = {0.5, 2.0};
  const ImageTransform transform = ImageTransform::make(spec).value();
  std::vector<float> out(static_cast<std::size_t>(transform.output_values()));
  transform.apply_centred(image(spec), out.data());
  EXPECT_NEAR(out[0], (pixel(0, 0, 0) / 255.0 - 0.25) / 0.5, 1e-6);
  EXPECT_NEAR(out[42], (pixel(1, 0, 0) / 255.0 - 0.5) / 2.0, 1e-6);
}

TEST(ImageTransform, TheSameSeedIsTheSameCut) {
  TransformSpec spec = spec_of(1, false);
  spec.padding = 3;
  const ImageTransform transform = ImageTransform::make(spec).value();
  std::vector<float> one(42);
  std::vector<float> other(42);
  transform.apply_random(image(spec), 17, one.data());
  transform.apply_random(image(spec), 17, other.data());
  EXPECT_EQ(one, other);
}

TEST(ImageTransform, RefusesWhatDoesNotFit) {
  TransformSpec spec = spec_of(1, false);
  spec.crop_rows = 9;
  spec.padding = 1;
  const auto too_large = ImageTransform::make(spec);
  ASSERT_FALSE(too_large.ok());
  EXPECT_NE(too_large.error().message.find("a crop of 9x7 does not fit images of 6x7"), std::string::npos);
  spec = spec_of(3, false);
  spec.mean.pop_back();
  EXPECT_FALSE(ImageTransform::make(spec).ok());
}

}  // namespace
}  // namespace paceline
