#pragma once

#include <csignal>

namespace paceline {

/// A file-size limit (ulimit -f) kills by a signal unless it is held back; then it is an error like a full
/// disk. Holds it back in this thread while it lives.
class HoldFileSizeSignal {
 public:
  HoldFileSizeSignal();
  ~HoldFileSizeSignal();
  HoldFileSizeSignal(const HoldFileSizeSignal&) = delete;
  HoldFileSizeSignal& operator=(const HoldFileSizeSignal&) = delete;

 private:
  sigset_t signal_{};
  sigset_t before_{};
};

}  // namespace paceline
