#pragma once

#include <cstdint>
#include <string>

#include "paceline/base/clock.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/data/dataset.hpp"
#include "paceline/job/journal.hpp"
#include "paceline/job/plan.hpp"
#include "paceline/job/protocol.hpp"

namespace paceline {

/// What is written down of a run while it trains: RUN/journal.jsonl, which the audit proves from, and
/// RUN/metrics.jsonl, a line per step for people. Workers may report a step more than once, when the one that
/// reports has changed; it is written once.
class RunRecord {
 public:
  /// Makes both files. `header` is the journal's.
  [[nodiscard]] static Result<RunRecord> create(const std::string& run_dir, const Clock& clock,
                                                const JournalHeader& header, const StepPlan& plan);

  /// Steps in order; one that is not the next is passed over if it is known, and is an error if it leaves a
  /// gap.
  [[nodiscard]] Status add(const StepsMessage& message);
  [[nodiscard]] Status add(const EvalMessage& eval);
  [[nodiscard]] Status add(const JournalGeneration& generation);
  /// The last line.
  [[nodiscard]] Status end(const std::string& status, const std::string& error);
  /// What the file may not have yet. Call about ten times a second.
  [[nodiscard]] Status flush();
  /// Steps that are written down.
  [[nodiscard]] std::int64_t steps() const noexcept { return steps_; }

 private:
  RunRecord(JournalWriter journal, const StepPlan& plan) : journal_(std::move(journal)), plan_(plan) {}
  [[nodiscard]] Status add(const StepFigures& figures);

  JournalWriter journal_;
  StepPlan plan_;
  std::string metrics_path_;
  UniqueFd metrics_;
  std::string pending_metrics_;
  std::int64_t steps_ = 0;
  std::int64_t epoch_samples_ = 0;
  std::int64_t evaluated_epoch_ = 0;
};

/// The first line of a run's journal: everything that the order of the workers' samples depends on, and a new
/// key. The audit reads the order back in audit_order.cpp.
[[nodiscard]] Result<JournalHeader> new_journal_header(const Job& job, const std::string& run_dir,
                                                       const DatasetInfo& dataset);

}  // namespace paceline
