// A program with buffers on GPUs: builds without one, and says how many there are.
#include <cstdio>

#include "paceline/cuda.hpp"
#include "paceline/cuda_kernels.hpp"

int main() {
  const paceline::Result<int> count = paceline::cuda::device_count();
  if (count.ok())
    std::printf("%d GPUs, and %zu bytes for 257 elements as int8\n", *count,
                paceline::cuda::encoded_bytes(paceline::Codec::int8, 257));
  else
    std::printf("no GPUs: %s\n", count.error().message.c_str());
}
