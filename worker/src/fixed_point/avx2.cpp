#include "kernels.hpp"
#define PACELINE_KERNEL_SET avx2
#include "body.inc"
