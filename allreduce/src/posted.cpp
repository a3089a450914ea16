#include "posted.hpp"

#include <cstring>

namespace paceline {

Result<Transfer*> PostedReceives::match(int rank, const BlockHeader& came) {
  for (std::size_t i = 0; i < posted_.size(); ++i) {
    Transfer* transfer = posted_[i];
    const BlockHeader& expected = transfer->header;
    if (expected.part != came.part ||
        std::memcmp(expected.descriptor, came.descriptor, sizeof came.descriptor) != 0)
      continue;
    transfer->received = came;
    PACELINE_TRY(check_block(rank, *transfer));
    posted_.erase(posted_.begin() + static_cast<std::ptrdiff_t>(i));
    return transfer;
  }
  if (posted_.empty()) return static_cast<Transfer*>(nullptr);
  // Nothing fits. A block of this very collective, or of a later one, comes early; anything else is wrong.
  Transfer* oldest = posted_.front();
  Descriptor mine;
  Descriptor theirs;
  std::memcpy(&mine, oldest->header.descriptor, sizeof mine);
  std::memcpy(&theirs, came.descriptor, sizeof theirs);
  const bool ours = came.magic == oldest->header.magic && came.generation == oldest->header.generation;
  if (ours && (theirs == mine || theirs.operation > mine.operation)) return static_cast<Transfer*>(nullptr);
  oldest->received = came;
  PACELINE_TRY(check_block(rank, *oldest));
  return mismatch_error(rank, mine, oldest->peer, theirs);
}

}  // namespace paceline
