// A run's journals as one. The newest is the last word: it says which journal it follows, how much of that
// counts, and from which step on the two part ways; so does that one, back to the first.

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <utility>

#include "paceline/base/text.hpp"
#include "paceline/job/journal.hpp"

namespace paceline {
namespace {

/// The term of a file of that name; 0 where it is no journal's.
std::int64_t term_of(const std::string& name) {
  std::int64_t term = 0;
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data(), end, term);
  if (error != std::errc() || term < 1 || std::string_view(stop, end) != ".jsonl") return 0;
  return name == concat(term, ".jsonl") ? term : 0;
}

/// As much of an earlier journal as `later` accepts.
Result<Journal> read_followed(const std::string& run_dir, const JournalHeader& later) {
  const JournalSeal& seal = *later.follows;
  const std::string path = journal_path(run_dir, seal.term);
  const std::string after = journal_path(run_dir, later.term);
  PACELINE_ASSIGN(Journal journal, read_journal(path, seal.bytes));
  if (journal.bytes != seal.bytes)
    return Error{ErrorCode::corrupt,
                 concat(after, " goes on from ", seal.bytes, " bytes of ", path, ", whose lines have ",
                        journal.bytes, " there: one of the two was changed or damaged")};
  if (journal.header.term != seal.term || journal.header.key != later.key ||
      journal.header.order != later.order)
    return Error{ErrorCode::corrupt, concat(after, " goes on from ", path,
                                            ", but that has another term, key or order of samples: ",
                                            "they are not of the same run")};
  return journal;
}

/// What is gone of a history where it goes on after `base`.
void truncate(Journal& history, std::int64_t base) {
  std::erase_if(history.steps, [base](const JournalStep& step) { return step.step > base; });
  std::erase_if(history.epochs, [base](const JournalEpoch& epoch) { return epoch.steps > base; });
  std::erase_if(history.evaluated, [&history](std::int64_t epoch) {
    return std::ranges::find(history.epochs, epoch, &JournalEpoch::epoch) == history.epochs.end();
  });
  for (JournalTerm& term : history.terms) term.last_step = std::min(term.last_step, base);
}

template <class Value>
void append(std::vector<Value>& to, std::vector<Value>& from) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

/// `history` with `next` after it.
void go_on(Journal& history, Journal next) {
  const JournalSeal& seal = *next.header.follows;
  if (seal.base_step > last_step(history)) {
    ++history.fault_count;
    history.faults.push_back({next.header.term, 1,
                              concat("it goes on after step ", seal.base_step,
                                     ", and those before end with step ", last_step(history))});
  }
  truncate(history, seal.base_step);
  append(history.steps, next.steps);
  append(history.epochs, next.epochs);
  append(history.evaluated, next.evaluated);
  append(history.generations, next.generations);
  append(history.faults, next.faults);
  history.fault_count += next.fault_count;
  history.terms.push_back({next.header.term, last_step(history)});
  history.header = std::move(next.header);
  history.bytes = next.bytes;
  history.end = std::move(next.end);
  history.torn_end = next.torn_end;
}

}  // namespace

std::int64_t last_step(const Journal& journal) {
  std::int64_t last = 0;
  for (const JournalStep& step : journal.steps) last = std::max(last, step.step);
  return last;
}

Result<std::int64_t> newest_term(const std::string& run_dir) {
  const std::string folder = concat(run_dir, "/", journal_folder);
  std::int64_t newest = 0;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
    newest = std::max(newest, term_of(it->path().filename().string()));
  if (error && error != std::errc::no_such_file_or_directory)
    return Error{ErrorCode::io, concat("cannot list ", folder, ": ", error.message())};
  return newest;
}

Result<Journal> read_lineage(const std::string& run_dir) {
  PACELINE_ASSIGN(const std::int64_t newest, newest_term(run_dir));
  // Where there is none, the first one is what is missing.
  const std::string path = journal_path(run_dir, std::max<std::int64_t>(newest, 1));
  PACELINE_ASSIGN(Journal latest, read_journal(path));
  if (latest.header.term != std::max<std::int64_t>(newest, 1))
    return Error{ErrorCode::corrupt,
                 concat(path, " is the journal of term ", latest.header.term, ": the file was renamed")};
  std::vector<Journal> journals;  // newest first
  journals.push_back(std::move(latest));
  while (journals.back().header.follows) {
    PACELINE_ASSIGN(Journal earlier, read_followed(run_dir, journals.back().header));
    journals.push_back(std::move(earlier));
  }
  Journal history = std::move(journals.back());
  journals.pop_back();
  history.terms = {{history.header.term, last_step(history)}};
  for (; !journals.empty(); journals.pop_back()) go_on(history, std::move(journals.back()));
  return history;
}

}  // namespace paceline
