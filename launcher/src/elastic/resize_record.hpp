#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "paceline/base/result.hpp"
#include "paceline/job/job.hpp"
#include "paceline/sched/resize_policy.hpp"

namespace paceline {

// Decisions of the resize policy as they stand in a run's journal; docs/resizing.md has an example.

/// What a job file says of resizing, as the policy takes it.
[[nodiscard]] ResizeRules resize_rules(const Job& job);

/// A decision with the rules that it was made by, and the time of day.
struct ResizeRecord {
  double time = 0;  ///< seconds since 1970
  ResizeRules rules;
  ResizeDecision decision;
};

/// One line of JSON without its end, `{"type":"decision",...}`: the whole record. Numbers that JSON can't
/// have are "nan", "inf" and "-inf".
[[nodiscard]] std::string resize_record_json(const ResizeRecord& record);
/// The reverse, exactly. corrupt, in one sentence, where it is none; members that aren't known are passed
/// over.
[[nodiscard]] Result<ResizeRecord> parse_resize_record(const std::string& json);
[[nodiscard]] Result<ResizeRecord> parse_resize_record(const nlohmann::json& json);

/// Decides again from what is recorded. Nothing, or how the outcome differs from the record, in one sentence
/// without a full stop.
[[nodiscard]] std::string replay(const ResizeRecord& record);

}  // namespace paceline
