#pragma once

#include "table.hpp"

namespace paceline {

/// The kernels for the widest vectors that this CPU has. All sets give the same bits.
[[nodiscard]] const kernels::Table& kernel_table() noexcept;

}  // namespace paceline
