#include "kernels.hpp"
#define PACELINE_KERNEL_SET avx512
#include "body.inc"
