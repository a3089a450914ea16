#pragma once

#include "paceline/job/protocol.hpp"
#include "paceline/sched/coordinator.hpp"

namespace paceline {

/// What a worker says of itself, as the coordinator judges it.
[[nodiscard]] WorkerHeartbeat heartbeat_of(WorkerId id, const HeartbeatMessage& message);

}  // namespace paceline
