#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace paceline::bench {

/// The parts of a step, one after the other, in ms.
struct StepParts {
  double data = 0, forward = 0, backward = 0, reduce = 0, commit = 0, optimizer = 0;
};

/// The medians of one worker's steps but the first `skipped`, from its telemetry/worker-<number>.jsonl
/// (docs/telemetry.md). Lines that are torn, or of other types, or make no sense, don't count; nothing where
/// that leaves none.
[[nodiscard]] std::optional<StepParts> parse_step_parts(std::string_view telemetry, std::int64_t skipped);

/// From this step on each rank had so many grains.
struct ShareChange {
  std::int64_t step = 0;  ///< from 1
  std::vector<std::int64_t> shares;
};
/// The `shares` lines of a journal (docs/journal.md), in their order; what can't be read is left out.
[[nodiscard]] std::vector<ShareChange> parse_share_changes(std::string_view journal);

}  // namespace paceline::bench
