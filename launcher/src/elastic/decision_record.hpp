#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "paceline/base/result.hpp"
#include "paceline/job/job.hpp"
#include "paceline/sched/resize_policy.hpp"

namespace paceline {

// Decisions of the resize policy as they stand in a run's journal; docs/resizing.md has an example.

/// What a job file says of resizing, as the policy takes it.
[[nodiscard]] ResizeRules resize_rules(const Job& job);

struct DecisionRecord {
  double time = 0;        ///< seconds since 1970
  std::int64_t step = 0;  ///< committed
  ResizeDecision decision;
};

/// A line of a journal, with its end: `{"type":"decision",...}`, all of the decision and of what it was made
/// from. Numbers that JSON can't have are "nan", "inf" and "-inf".
[[nodiscard]] std::string decision_line(const ResizeDecision& decision, std::int64_t step, double time);
/// The reverse, exactly; with or without the line's end. corrupt, in one sentence, where it is none; members
/// that aren't known are passed over.
[[nodiscard]] Result<DecisionRecord> parse_decision(std::string_view line);

/// Decides again from what is recorded. Nothing, or how the outcome differs from the record, in one sentence
/// without a full stop.
[[nodiscard]] std::string replay(const ResizeDecision& decision);

}  // namespace paceline
