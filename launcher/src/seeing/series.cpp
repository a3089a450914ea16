#include "seeing/series.hpp"

#include <algorithm>
#include <cmath>

namespace paceline {
namespace {

constexpr std::size_t most_kept = 4096;

Series::Point merged(const Series::Point& a, const Series::Point& b) {
  const auto values = static_cast<double>(a.values + b.values);
  const double mean =
      (a.mean * static_cast<double>(a.values) + b.mean * static_cast<double>(b.values)) / values;
  return {a.x, mean, std::min(a.low, b.low), std::max(a.high, b.high), a.values + b.values};
}

}  // namespace

void Series::add(double x, double y) {
  if (!std::isfinite(x) || !std::isfinite(y)) return;
  const Point value{x, y, y, y, 1};
  if (!points_.empty() && points_.back().values < stride_) {
    points_.back() = merged(points_.back(), value);
    return;
  }
  points_.push_back(value);
  if (points_.size() <= most) return;
  stride_ *= 2;
  std::vector<Point> fewer;
  for (std::size_t i = 0; i < points_.size(); i += 2)
    fewer.push_back(i + 1 < points_.size() ? merged(points_[i], points_[i + 1]) : points_[i]);
  points_ = std::move(fewer);
}

void RunningMedian::add(double value) {
  if (!std::isfinite(value)) return;
  if (count_++ % stride_ != 0) return;
  kept_.push_back(value);
  if (kept_.size() <= most_kept) return;
  for (std::size_t i = 0; 2 * i < kept_.size(); ++i) kept_[i] = kept_[2 * i];
  kept_.resize((kept_.size() + 1) / 2);
  stride_ *= 2;
}

std::optional<double> RunningMedian::value() const {
  if (kept_.empty()) return std::nullopt;
  std::vector<double> sorted = kept_;
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  return *middle;
}

}  // namespace paceline
