#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "paceline/base/clock.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/data/dataset.hpp"
#include "paceline/job/journal.hpp"
#include "paceline/job/plan.hpp"
#include "paceline/job/protocol.hpp"
#include "paceline/sched/coordinator.hpp"

namespace paceline {

/// What is written down of a run while it trains: a journal of this coordinator's term, which the audit
/// proves from, and RUN/metrics.jsonl, a line per step for people. Workers may report a step more than once,
/// when the one that reports has changed, or the coordinator; it is written once.
class RunRecord {
 public:
  /// Makes both files, of a run that begins. `header` is the journal's.
  [[nodiscard]] static Result<RunRecord> create(const std::string& run_dir, const Clock& clock,
                                                const JournalHeader& header, const StepPlan& plan);

  /// Takes a run over, as the coordinator of `term`: what its journals say by now is sealed, and a journal of
  /// its own goes on from there; or from step `base_step`, to which a run is resumed, and then what came
  /// after it is left out, of the metrics too. already_exists where there is a journal of this term or of a
  /// later one: somebody else was faster. Errors of read_lineage(); mismatch: the run has not come to
  /// `base_step`.
  [[nodiscard]] static Result<RunRecord> succeed(const std::string& run_dir, const Clock& clock,
                                                 std::int64_t term, std::optional<std::int64_t> base_step,
                                                 const StepPlan& plan);

  /// Steps in order; one that is not the next is passed over if it is known, and is an error if it leaves a
  /// gap.
  [[nodiscard]] Status add(const StepsMessage& message);
  [[nodiscard]] Status add(const EvalMessage& eval);
  /// These say the present time.
  [[nodiscard]] Status add(JournalGeneration generation);
  [[nodiscard]] Status add(JournalShares shares);
  [[nodiscard]] Status add(JournalStraggler straggler);
  [[nodiscard]] Status add(JournalCheckpoint checkpoint);
  /// A line for the journal, with its end, that others define.
  [[nodiscard]] Status add_line(std::string_view line);
  /// The last line.
  [[nodiscard]] Status end(const std::string& status, const std::string& error);
  /// What the files may not have yet. After it nothing is lost should this process die: to be called before
  /// steps are acknowledged.
  [[nodiscard]] Status flush();
  /// After it the journal is not lost either should the machine fail.
  [[nodiscard]] Status sync();
  /// Steps that are written down, those of earlier terms included.
  [[nodiscard]] std::int64_t steps() const noexcept { return steps_; }
  /// Generations that were trained in, by those who wrote from `term` on, as far as they are written down.
  [[nodiscard]] CoordinatorHistory generations_since(std::int64_t term) const;
  /// Of the coordinator that writes it.
  [[nodiscard]] std::int64_t term() const noexcept { return term_; }
  /// Of the run's consumed hashes; the same in all terms.
  [[nodiscard]] std::uint64_t key() const noexcept { return key_; }

 private:
  RunRecord(JournalWriter journal, const JournalHeader& header, const StepPlan& plan)
      : journal_(std::move(journal)), plan_(plan), term_(header.term), key_(header.key) {}
  [[nodiscard]] static Result<RunRecord> begin(const std::string& run_dir, const Clock& clock,
                                               const JournalHeader& header, const StepPlan& plan);
  void go_on_from(const Journal& history, std::int64_t base_step);
  [[nodiscard]] Status add(const StepFigures& figures);

  JournalWriter journal_;
  StepPlan plan_;
  std::int64_t term_;
  std::uint64_t key_;
  std::string metrics_path_;
  UniqueFd metrics_;
  std::string pending_metrics_;
  std::int64_t metrics_steps_ = 0;  // the last one there, which may be one before the journal's
  std::int64_t steps_ = 0;
  std::int64_t epoch_samples_ = 0;
  std::int64_t evaluated_epoch_ = 0;
  std::vector<JournalGeneration> generations_;
};

/// The first line of a run's journal: everything that the order of the workers' samples depends on, and a new
/// key. The audit reads the order back in audit_order.cpp.
[[nodiscard]] Result<JournalHeader> new_journal_header(const Job& job, const std::string& run_dir,
                                                       const DatasetInfo& dataset);

}  // namespace paceline
