#pragma once

#include <optional>
#include <string>

#include "agent.hpp"
#include "paceline/base/error.hpp"
#include "paceline/sched/run_scores.hpp"

namespace paceline {

/// The run that a summary is about.
struct RunFacts {
  std::string action = "train";
  std::string run_dir{};  ///< absolute; empty: it came to none
  std::int64_t ranks = 0;
  std::optional<RunTotals> totals{};  ///< nothing: not known
};

/// The JSON of RUN/summary.json and of --json: for `train` all of a run's figures, for `eval` the result.
[[nodiscard]] std::string summary_json(const RunFacts& facts, const Outcome& outcome);

/// A few lines for people, without a newline at the end.
[[nodiscard]] std::string summary_text(const RunFacts& facts, const Outcome& outcome);

/// The failure as text: the sentence, the last words indented, and where the log is.
[[nodiscard]] std::string failure_text(const FailureReport& failure, const std::string& log_path);

/// An outcome of something that failed before any worker was there.
[[nodiscard]] Outcome failed_outcome(const Error& error);

}  // namespace paceline
