#pragma once

#include <functional>
#include <string>

#include "elastic/launch_facts.hpp"
#include "paceline/job/job.hpp"
#include "paceline/job/journal.hpp"

namespace paceline {

/// What a run's folder says that it was, for who goes on with it.
struct RunHistory {
  Job job;          ///< RUN/job.json
  Journal journal;  ///< of all terms, as far as they count
};

/// invalid_argument: nothing is left to be trained. Errors of read_lineage().
[[nodiscard]] Result<RunHistory> read_history(const std::string& run_dir);

/// For whoever takes part from another folder.
[[nodiscard]] Job with_absolute_paths(Job job);

/// The job of a run that is resumed: as it was, but for `overrides`. invalid_argument: one of them would
/// change the result, which is then that of no run.
[[nodiscard]] Result<Job> resumed_job(const Job& job, const std::vector<JobOverride>& overrides);

/// Where the run goes on: its newest checkpoint that is whole and of the history that counts, or the
/// beginning. `warn` hears of those that are damaged, and that there is none. mismatch: the checkpoint is
/// of another job, and how it differs.
[[nodiscard]] Result<RunPosition> find_position(const std::string& run_dir, const RunHistory& history,
                                                const std::function<void(const std::string&)>& warn);

/// The highest number that a worker of the run ever had, as its logs tell; -1: there was none.
[[nodiscard]] std::int64_t highest_worker(const std::string& run_dir);

/// That the dataset is still the one that the run was trained on: what the order of its samples depends on.
[[nodiscard]] Status check_same_order(const JournalHeader& before, const JournalHeader& now);

}  // namespace paceline
