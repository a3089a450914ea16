#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "manifest.hpp"

namespace paceline {

/// Mean and standard deviation of value / 255 by channel, from exact sums; for up to 2^47 values.
class Moments {
 public:
  Moments(const std::vector<std::int64_t>& sample_shape, ImageLayout layout);

  /// Whole decoded samples.
  void add(std::span<const std::byte> samples);
  /// What another thread has added up.
  void add(const Moments& other);

  [[nodiscard]] std::vector<double> mean() const;
  /// 1 where all values are the same: they are not to be scaled, and 0 would make them no numbers.
  [[nodiscard]] std::vector<double> standard_deviation() const;

 private:
  struct Sums {
    std::uint64_t values = 0;
    std::uint64_t squares = 0;
    std::uint64_t count = 0;
    void add(std::span<const std::byte> values, std::size_t stride);
  };
  std::vector<Sums> channels_;
  std::size_t plane_;  ///< values of one channel that lie together
};

}  // namespace paceline
