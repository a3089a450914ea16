#pragma once

#include <cstdint>
#include <string>

#include "paceline/base/text.hpp"
#include "paceline/sched/coordinator.hpp"

namespace paceline {

inline std::string count(std::int64_t number, const char* what) {
  return concat(number, " ", what, number == 1 ? "" : "s");
}

/// "31 s".
inline std::string whole_seconds(Duration time) {
  return concat(std::chrono::duration_cast<std::chrono::seconds>(time).count(), " s");
}

inline std::int64_t ranks_of(const Generation& record) {
  return static_cast<std::int64_t>(record->members.size());
}

}  // namespace paceline
