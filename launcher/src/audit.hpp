#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "paceline/base/result.hpp"
#include "paceline/job/journal.hpp"

namespace paceline {

/// The samples at positions [first, first + count) of an epoch's order, by their places in the stored
/// dataset. Epochs count from 1. Asked mostly for long runs of positions, ascending within an epoch.
using PositionSource = std::function<Result<std::vector<std::int64_t>>(std::int64_t epoch, std::int64_t first,
                                                                       std::int64_t count)>;

/// What a journal is held against.
struct AuditGround {
  std::int64_t samples = 0;  ///< positions of every epoch
  std::int64_t epochs = 0;   ///< of the whole job
  std::int64_t batch = 0;    ///< positions of a step, an epoch's last one apart
  PositionSource samples_at;
  /// By the samples' places in the stored dataset; empty: what was consumed is not looked at.
  std::span<const std::uint64_t> checksums;
  /// Positions of the last epoch that the job uses, where it ends within it; 0: all.
  std::int64_t last_epoch = 0;
};

enum class AuditFaultKind {
  journal,   ///< a line that can't be read, or lines that contradict each other
  job,       ///< the journal is not of the job in the run directory
  dataset,   ///< the dataset is damaged, or not the one that the run was trained on
  hole,      ///< positions that were never used, a step that is missing
  repeat,    ///< positions that were used more than once
  range,     ///< a step that doesn't fit into its epoch
  consumed,  ///< a step that used other samples than those of its positions
};
[[nodiscard]] std::string_view to_string(AuditFaultKind kind) noexcept;

/// Zeros where they don't apply.
struct AuditFault {
  AuditFaultKind kind = AuditFaultKind::journal;
  std::string message;  ///< a sentence without its full stop
  std::int64_t step = 0;
  std::int64_t epoch = 0;
  std::int64_t first = 0;
  std::int64_t count = 0;
};

/// The first faults, and how many there were.
struct AuditFaults {
  static constexpr std::size_t most = 20;
  std::vector<AuditFault> list;
  std::int64_t count = 0;
  void add(AuditFault fault) {
    ++count;
    if (list.size() < most) list.push_back(std::move(fault));
  }
};

/// The last epoch, where it did not end.
struct UnfinishedEpoch {
  std::int64_t epoch = 0;
  std::int64_t steps = 0;
  std::int64_t positions = 0;  ///< used
};

/// What is shown, if there are no faults.
struct AuditReport {
  std::int64_t epochs = 0;     ///< finished ones
  std::int64_t steps = 0;      ///< of them
  std::int64_t samples = 0;    ///< used in them
  std::int64_t positions = 0;  ///< of each
  std::optional<UnfinishedEpoch> unfinished;
  std::optional<UnfinishedEpoch>
      cut_short;          ///< the last one, where the job ends within it: counted as an epoch
  bool compared = false;  ///< what was consumed was recomputed
  AuditFaults faults;
};

/// Holds every committed step against what it must have been: steps are contiguous, the ranges of a finished
/// epoch tile it, and each step consumed the samples of its positions. Needs memory for one block of
/// positions beside its arguments. An error is one of `samples_at`.
[[nodiscard]] Result<AuditReport> audit(const Journal& journal, const AuditGround& ground);

}  // namespace paceline
