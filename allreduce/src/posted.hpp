#pragma once

#include <vector>

#include "operation.hpp"

namespace paceline {

/// Blocks that are expected from one peer, and what to do with one that came: what every transport needs
/// whose messages say what they are. Blocks may come in another order than they were posted.
class PostedReceives {
 public:
  void post(Transfer& transfer) { posted_.push_back(&transfer); }
  [[nodiscard]] bool empty() const noexcept { return posted_.empty(); }

  /// The transfer that `came` belongs to, which is taken out; null if it is for a later time (keep it, and
  /// ask again when more was posted). An error if it cannot be what this rank waits for.
  [[nodiscard]] Result<Transfer*> match(int rank, const BlockHeader& came);

 private:
  std::vector<Transfer*> posted_;  // do not own
};

}  // namespace paceline
