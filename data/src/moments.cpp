#include "moments.hpp"

#include <cmath>

namespace paceline {

Moments::Moments(const std::vector<std::int64_t>& sample_shape, ImageLayout layout)
    : channels_(static_cast<std::size_t>(channels(sample_shape, layout))), plane_(1) {
  if (channels_.size() > 1 && layout == ImageLayout::hwc) return;
  std::int64_t values = 1;
  for (const std::int64_t size : sample_shape) values *= size;
  plane_ = static_cast<std::size_t>(values) / channels_.size();
}

void Moments::Sums::add(std::span<const std::byte> bytes, std::size_t stride) {
  std::uint64_t sum = 0;
  std::uint64_t sum_of_squares = 0;
  for (std::size_t i = 0; i < bytes.size(); i += stride) {
    const auto v = std::to_integer<std::uint64_t>(bytes[i]);
    sum += v;
    sum_of_squares += v * v;
  }
  values += sum;
  squares += sum_of_squares;
  count += (bytes.size() + stride - 1) / stride;
}

void Moments::add(std::span<const std::byte> samples) {
  const std::size_t channels = channels_.size();
  if (plane_ == 1) {
    for (std::size_t channel = 0; channel < channels; ++channel)
      channels_[channel].add(samples.subspan(channel), channels);
    return;
  }
  for (std::size_t plane = 0; plane * plane_ < samples.size(); ++plane)
    channels_[plane % channels].add(samples.subspan(plane * plane_, plane_), 1);
}

void Moments::add(const Moments& other) {
  for (std::size_t channel = 0; channel < channels_.size(); ++channel) {
    channels_[channel].values += other.channels_[channel].values;
    channels_[channel].squares += other.channels_[channel].squares;
    channels_[channel].count += other.channels_[channel].count;
  }
}

std::vector<double> Moments::mean() const {
  std::vector<double> means;
  for (const Sums& sums : channels_)
    means.push_back(static_cast<double>(sums.values) / static_cast<double>(sums.count) / 255);
  return means;
}

std::vector<double> Moments::standard_deviation() const {
  std::vector<double> deviations;
  const std::vector<double> means = mean();
  for (std::size_t channel = 0; channel < channels_.size(); ++channel) {
    const Sums& sums = channels_[channel];
    const double square =
        static_cast<double>(sums.squares) / static_cast<double>(sums.count) / (255.0 * 255.0);
    const double variance = square - means[channel] * means[channel];
    deviations.push_back(variance > 1e-12 ? std::sqrt(variance) : 1);
  }
  return deviations;
}

}  // namespace paceline
