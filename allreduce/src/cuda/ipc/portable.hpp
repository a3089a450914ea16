#pragma once

#include <cstddef>
#include <cstdint>

#include "../kernels/host_device.cuh"

// What the kernels need in two forms: for the GPU, and for threads on the host that run the same code in
// tests.

namespace paceline::cuda::ipc {

/// Reads and writes words that ranks tell each other things with. Acquire and release at the scope of the
/// system: what was written before the release, anywhere, is seen after the acquire. `word` may be a peer's
/// memory.
PACELINE_HD std::uint32_t load_acquire(const std::uint32_t* word) {
#ifdef __CUDA_ARCH__
  std::uint32_t value = 0;
  asm volatile("ld.acquire.sys.u32 %0, [%1];" : "=r"(value) : "l"(word) : "memory");
  return value;
#else
  return __atomic_load_n(word, __ATOMIC_ACQUIRE);
#endif
}

PACELINE_HD void store_release(std::uint32_t* word, std::uint32_t value) {
#ifdef __CUDA_ARCH__
  asm volatile("st.release.sys.u32 [%0], %1;" : : "l"(word), "r"(value) : "memory");
#else
  __atomic_store_n(word, value, __ATOMIC_RELEASE);
#endif
}

/// Binary16 and bfloat16 as types of their own, for overloads to tell apart.
struct Half {
  std::uint16_t bits;
};
struct Brain {
  std::uint16_t bits;
};

}  // namespace paceline::cuda::ipc
