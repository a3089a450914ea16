#include "kernels.hpp"

#include "table.hpp"

namespace paceline {
namespace {

kernels::ReduceTable widest_table() {
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx512f")) return kernels::avx512::table();
  if (__builtin_cpu_supports("avx2")) return kernels::avx2::table();
#endif
  return kernels::generic::table();
}

}  // namespace

ReduceKernel reduce_kernel(DataType type, ReduceOp op) noexcept {
  static const kernels::ReduceTable table = widest_table();
  return table.kernel[static_cast<std::size_t>(type)][static_cast<std::size_t>(op)];
}

}  // namespace paceline
