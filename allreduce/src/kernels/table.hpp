#pragma once

#include <stddef.h>

namespace paceline::kernels {

/// One kernel per data type and operation, in the order of the enumerations.
struct ReduceTable {
  void (*kernel[4][3])(void* destination, const void* a, const void* b, size_t count);
};

namespace generic {
ReduceTable table();
}
namespace avx2 {
ReduceTable table();
}
namespace avx512 {
ReduceTable table();
}

}  // namespace paceline::kernels
