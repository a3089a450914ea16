#pragma once

namespace paceline {

/// Reports a broken invariant on standard error and aborts the process.
[[noreturn]] void assertion_failed(const char* condition, const char* why, const char* file,
                                   int line) noexcept;

}  // namespace paceline

/// For bugs, never for expected failures: those are Results. Checked in every build.
#define PACELINE_ASSERT(condition, why)                                  \
  do {                                                                   \
    if (!(condition)) [[unlikely]]                                       \
      ::paceline::assertion_failed(#condition, why, __FILE__, __LINE__); \
  } while (false)
