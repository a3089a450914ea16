// A rank. Its agent starts it with a socket as descriptor 3 and tells it what to do; see
// docs/worker-protocol.md. Nobody starts it by hand.

#include <unistd.h>

#include <cstdio>

#include "run.hpp"

int main() {
  const int status = paceline::run_worker();
  std::fflush(nullptr);
  // LibTorch's and OpenMP's thread pools are not worth an orderly end of half a second.
  ::_exit(status);
}
