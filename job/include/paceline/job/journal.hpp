#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "paceline/base/clock.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/result.hpp"

namespace paceline {

// RUN/journal/<term>.jsonl: what a run has committed to, a line for each thing; docs/journal.md specifies it.
// Steps, epochs and terms count from 1, positions from 0. Times are seconds since 1970; 0: not known, and not
// written. Every coordinator writes one of its own: that of a
// later term says how much of which earlier one it goes on from, and read_lineage() follows that.

inline constexpr std::int64_t journal_version = 2;
inline constexpr std::string_view journal_folder = "journal";
[[nodiscard]] std::string journal_path(const std::string& run_dir, std::int64_t term);

/// One of the named values that the order of samples depends on.
using OrderValue = std::variant<std::int64_t, std::string>;
using OrderValues = std::map<std::string, OrderValue>;

/// What a journal goes on from.
struct JournalSeal {
  std::int64_t term = 0;       ///< of the earlier journal
  std::int64_t bytes = 0;      ///< of it, which count: what is beyond is torn, or came too late
  std::int64_t base_step = 0;  ///< of its lineage the steps up to this one count
  friend bool operator==(const JournalSeal&, const JournalSeal&) = default;
};

/// The journal's first line.
struct JournalHeader {
  std::int64_t version = journal_version;
  std::string run;        ///< name of the run, for people
  std::uint64_t key = 0;  ///< of the run's consumed hashes
  OrderValues order;      ///< an open set: readers refuse an order of a kind that they don't know
  std::int64_t term = 1;  ///< of the coordinator that writes it
  std::optional<JournalSeal> follows{};  ///< of every term but the first
};

/// A committed step, and the range of its epoch's positions that it used.
struct JournalStep {
  std::int64_t step = 0;
  std::int64_t epoch = 0;
  std::int64_t first = 0;
  std::int64_t count = 0;
  std::uint64_t consumed = 0;  ///< hash of the samples that were used there
  friend bool operator==(const JournalStep&, const JournalStep&) = default;
};

struct JournalEpoch {
  std::int64_t epoch = 0;
  std::int64_t steps = 0;    ///< committed in the run so far
  std::int64_t samples = 0;  ///< used in this epoch
  friend bool operator==(const JournalEpoch&, const JournalEpoch&) = default;
};

struct JournalEvaluation {
  std::int64_t epoch = 0;
  std::int64_t samples = 0;
  double loss = 0;
  std::optional<double> accuracy;  ///< fraction; not of text
  double time = 0;
};

/// Who trains from here on.
struct JournalGeneration {
  std::int64_t generation = 0;
  std::int64_t term = 0;
  std::int64_t base_step =
      0;  ///< steps that are applied when it begins, or the least of them if it is planned
  std::int64_t ranks = 0;
  bool planned = false;
  std::string reason;  ///< for people
  double time = 0;
};

/// The ranks got other shares.
struct JournalShares {
  std::int64_t step = 0;             ///< the first with them, from 1
  std::int64_t generation = 0;       ///< of the ranks
  std::vector<std::int64_t> shares;  ///< grains of each
  double gain = 0;                   ///< that was expected: what a step gets shorter, as a part of it
  std::string reason;                ///< for people
  double time = 0;
};

/// A rank is slower than others, or all are slower than usual; or that is over.
struct JournalStraggler {
  std::int64_t step = 0;        ///< committed when it was noticed
  std::int64_t generation = 0;  ///< then
  std::int64_t worker = -1;     ///< -1: all ranks alike, and so for `rank`; `node` is empty then
  std::int64_t rank = -1;
  std::string node;
  std::string part;    ///< of a step: data, compute, optimizer, wire
  std::string cause;   ///< slow_read, slow_compute, starved, slow_optimizer, slow_wire
  double ratio = 1;    ///< to the others, or to what was usual
  double since = 0;    ///< when it began
  bool ended = false;  ///< it is over
  std::string reason;  ///< for people
  double time = 0;
};

/// From this one on the run can be resumed.
struct JournalCheckpoint {
  std::int64_t step = 0;
  std::int64_t generation = 0;  ///< of the ranks that wrote it
  std::int64_t ranks = 0;
  std::int64_t bytes = 0;  ///< of the state
  double time = 0;
};

struct JournalEnd {
  std::string status;      ///< completed, stopped, failed
  std::int64_t steps = 0;  ///< committed in the run
  std::string error;       ///< of one that failed
  double time = 0;
  friend bool operator==(const JournalEnd&, const JournalEnd&) = default;
};

/// A line that could not be read.
struct JournalFault {
  std::int64_t term = 0;  ///< of the journal that it is in
  std::int64_t line = 0;  ///< from 1
  std::string what;
};

/// A term's part of a lineage.
struct JournalTerm {
  std::int64_t term = 0;
  std::int64_t last_step = 0;  ///< that counts, of it or of one before
  friend bool operator==(const JournalTerm&, const JournalTerm&) = default;
};

/// What a reader of the samples' history needs. Lines of other types are passed over.
struct Journal {
  JournalHeader header;
  std::vector<JournalStep> steps;  ///< as they stand
  std::vector<JournalEpoch> epochs;
  std::vector<std::int64_t> evaluated;         ///< epochs
  std::vector<JournalGeneration> generations;  ///< also those that trained steps which don't count any more
  std::vector<JournalTerm> terms;              ///< of a lineage, oldest first
  std::int64_t bytes = 0;            ///< of the lines that are whole; of a lineage the newest term's
  std::optional<JournalEnd> end;     ///< where no step follows; none: the run was killed, or still runs
  bool torn_end = false;             ///< the last line was not written to its end, and is left out
  std::vector<JournalFault> faults;  ///< the first of them
  std::int64_t fault_count = 0;      ///< all of them
};

/// Bytes from anywhere. An error where they don't begin with a header of this version; whatever is wrong
/// after that is in `faults`, and the rest is read. `name` is the file's, for messages.
[[nodiscard]] Result<Journal> parse_journal(std::string_view text, const std::string& name);
/// The same of a file, which need not fit into memory, or of its first `most_bytes`.
[[nodiscard]] Result<Journal> read_journal(const std::string& path,
                                           std::int64_t most_bytes = std::int64_t{1} << 62);

/// The newest term that has a journal; 0: none.
[[nodiscard]] Result<std::int64_t> newest_term(const std::string& run_dir);
/// The newest term's journal, with what counts of those that it follows before it: a run's history as one
/// journal, whose header and end are the newest's. not_found where there is none. Errors: a journal that is
/// followed is missing, is shorter than was accepted of it, or is of another run.
[[nodiscard]] Result<Journal> read_lineage(const std::string& run_dir);
/// The number of the last step that stands there.
[[nodiscard]] std::int64_t last_step(const Journal& journal);

/// Appends lines to a journal of its own. Lines reach the file, whole, a tenth of a second after each other
/// at the latest, and by flush(). One thread. After an error the file may end in the middle of a line.
class JournalWriter {
 public:
  /// Makes the file, which appears with its whole header. already_exists where there is one: journals are
  /// never written again, and of two who try at once one is refused.
  [[nodiscard]] static Result<JournalWriter> create(const std::string& path, const Clock& clock,
                                                    const JournalHeader& header);
  [[nodiscard]] Status add(const JournalStep& step);
  /// These reach the file at once.
  [[nodiscard]] Status add(const JournalEpoch& epoch);
  [[nodiscard]] Status add(const JournalEvaluation& evaluation);
  [[nodiscard]] Status add(const JournalGeneration& generation);
  [[nodiscard]] Status add(const JournalShares& shares);
  [[nodiscard]] Status add(const JournalStraggler& straggler);
  [[nodiscard]] Status add(const JournalCheckpoint& checkpoint);
  [[nodiscard]] Status add(const JournalEnd& end);
  /// A line, with its end, that others define.
  [[nodiscard]] Status add_line(std::string_view line);
  [[nodiscard]] Status flush();
  /// And onto the disk.
  [[nodiscard]] Status sync();

 private:
  explicit JournalWriter(const Clock& clock) : clock_(&clock) {}
  const Clock* clock_;  // does not own
  std::string path_;
  UniqueFd fd_;
  std::string pending_;
  Instant flushed_{};
};

/// The lines that the writer writes, each with its end.
[[nodiscard]] std::string journal_line(const JournalHeader& header);
[[nodiscard]] std::string journal_line(const JournalStep& step);
[[nodiscard]] std::string journal_line(const JournalEpoch& epoch);
[[nodiscard]] std::string journal_line(const JournalEvaluation& evaluation);
[[nodiscard]] std::string journal_line(const JournalGeneration& generation);
[[nodiscard]] std::string journal_line(const JournalShares& shares);
[[nodiscard]] std::string journal_line(const JournalStraggler& straggler);
[[nodiscard]] std::string journal_line(const JournalCheckpoint& checkpoint);
[[nodiscard]] std::string journal_line(const JournalEnd& end);

/// "0x" and 16 lower-case digits, as 64-bit words stand in a journal.
[[nodiscard]] std::string hex_word(std::uint64_t word);
/// The reverse; nothing for any other spelling.
[[nodiscard]] std::optional<std::uint64_t> parse_hex_word(std::string_view text);

}  // namespace paceline
