#pragma once

#include "paceline/job/protocol.hpp"

namespace paceline {

/// Trains the job to its end as one of its ranks, telling the agent about it. Collective. Gives what the
/// agent is told last; after a StopMessage to any rank, all leave at the same commit.
[[nodiscard]] Result<FinishedMessage> train(const StartMessage& start, WorkerChannel& channel);

}  // namespace paceline
