#pragma once

#include <csignal>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "paceline/base/result.hpp"

namespace paceline {

/// What tests want to go wrong in this process, and exactly where: PACELINE_FAULTS is a list, with commas, of
/// WORKER:POINT@STEP:kill and WORKER:POINT@STEP:stop (SIGSTOP). Each happens once, when the training thread
/// passes that point in that step or a later one. WORKER:POINT@FIRST-LAST:wait=MS makes it wait there for so
/// many milliseconds in each of these steps, WORKER:POINT@STEP:until=FILE from that step on until FILE exists
/// (an hour at most). WORKER is a number, or * for each. Points are the phases of HeartbeatMessage, at their
/// beginning, and "apply", after the commit. One thread.
class Faults {
 public:
  /// Those of this worker. invalid_argument.
  [[nodiscard]] static Result<Faults> from_environment(std::int64_t worker);

  void pass(std::string_view point, std::int64_t step) {
    if (!faults_.empty()) look_up(point, step);
  }

 private:
  struct Fault {
    std::optional<std::int64_t> worker;  ///< nothing: each
    std::string point;
    std::int64_t step = 0;
    std::int64_t last = 0;     ///< step; of a wait for some time
    std::int64_t wait_ms = 0;  ///< 0: not that
    std::string file;          ///< that it waits for; empty: not that
    int signal = 0;            ///< 0: not that
  };
  [[nodiscard]] static std::optional<Fault> parse(const std::string& entry);
  void look_up(std::string_view point, std::int64_t step);

  std::vector<Fault> faults_;
};

}  // namespace paceline
