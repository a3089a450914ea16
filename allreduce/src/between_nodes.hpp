#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "operation.hpp"
#include "paceline/base/clock.hpp"
#include "paceline/base/result.hpp"

namespace paceline {

/// A block of a collective's data on its way to or from a rank on another node.
struct Outgoing {
  int peer = 0;
  std::uint32_t part = 0;  ///< which block of the collective; sender and receiver count alike
  std::span<const std::byte> bytes;
};
struct Incoming {
  int peer = 0;
  std::uint32_t part = 0;
  std::span<std::byte> bytes;
};

/// The role between nodes: messages on links. A transport carries blocks in order per pair of ranks, checks
/// that both ends mean the same block of the same collective, and ends every wait.
class BetweenNodes {
 public:
  virtual ~BetweenNodes() = default;

  /// Carries all blocks, in both directions at once, and returns when the last is through: at most one
  /// block each way per peer in one call. `descriptor` is of the collective they belong to.
  /// Errors: mismatch (the peer is in another collective), peer_lost, timeout, the abort's.
  [[nodiscard]] virtual Status exchange(const Descriptor& descriptor, std::span<const Outgoing> outgoing,
                                        std::span<const Incoming> incoming, const Deadline& deadline) = 0;
  /// For people: "tcp".
  [[nodiscard]] virtual std::string name() const = 0;
};

}  // namespace paceline
