#pragma once

#include <sys/types.h>

#include <memory>
#include <stop_token>
#include <thread>

#include "paceline/base/clock.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/result.hpp"

namespace paceline::bench {

/// A process that stands still again and again (SIGSTOP and SIGCONT), so that it runs for one part in
/// `factor` of the time. What one stop takes too long or too short, the next ones make good: on a busy
/// machine whoever is to wake it up comes late. Runs on when this goes away.
class HeldBack {
 public:
  /// From now on. `period`, of a stop and a run together, must be short beside what is measured.
  [[nodiscard]] static Result<HeldBack> start(pid_t pid, double factor, Duration period);
  /// Until it runs again. An error where it had ended meanwhile.
  [[nodiscard]] Status end();

 private:
  struct Shared {
    UniqueFd process;
    Status status{};
  };
  HeldBack() = default;

  std::unique_ptr<Shared> shared_;  // of the thread, too
  std::jthread thread_;             // after what it uses
};

}  // namespace paceline::bench
