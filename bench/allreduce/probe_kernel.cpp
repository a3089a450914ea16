#include "allreduce/probe_kernel.hpp"

#include <algorithm>

// One copy per instruction set, chosen when the program is loaded.
#ifdef __x86_64__
#define PACELINE_PROBE_CLONES [[gnu::target_clones("avx512f", "avx2", "default")]]
#else
#define PACELINE_PROBE_CLONES
#endif

namespace paceline::bench {
namespace {

// Plain loops, which the compiler turns into vector loads and stores better than hand-written lines of a
// cache.

PACELINE_PROBE_CLONES void add_two(float* __restrict a, float* __restrict b, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    const float sum = a[i] + b[i];
    a[i] = sum;
    b[i] = sum;
  }
}

PACELINE_PROBE_CLONES void add_many(float* const* buffers, int ranks, std::size_t begin, std::size_t count) {
  constexpr std::size_t block = 256;  // small enough to stay in the first cache beside its addends
  float sum[block];
  for (std::size_t at = begin; at < begin + count; at += block) {
    const std::size_t here = std::min(block, begin + count - at);
    const float* __restrict first = buffers[0] + at;
    for (std::size_t i = 0; i < here; ++i) sum[i] = first[i];
    for (int rank = 1; rank < ranks; ++rank) {
      const float* __restrict addend = buffers[rank] + at;
      for (std::size_t i = 0; i < here; ++i) sum[i] += addend[i];
    }
    for (int rank = 0; rank < ranks; ++rank) {
      float* __restrict out = buffers[rank] + at;
      for (std::size_t i = 0; i < here; ++i) out[i] = sum[i];
    }
  }
}

}  // namespace

void probe_add_up(float* const* buffers, int ranks, std::size_t begin, std::size_t end) {
  if (ranks == 2)
    add_two(buffers[0] + begin, buffers[1] + begin, end - begin);
  else
    add_many(buffers, ranks, begin, end - begin);
}

}  // namespace paceline::bench
