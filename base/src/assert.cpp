#include "paceline/base/assert.hpp"

#include <cstdio>
#include <cstdlib>

namespace paceline {

void assertion_failed(const char* condition, const char* why, const char* file, int line) noexcept {
  std::fprintf(stderr, "paceline: internal error at %s:%d: %s (%s)\n", file, line, why, condition);
  std::abort();
}

}  // namespace paceline
