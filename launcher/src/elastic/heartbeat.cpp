#include "elastic/heartbeat.hpp"

#include <algorithm>
#include <map>
#include <string_view>

namespace paceline {

WorkerHeartbeat heartbeat_of(WorkerId id, const HeartbeatMessage& message) {
  static const std::map<std::string_view, WorkPhase> phases = {{"data", WorkPhase::data},
                                                               {"compute", WorkPhase::compute},
                                                               {"evaluate", WorkPhase::evaluate},
                                                               {"reduce", WorkPhase::waits},
                                                               {"commit", WorkPhase::waits}};
  const auto phase = phases.find(message.phase);
  constexpr double most_seconds = 1e9;  // what a clock can hold; also where it is no number
  const double seconds = message.seconds >= 0 ? std::min(message.seconds, most_seconds) : 0;
  return {id, message.step, phase == phases.end() ? WorkPhase::other : phase->second,
          std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds))};
}

}  // namespace paceline
