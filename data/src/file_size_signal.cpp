#include "file_size_signal.hpp"

#include <pthread.h>

#include <ctime>

namespace paceline {

HoldFileSizeSignal::HoldFileSizeSignal() {
  sigemptyset(&signal_);
  sigaddset(&signal_, SIGXFSZ);
  pthread_sigmask(SIG_BLOCK, &signal_, &before_);
}

HoldFileSizeSignal::~HoldFileSizeSignal() {
  if (sigismember(&before_, SIGXFSZ) == 1) return;
  constexpr timespec at_once{};
  while (sigtimedwait(&signal_, nullptr, &at_once) == SIGXFSZ) {
  }
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

}  // namespace paceline
