#include "audit_hashes.hpp"

#include <algorithm>

#include "paceline/data/consumed.hpp"

namespace paceline {
namespace {

constexpr std::int64_t block_positions = std::int64_t{1} << 20;

}  // namespace

/// The samples at `position` and at as many after it as are at hand.
Result<std::span<const std::int64_t>> ExpectedHashes::samples_from(std::int64_t epoch,
                                                                   std::int64_t position) {
  const auto at_hand = static_cast<std::int64_t>(block_.size());
  if (epoch != epoch_ || position < first_ || position >= first_ + at_hand) {
    const std::int64_t first = position / block_positions * block_positions;
    const std::int64_t count = std::min(block_positions, ground_.samples - first);
    PACELINE_ASSIGN(block_, ground_.samples_at(epoch, first, count));
    PACELINE_ASSERT(static_cast<std::int64_t>(block_.size()) == count, "every position has a sample");
    epoch_ = epoch;
    first_ = first;
  }
  return std::span<const std::int64_t>(block_).subspan(static_cast<std::size_t>(position - first_));
}

Result<std::uint64_t> ExpectedHashes::of(const JournalStep& step) {
  ConsumedHash hash(key_);
  for (std::int64_t position = step.first, end = position + step.count; position < end;) {
    PACELINE_ASSIGN(const std::span<const std::int64_t> samples, samples_from(step.epoch, position));
    const std::int64_t stop = std::min(end, position + static_cast<std::int64_t>(samples.size()));
    for (std::size_t i = 0; position < stop; ++i, ++position) {
      const auto sample = static_cast<std::size_t>(samples[i]);
      PACELINE_ASSERT(sample < ground_.checksums.size(), "an order names samples of the dataset");
      hash.add(step.epoch, position, ground_.checksums[sample]);
    }
  }
  return hash.value();
}

}  // namespace paceline
