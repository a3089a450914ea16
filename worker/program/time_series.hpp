#pragma once

#include <vector>

#include "paceline/base/clock.hpp"
#include "paceline/job/protocol.hpp"

namespace paceline {

/// Times of steps, of which the latest 100,000 are kept.
class TimeSeries {
 public:
  void add(Duration value);
  /// In milliseconds; zeros where nothing was added.
  [[nodiscard]] Percentiles percentiles_ms() const;

 private:
  std::vector<float> values_ms_;
  std::size_t next_ = 0;
};

}  // namespace paceline
