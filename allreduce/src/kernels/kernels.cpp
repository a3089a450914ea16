#include "kernels.hpp"

namespace paceline {
namespace {

kernels::Table widest_table() {
#ifdef __x86_64__
  // What has AVX2 and not these is only an emulator.
  if (!__builtin_cpu_supports("f16c") || !__builtin_cpu_supports("fma")) return kernels::generic::table();
  if (__builtin_cpu_supports("avx512f")) return kernels::avx512::table();
  if (__builtin_cpu_supports("avx2")) return kernels::avx2::table();
#endif
  return kernels::generic::table();
}

}  // namespace

const kernels::Table& kernel_table() noexcept {
  static const kernels::Table table = widest_table();
  return table;
}

}  // namespace paceline
