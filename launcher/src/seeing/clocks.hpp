#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace paceline {

// Nodes' clocks differ, and drift. A step's commit ends at nearly the same moment on all ranks: it is a
// collective that none of them leaves before all have come. So the differences between the moments that two
// nodes noted for the same commits are the differences between their clocks, and a delay in waking up, which
// the median leaves out.

/// A committed step: its generation, so that one that was done again is another, and its number.
using CommitKey = std::pair<std::int64_t, std::int64_t>;

/// When one node saw commits end, in seconds of its clock. Of a long run some are kept, evenly.
class CommitTimes {
 public:
  /// What is kept at most.
  static constexpr std::size_t most = 8192;
  void add(CommitKey key, double time_s);
  [[nodiscard]] const std::map<CommitKey, double>& times() const noexcept { return times_; }

 private:
  std::int64_t stride_ = 1;  // of steps; a power of two, so that all nodes keep common ones
  std::map<CommitKey, double> times_;
};

/// What a node's clock was ahead of the reference node's, over time.
class ClockOffset {
 public:
  struct Piece {
    double time_s = 0;    ///< the middle of a stretch, of the node's own clock
    double offset_s = 0;  ///< median in it
  };
  ClockOffset() = default;
  /// `pieces` by time.
  explicit ClockOffset(std::vector<Piece> pieces) : pieces_(std::move(pieces)) {}
  /// A moment of the node's clock on the reference clock; between pieces the offset is interpolated.
  [[nodiscard]] double aligned(double time_s) const;
  [[nodiscard]] const std::vector<Piece>& pieces() const noexcept { return pieces_; }

 private:
  std::vector<Piece> pieces_;
};

struct NodeClock {
  ClockOffset offset;
  std::int64_t common = 0;  ///< commits that it was found from; 0: none, and the clock is left as it is
  double least_s = 0;       ///< of the pieces' offsets
  double greatest_s = 0;
};

/// Puts all nodes on the clock of `reference`. One that has no commits in common with it, but with a node
/// that does, is aligned over that.
[[nodiscard]] std::map<std::string, NodeClock> align_clocks(const std::map<std::string, CommitTimes>& nodes,
                                                            const std::string& reference);

}  // namespace paceline
