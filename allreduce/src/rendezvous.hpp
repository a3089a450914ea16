#pragma once

#include <span>
#include <string>
#include <vector>

#include "abort_signal.hpp"
#include "paceline/allreduce.hpp"
#include "wire.hpp"

namespace paceline {

/// What a rank takes from it.
struct Meeting {
  std::vector<wire::Hello> roster;  ///< by rank
  UniqueFd data_listener;
  /// By rank: rank 0's connections to all others; of the others, only [0] is a connection.
  std::vector<UniqueFd> control;
};

/// All ranks connect to rank 0, say who they are and learn about everyone. A stranger (wrong secret,
/// generation, size or protocol) is told why and refused, and does not disturb the meeting.
[[nodiscard]] Result<Meeting> meet(wire::Hello self, std::span<const Member> members,
                                   CommunicatorOptions& options, const Deadline& deadline,
                                   const AbortSignal& abort);

}  // namespace paceline
