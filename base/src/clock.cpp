#include "paceline/base/clock.hpp"

#include <algorithm>
#include <climits>

namespace paceline {

int Deadline::left_ms() const noexcept {
  const auto rounded_up = std::chrono::ceil<std::chrono::milliseconds>(left()).count();
  return static_cast<int>(std::min<long long>(rounded_up, INT_MAX));
}

}  // namespace paceline
