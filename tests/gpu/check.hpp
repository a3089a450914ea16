#pragma once

// What tests on a GPU need, for machines that have a compiler and CUDA and nothing else.

#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "paceline/base/result.hpp"

namespace paceline::gpu_testing {

inline constexpr int skipped_exit_code = 77;  ///< SKIP_RETURN_CODE of the ctest entries

inline int failures = 0;  ///< of the running case

/// Counts and prints a failure; the first ten of a case are enough.
inline void expect(bool holds, const char* file, int line, const std::string& what) {
  if (holds) return;
  if (++failures <= 10) std::printf("  %s:%d: %s\n", file, line, what.c_str());
}

/// Ends the program where going on makes no sense, such as when memory cannot be had.
inline void require(bool holds, const char* file, int line, const std::string& what) {
  if (holds) return;
  std::printf("%s:%d: %s\n", file, line, what.c_str());
  std::exit(1);
}

inline std::string text(const Status& status) {
  return status.ok() ? "ok" : status.error().message;
}

struct Case {
  const char* name;
  std::string (*run)();  ///< why it was skipped; empty: it ran
};

inline bool has_gpu() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
}

/// Where there is no GPU: says so and ends the program as skipped.
inline void require_gpu(const char* program) {
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code == cudaSuccess && count > 0) return;
  std::printf("SKIPPED %s: there is no GPU that can be used (%s)\n", program,
              code == cudaSuccess ? "none is visible" : cudaGetErrorString(code));
  std::exit(skipped_exit_code);
}

/// Runs the cases whose name has `part` in it; the exit status.
inline int run_cases(const std::vector<Case>& cases, std::string_view part) {
  int failed = 0;
  for (const Case& test : cases) {
    if (std::string_view(test.name).find(part) == std::string_view::npos) continue;
    failures = 0;
    const std::string skipped = test.run();
    if (failures == 0 && has_gpu() && cudaDeviceSynchronize() != cudaSuccess) failures = 1;
    if (failures > 0) ++failed;
    std::printf("%s %s%s%s\n", failures > 0 ? "FAILED" : (skipped.empty() ? "ok" : "SKIPPED"), test.name,
                skipped.empty() ? "" : ": ", skipped.c_str());
    std::fflush(stdout);
  }
  std::printf("%d failed\n", failed);
  return failed == 0 ? 0 : 1;
}

}  // namespace paceline::gpu_testing

#define EXPECT(condition, what) ::paceline::gpu_testing::expect((condition), __FILE__, __LINE__, (what))
#define EXPECT_OK(expression)                                                                \
  do {                                                                                       \
    const ::paceline::Status expect_ok_status = (expression);                                \
    EXPECT(expect_ok_status.ok(),                                                            \
           std::string(#expression ": ") + ::paceline::gpu_testing::text(expect_ok_status)); \
  } while (false)
#define REQUIRE_CUDA(expression)                                                                             \
  do {                                                                                                       \
    const cudaError_t require_cuda_code = (expression);                                                      \
    ::paceline::gpu_testing::require(require_cuda_code == cudaSuccess, __FILE__, __LINE__,                   \
                                     std::string(#expression ": ") + cudaGetErrorString(require_cuda_code)); \
  } while (false)
