#include "time_series.hpp"

#include <algorithm>

namespace paceline {
namespace {

constexpr std::size_t most_values = 100'000;

}  // namespace

void TimeSeries::add(Duration value) {
  if (values_ms_.size() < most_values) values_ms_.push_back(0);
  values_ms_[next_] = static_cast<float>(to_ms(value));
  next_ = (next_ + 1) % most_values;
}

Percentiles TimeSeries::percentiles_ms() const {
  if (values_ms_.empty()) return {};
  std::vector<float> sorted = values_ms_;
  std::ranges::sort(sorted);
  const auto at = [&](double fraction) {
    return static_cast<double>(
        sorted[static_cast<std::size_t>(fraction * static_cast<double>(sorted.size() - 1))]);
  };
  return {at(0.5), at(0.9), at(0.99)};
}

}  // namespace paceline
