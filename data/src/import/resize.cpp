#include <algorithm>
#include <cmath>

#include "paceline/base/assert.hpp"
#include "picture.hpp"

namespace paceline {
namespace {

// Resampling along one axis: output pixel i is a weighted mean of input pixels [first, first + weights).
// The weights are a triangle, as wide as one pixel of the coarser of the two images on either side of the
// middle (its support), so that enlarging is linear interpolation and shrinking averages everything that a
// pixel covers. Rows and columns are done one after the other: the filter is separable.

constexpr int weight_bits = 14;  // sums of 255 * 2^14 fit 32 bits with room

struct Taps {
  std::int64_t first = 0;
  std::vector<std::int32_t> weights;  // sum: 1 << weight_bits
};

/// `from` pixels become `to`, of which the middle `kept` are wanted.
std::vector<Taps> make_taps(std::int64_t from, std::int64_t to, std::int64_t kept) {
  const double scale = static_cast<double>(from) / static_cast<double>(to);
  const double support = std::max(scale, 1.0);
  const std::int64_t skipped = (to - kept) / 2;
  std::vector<Taps> taps(static_cast<std::size_t>(kept));
  for (std::int64_t i = 0; i < kept; ++i) {
    Taps& tap = taps[static_cast<std::size_t>(i)];
    const double middle = (static_cast<double>(i + skipped) + 0.5) * scale;
    tap.first = std::max<std::int64_t>(0, static_cast<std::int64_t>(std::floor(middle - support + 0.5)));
    const std::int64_t end = std::min(from, static_cast<std::int64_t>(std::floor(middle + support + 0.5)));
    std::vector<double> exact;
    double sum = 0;
    for (std::int64_t at = tap.first; at < end; ++at) {
      exact.push_back(std::max(0.0, 1 - std::abs((static_cast<double>(at) + 0.5 - middle) / support)));
      sum += exact.back();
    }
    std::int32_t left = 1 << weight_bits;
    for (const double weight : exact) {
      tap.weights.push_back(static_cast<std::int32_t>(std::lround(weight / sum * (1 << weight_bits))));
      left -= tap.weights.back();
    }
    *std::max_element(tap.weights.begin(), tap.weights.end()) += left;  // what rounding lost
  }
  return taps;
}

constexpr std::int32_t half = 1 << (weight_bits - 1);

std::byte rounded(std::int32_t sum) {
  return static_cast<std::byte>(std::clamp(sum >> weight_bits, 0, 255));
}

template <int channels>
void resize_line(const std::byte* line, const std::vector<Taps>& taps, std::byte* out) {
  for (const Taps& tap : taps) {
    std::int32_t sums[channels];
    std::fill_n(sums, channels, half);
    const std::byte* values = line + tap.first * channels;
    for (const std::int32_t weight : tap.weights)
      for (std::int32_t& sum : sums) sum += weight * std::to_integer<std::int32_t>(*values++);
    for (const std::int32_t sum : sums) *out++ = rounded(sum);
  }
}

Picture resize_columns(const Picture& picture, const std::vector<Taps>& taps) {
  Picture result{picture.rows, static_cast<std::int64_t>(taps.size()), picture.channels, {}};
  result.values.resize(static_cast<std::size_t>(result.rows * result.columns * result.channels));
  const auto resize_one = picture.channels == 3 ? resize_line<3> : resize_line<1>;
  for (std::int64_t row = 0; row < picture.rows; ++row)
    resize_one(picture.values.data() + row * picture.columns * picture.channels, taps,
               result.values.data() + row * result.columns * result.channels);
  return result;
}

Picture resize_rows(const Picture& picture, const std::vector<Taps>& taps) {
  Picture result{static_cast<std::int64_t>(taps.size()), picture.columns, picture.channels, {}};
  const auto line = static_cast<std::size_t>(picture.columns * picture.channels);
  result.values.resize(taps.size() * line);
  std::vector<std::int32_t> sums(line);
  std::byte* out = result.values.data();
  for (const Taps& tap : taps) {
    std::fill(sums.begin(), sums.end(), half);
    const std::byte* values = picture.values.data() + static_cast<std::size_t>(tap.first) * line;
    for (const std::int32_t weight : tap.weights) {  // line by line, so that memory is read in its order
      for (std::size_t i = 0; i < line; ++i) sums[i] += weight * std::to_integer<std::int32_t>(values[i]);
      values += line;
    }
    for (std::size_t i = 0; i < line; ++i) out[i] = rounded(sums[i]);
    out += line;
  }
  return result;
}

}  // namespace

Picture fit_picture(const Picture& picture, std::int64_t rows, std::int64_t columns) {
  PACELINE_ASSERT(picture.channels == 1 || picture.channels == 3, "a picture has 1 or 3 channels");
  if (picture.rows == rows && picture.columns == columns) return picture;
  const double scale = std::max(static_cast<double>(rows) / static_cast<double>(picture.rows),
                                static_cast<double>(columns) / static_cast<double>(picture.columns));
  const auto scaled = [&](std::int64_t side, std::int64_t least) {
    return std::max<std::int64_t>(least, std::lround(static_cast<double>(side) * scale));
  };
  const std::vector<Taps> row_taps = make_taps(picture.rows, scaled(picture.rows, rows), rows);
  const std::vector<Taps> column_taps = make_taps(picture.columns, scaled(picture.columns, columns), columns);
  return resize_columns(resize_rows(picture, row_taps), column_taps);
}

}  // namespace paceline
