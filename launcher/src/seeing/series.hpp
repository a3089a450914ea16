#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace paceline {

/// A curve of any length, of which few points are kept: each the mean, least and greatest of as many values
/// as it stands for, which are equally many for all but the last.
class Series {
 public:
  static constexpr std::size_t most = 1500;
  struct Point {
    double x = 0;  ///< of the first of its values
    double mean = 0;
    double low = 0;
    double high = 0;
    std::int64_t values = 0;
  };
  /// Values that are not finite are passed over.
  void add(double x, double y);
  [[nodiscard]] const std::vector<Point>& points() const noexcept { return points_; }
  [[nodiscard]] std::int64_t values_per_point() const noexcept { return stride_; }

 private:
  std::int64_t stride_ = 1;
  std::vector<Point> points_;
};

/// The median of any number of values, of which a few thousand are kept, evenly.
class RunningMedian {
 public:
  void add(double value);
  [[nodiscard]] std::int64_t count() const noexcept { return count_; }
  /// Nothing: there were none.
  [[nodiscard]] std::optional<double> value() const;

 private:
  std::int64_t stride_ = 1;
  std::int64_t count_ = 0;
  std::vector<double> kept_;
};

}  // namespace paceline
