#pragma once

#include <optional>

#include "agent_link.hpp"

namespace paceline {

/// Trains the job to its end, as a member of whichever generations it is told of. Ranks that are lost, come
/// and go are no errors. Gives what the agent is told last, or nothing where this worker was sent away before
/// the end. After a StopMessage to any rank, all leave at the same commit.
[[nodiscard]] Result<std::optional<FinishedMessage>> train(const StartMessage& start, AgentLink& link);

}  // namespace paceline
