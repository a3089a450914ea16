#include "paceline/data/transform.hpp"

#include <algorithm>
#include <utility>

#include "paceline/base/assert.hpp"
#include "paceline/base/hash.hpp"
#include "paceline/base/text.hpp"

namespace paceline {

Result<ImageTransform> ImageTransform::make(TransformSpec spec) {
  if (spec.crop_rows == 0) spec.crop_rows = spec.rows;
  if (spec.crop_columns == 0) spec.crop_columns = spec.columns;
  if (spec.crop_rows > spec.rows + 2 * spec.padding || spec.crop_columns > spec.columns + 2 * spec.padding)
    return Error{ErrorCode::invalid_argument,
                 concat("a crop of ", spec.crop_rows, "x", spec.crop_columns, " does not fit images of ",
                        spec.rows, "x", spec.columns, " with ", spec.padding,
                        " pixels of border: lower augment.crop or raise augment.padding")};
  const auto channels = static_cast<std::size_t>(spec.channels);
  if (spec.mean.size() != channels || spec.standard_deviation.size() != channels)
    return Error{ErrorCode::invalid_argument,
                 concat("there must be a mean and a standard deviation for each of ", channels, " channels")};
  return ImageTransform(std::move(spec));
}

ImageTransform::ImageTransform(TransformSpec spec) : spec_(std::move(spec)) {
  for (std::size_t channel = 0; channel < spec_.mean.size(); ++channel) {
    scale_.push_back(static_cast<float>(1.0 / 255.0 / spec_.standard_deviation[channel]));
    shift_.push_back(static_cast<float>(-spec_.mean[channel] / spec_.standard_deviation[channel]));
  }
}

std::vector<std::int64_t> ImageTransform::output_shape() const {
  return {spec_.channels, spec_.crop_rows, spec_.crop_columns};
}

std::int64_t ImageTransform::output_values() const noexcept {
  return spec_.channels * spec_.crop_rows * spec_.crop_columns;
}

void ImageTransform::apply_random(std::span<const std::byte> pixels, std::uint64_t seed, float* out) const {
  PACELINE_ASSERT(std::cmp_equal(pixels.size(), spec_.channels * spec_.rows * spec_.columns),
                  "a whole image");
  SplitMix64 random(seed);
  const auto draw = [&](std::int64_t size, std::int64_t crop) {
    const auto places = static_cast<std::uint64_t>(size + 2 * spec_.padding - crop + 1);
    return static_cast<std::int64_t>(random.below(places)) - spec_.padding;
  };
  Cut cut;
  cut.row = draw(spec_.rows, spec_.crop_rows);
  cut.column = draw(spec_.columns, spec_.crop_columns);
  cut.mirrored = spec_.flip && random.below(2) == 1;
  apply(pixels.data(), cut, out);
}

void ImageTransform::apply_centred(std::span<const std::byte> pixels, float* out) const {
  PACELINE_ASSERT(std::cmp_equal(pixels.size(), spec_.channels * spec_.rows * spec_.columns),
                  "a whole image");
  const Cut cut{(spec_.rows - spec_.crop_rows) / 2, (spec_.columns - spec_.crop_columns) / 2, false};
  apply(pixels.data(), cut, out);
}

void ImageTransform::apply(const std::byte* pixels, const Cut& cut, float* out) const {
  const std::int64_t row_bytes = spec_.columns * (spec_.interleaved ? spec_.channels : 1);
  const std::int64_t plane_bytes = spec_.interleaved ? 1 : spec_.rows * spec_.columns;
  for (std::int64_t channel = 0; channel < spec_.channels; ++channel) {
    for (std::int64_t y = 0; y < spec_.crop_rows; ++y, out += spec_.crop_columns) {
      const std::int64_t row = cut.row + y;
      const bool inside = row >= 0 && row < spec_.rows;
      copy_row(inside ? pixels + channel * plane_bytes + row * row_bytes : nullptr, channel, cut, out);
    }
  }
}

/// One row of one channel; `row` null: all of it is border.
void ImageTransform::copy_row(const std::byte* row, std::int64_t channel, const Cut& cut, float* out) const {
  const float scale = scale_[static_cast<std::size_t>(channel)];
  const float shift = shift_[static_cast<std::size_t>(channel)];
  const std::int64_t width = spec_.crop_columns;
  // Columns of the crop that lie in the image; black elsewhere.
  const std::int64_t begin = row == nullptr ? width : std::clamp<std::int64_t>(-cut.column, 0, width);
  const std::int64_t end =
      row == nullptr ? width : std::clamp<std::int64_t>(spec_.columns - cut.column, begin, width);
  std::fill(out, out + begin, shift);
  std::fill(out + end, out + width, shift);
  const auto value = [&](std::byte pixel) {
    return static_cast<float>(std::to_integer<int>(pixel)) * scale + shift;
  };
  if (spec_.interleaved)
    for (std::int64_t x = begin; x < end; ++x) out[x] = value(row[(cut.column + x) * spec_.channels]);
  else
    for (std::int64_t x = begin; x < end; ++x) out[x] = value(row[cut.column + x]);
  if (cut.mirrored) std::reverse(out, out + width);
}

}  // namespace paceline
