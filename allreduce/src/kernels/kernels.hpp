#pragma once

#include <cstddef>

#include "paceline/allreduce.hpp"

namespace paceline {

/// destination[i] = a[i] op b[i]. `destination` may be `a` or `b` itself, but not overlap otherwise.
using ReduceKernel = void (*)(void* destination, const void* a, const void* b, std::size_t count);

/// The kernel for the widest vectors that this CPU has. Each element is one operation without contraction,
/// so every instruction set gives the same bits.
[[nodiscard]] ReduceKernel reduce_kernel(DataType type, ReduceOp op) noexcept;

}  // namespace paceline
