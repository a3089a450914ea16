#include "table.hpp"
#define PACELINE_KERNEL_SET avx512
#include "body.inc"
