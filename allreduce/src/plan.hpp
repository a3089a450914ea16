#pragma once

#include <cstddef>
#include <string>

#include "paceline/allreduce.hpp"

namespace paceline {

/// Every owner has a connection to every other only up to this many nodes.
inline constexpr int most_meshed_nodes = 16;
/// Most bytes of one round, which is what a slot in staging has to hold.
inline constexpr std::size_t most_round_bytes = std::size_t{4} << 20;

/// What was measured between two nodes when the communicator was made. Plain bytes: rank 0's is sent to all.
struct Wire {
  double latency_s = 50e-6;       ///< one way, of a short block
  double bytes_per_s = 1e9;       ///< of long ones, one way
  double bytes_per_s_single = 0;  ///< the same over a single connection; 0: not measured
  std::int64_t piece_bytes = 0;   ///< Tuning, as rank 0 has it
  std::int32_t algorithm = 0;
  std::int32_t streams = 1;
};

/// Which algorithm a sum takes between nodes, and in which pieces: pure, and equal on all ranks, because the
/// Wire is.
class Plan {
 public:
  Plan(const Wire& wire, int nodes) : wire_(wire), nodes_(nodes) {}

  struct Choice {
    Algorithm algorithm = Algorithm::ring;
    std::size_t piece_bytes = 0;  ///< that a fragment has in one round
  };
  /// `bytes`: of the whole sum on the wire, which a node's owners share.
  [[nodiscard]] Choice choose(std::size_t bytes) const;
  /// The model's estimate, in seconds.
  [[nodiscard]] double estimate(Algorithm algorithm, std::size_t bytes) const;
  [[nodiscard]] const Wire& wire() const noexcept { return wire_; }
  /// For people, a few lines.
  [[nodiscard]] std::string describe() const;

 private:
  [[nodiscard]] Algorithm fastest(std::size_t bytes) const;

  Wire wire_;
  int nodes_;
};

/// What the caller left open, from PACELINE_ALGORITHM, PACELINE_PIECE_BYTES, PACELINE_STREAMS and
/// PACELINE_PLAIN_MEMORY.
[[nodiscard]] Result<Tuning> tuning_from_environment(Tuning tuning);

}  // namespace paceline
