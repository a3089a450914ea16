/* The same in C. */
#include <stdio.h>

#include "paceline/cuda.h"

int main(void) {
  paceline_device_options options;
  if (paceline_device_options_init(&options, sizeof options) != PACELINE_OK) return 1;
  printf("%zu bytes for CUDA IPC\n", options.ipc_bytes);
  return 0;
}
