#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "paceline/base/result.hpp"
#include "seeing/lines.hpp"

namespace paceline {

// What happened to a run besides its steps, as its journals tell it (docs/journal.md). Unlike the audit's,
// these readers pass over what they can't read: they show a run, and prove nothing.

enum class EventKind : std::uint8_t {
  term,  ///< a coordinator began to write
  generation,
  shares,
  epoch,
  evaluation,
  checkpoint,
  straggler,
  decision,
  end,
};
[[nodiscard]] const char* to_string(EventKind kind) noexcept;

struct RunEvent {
  EventKind kind = EventKind::end;
  std::int64_t term = 0;        ///< of the journal
  std::int64_t after_step = 0;  ///< steps of the run that stood there before it, or that it says itself
  std::optional<double> time;   ///< seconds since 1970 of the coordinator's clock, where it says so
  std::string text;             ///< for people
  std::string reason;           ///< for people, where there is one

  std::int64_t generation = 0;  ///< of a generation, shares, checkpoint, straggler
  std::int64_t ranks = 0;       ///< of a generation; of a decision those that the job is to have
  bool planned = false;         ///< of a generation
  std::vector<std::int64_t> shares{};
  std::int64_t bytes = 0;  ///< of a checkpoint
  std::int64_t epoch = 0;
  std::optional<double> loss{};      ///< of an evaluation
  std::optional<double> accuracy{};  ///< of an evaluation

  // Of a straggler.
  std::int64_t worker = -1;
  std::int64_t rank = -1;
  std::string node{};
  std::string part{};
  std::optional<double> ratio{};
  std::optional<double> since{};  ///< seconds since 1970
  bool ended = false;
};

/// Reads one journal, a line at a time.
class EventReader {
 public:
  /// The event that a line is; nothing where it is none, as most are steps. Any bytes.
  [[nodiscard]] std::optional<RunEvent> take(std::string_view line);
  [[nodiscard]] std::int64_t term() const noexcept { return term_; }
  /// What the header follows: term 0 where it is the first.
  struct Seal {
    std::int64_t term = 0;
    std::int64_t bytes = 0;
    std::int64_t base_step = 0;
    std::int64_t last_step = 0;  ///< that the earlier journal had come to, where its lines were read
  };
  [[nodiscard]] const Seal& follows() const noexcept { return follows_; }
  [[nodiscard]] std::int64_t last_step() const noexcept { return last_step_; }
  [[nodiscard]] const std::string& run() const noexcept { return run_; }
  /// Of the datasets and batches that the header names; 0 where it doesn't.
  [[nodiscard]] std::int64_t batch_global() const noexcept { return batch_global_; }

 private:
  std::int64_t term_ = 0;
  std::int64_t last_step_ = 0;
  std::int64_t batch_global_ = 0;
  std::string run_;
  Seal follows_;
};

/// A run's history: the newest journal and what counts of those that it follows, oldest first.
struct EventHistory {
  std::string run;  ///< name, for people
  std::int64_t batch_global = 0;
  std::vector<RunEvent> events;
  std::int64_t left_out = 0;               ///< events beyond the most that are kept, the oldest of their kind
  std::vector<EventReader::Seal> resumed;  ///< where a later term went on from, oldest first
};
/// Whether an event is of the history, and not of steps that a later term went back behind.
[[nodiscard]] bool still_counts(const EventHistory& history, const RunEvent& event);
[[nodiscard]] Result<EventHistory> read_events(const std::string& run_dir);

/// The events of a run that goes on, as they come: those of its newest journal, of which the last part alone
/// is read where it is long.
class EventFollower {
 public:
  explicit EventFollower(std::string run_dir) : run_dir_(std::move(run_dir)) {}
  /// Those that are new.
  [[nodiscard]] Result<std::vector<RunEvent>> next();

 private:
  std::string run_dir_;
  std::int64_t term_ = 0;
  EventReader reader_;
  std::optional<LineFile> file_;
};

/// Seconds since 1970 at which steps were committed, for a few steps of interest, and the newest figures.
struct MetricsLine {
  std::int64_t step = 0;
  std::int64_t epoch = 0;
  double time = 0;  ///< of its commit, of rank 0's clock
  std::optional<double> loss{};
  std::optional<double> accuracy{};
  std::optional<double> perplexity{};
  std::optional<double> learning_rate{};
  std::optional<double> gradient_norm{};
  std::optional<double> samples_per_second{};
};
/// A line of RUN/metrics.jsonl; any bytes.
[[nodiscard]] std::optional<MetricsLine> parse_metrics_line(std::string_view line);

/// invalid_argument where it is none.
[[nodiscard]] Status check_is_run(const std::string& run_dir);

}  // namespace paceline
