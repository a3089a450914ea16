#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace paceline {

/// A median, of an even number the mean of the middle two. `sorted` not empty.
inline double median_of_sorted(const std::vector<double>& sorted) {
  const std::size_t middle = sorted.size() / 2;
  return sorted.size() % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/// After something is slow on wires: until then another pair may show which end it is, or that it's all.
inline constexpr double sees_node_after_s = 1.2;

inline double median_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return median_of_sorted(values);
}

/// The median of all but one that equals `value`. At least two, sorted.
inline double median_of_others(const std::vector<double>& sorted, double value) {
  const auto place =
      static_cast<std::size_t>(std::lower_bound(sorted.begin(), sorted.end(), value) - sorted.begin());
  const auto at = [&](std::size_t i) { return sorted[i < place ? i : i + 1]; };
  const std::size_t others = sorted.size() - 1, middle = others / 2;
  return others % 2 == 1 ? at(middle) : (at(middle - 1) + at(middle)) / 2;
}

/// The standard deviation that normal noise of this median absolute deviation has.
inline double robust_sigma(const std::vector<double>& values) {
  const double centre = median_of(values);
  std::vector<double> distances;
  distances.reserve(values.size());
  for (const double value : values) distances.push_back(std::abs(value - centre));
  return 1.4826 * median_of(std::move(distances));
}

}  // namespace paceline
