#include "kernels.hpp"
#define PACELINE_KERNEL_SET generic
#include "body.inc"
