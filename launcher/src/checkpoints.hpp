#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "paceline/job/checkpoint.hpp"
#include "paceline/job/job.hpp"
#include "paceline/job/protocol.hpp"
#include "paceline/sched/coordinator.hpp"
#include "run_record.hpp"

namespace paceline {

/// Makes checkpoints of what the ranks report that they have written: one exists once all ranks of a
/// generation have reported their parts of it. It is given up where a rank is lost before, or cannot write.
/// What is published goes into the journal, and what is too old is removed. Nothing but a lost authority and
/// a journal that can't be written is an error: training goes on without a checkpoint, and people are warned.
/// Syncs and removes files, and so takes as long as the storage does. One thread.
class CheckpointKeeper {
 public:
  using Warn = std::function<void(const std::string& sentence)>;
  /// `record` is not owned, and outlives it.
  CheckpointKeeper(std::string run_dir, const Job& job, RunRecord& record, Warn warn);

  /// From now on these are the ranks. Those of the generation before may still be writing.
  void on_generation(const GenerationRecord& record);
  /// An error ends the job: mismatch says that another coordinator has taken the run over.
  [[nodiscard]] Status on_part(WorkerId worker, const CheckpointMessage& part);
  /// Its process is gone. `done`: as it should be, since the job is completed, and nobody misses what it had
  /// in hand.
  void on_lost(WorkerId worker, bool done = false);
  /// Training is over: what is not complete by now never will be.
  void on_end();
  /// By this coordinator.
  [[nodiscard]] std::int64_t published() const noexcept { return published_; }

 private:
  struct Ranks {
    std::int64_t term = 0;
    std::vector<WorkerId> workers;  // by rank
  };
  /// A checkpoint of which not all parts have been reported.
  struct Attempt {
    CheckpointId id;
    std::vector<WorkerId> workers;  // by rank
    std::map<std::int64_t, CheckpointPart> parts;
    std::vector<CheckpointEntry> layout;
  };

  [[nodiscard]] bool take_up(const CheckpointId& id, const Ranks& ranks);
  void give_up(const std::string& why);
  [[nodiscard]] Status publish();
  [[nodiscard]] CheckpointManifest manifest() const;

  std::string run_dir_;
  std::int64_t keep_;
  std::string fingerprint_;
  CheckpointValues scalars_;
  RunRecord& record_;
  Warn warn_;
  std::map<std::int64_t, Ranks> generations_;  // that may still be writing
  std::optional<Attempt> attempt_;
  std::int64_t published_ = 0;
  std::optional<CheckpointId> given_up_;  // the last one: parts of it that come later are nothing
};

/// What a manifest says of the job, under "job." and the key of the job file.
[[nodiscard]] CheckpointValues job_scalars(const Job& job);

/// The ranks' part messages carry checksums as one run of hexadecimal digits, 16 for each block.
[[nodiscard]] std::optional<std::vector<std::uint64_t>> parse_checksums(const std::string& digits);

}  // namespace paceline
