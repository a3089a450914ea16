#pragma once

#include <span>
#include <vector>

#include "audit.hpp"

namespace paceline {

/// The hashes that steps must have. Positions are asked for in blocks, since making the order of a few costs
/// as much as that of many: cheap where steps come in the order of their positions.
class ExpectedHashes {
 public:
  /// `ground`, with checksums, must outlive this.
  ExpectedHashes(std::uint64_t key, const AuditGround& ground) : key_(key), ground_(ground) {}

  /// `step` must lie within the ground's positions. An error is one of the ground's `samples_at`.
  [[nodiscard]] Result<std::uint64_t> of(const JournalStep& step);

 private:
  [[nodiscard]] Result<std::span<const std::int64_t>> samples_from(std::int64_t epoch, std::int64_t position);

  std::uint64_t key_;
  const AuditGround& ground_;
  std::vector<std::int64_t> block_;  // the samples from first_ of epoch_ on
  std::int64_t epoch_ = 0;
  std::int64_t first_ = 0;
};

}  // namespace paceline
