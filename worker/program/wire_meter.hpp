#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <span>

#include "paceline/allreduce.hpp"
#include "paceline/base/clock.hpp"

namespace paceline {

/// What a worker sends to ranks on other nodes, over all its generations, and which of the wires is slowest
/// of late. One thread.
class WireMeter {
 public:
  /// A generation begins: ranks are others, and their sums begin at 0.
  void begin_generation();
  /// What the communicator says now. Of a sum that has shrunk nothing counts.
  void observe(Instant now, std::span<const WireStatistics> sums);

  [[nodiscard]] std::int64_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] Duration busy() const noexcept { return busy_; }  ///< summed over ranks

  struct Speed {
    int rank = 0;
    double bytes_per_s = 0;  ///< while there was something to send
  };
  /// Over the last second, of the ranks to which so much was sent in it that it says something about the
  /// wire; nothing where there is none.
  [[nodiscard]] std::optional<Speed> slowest() const;

 private:
  struct Mark {
    Instant at{};
    std::int64_t bytes = 0;
    Duration busy{};
  };
  std::int64_t bytes_ = 0;
  Duration busy_{};
  std::map<int, std::deque<Mark>> marks_;  // of the last second, by rank; never empty
};

}  // namespace paceline
