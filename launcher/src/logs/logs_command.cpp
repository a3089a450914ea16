// What the ranks of a run wrote, as people want to read it.
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <thread>

#include "commands.hpp"
#include "elastic/launch_facts.hpp"
#include "logs/choice.hpp"
#include "logs/end.hpp"
#include "logs/reader.hpp"
#include "paceline/base/text.hpp"
#include "run_directory.hpp"

namespace paceline {
namespace {

// Not every filesystem tells when a file grows.
constexpr Duration look_interval = std::chrono::milliseconds(200);
constexpr std::size_t most_at_once = std::size_t{64} << 10;

/// Nothing has to be put in order, so that a reader who has paused keeps nobody from stopping this.
void end_at_signals() {
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    const auto before = std::signal(number, [](int signal) { ::_exit(128 + signal); });
    if (before == SIG_IGN) std::signal(number, SIG_IGN);
  }
}

/// A run has a log for each agent, under mpirun and srun one for each rank.
void allow_many_files() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

Status check_run_directory(const std::string& run_dir) {
  std::error_code ignored;  // "no": whatever keeps it from being looked at
  if (std::filesystem::exists(run_dir + "/job.json", ignored)) return {};
  return Error{ErrorCode::not_found, concat(shown(run_dir), " is no run directory: it has no job.json")};
}

class LogView {
 public:
  explicit LogView(const LogsOptions& options)
      : options_(options),
        run_dir_(absolute_path(options.run_dir)),
        history_(run_dir_),
        logs_(run_dir_),
        choice_(options.rank, options.lines) {}

  Status show();

 private:
  Status check() const;
  Status count();
  Status print();
  Status print_rest();
  Status follow();
  Result<LogAuthor> known_author(const LogAuthor& author);
  Status print(const LogLine& line);
  Status flush();
  void explain() const;

  const LogsOptions& options_;
  std::string run_dir_;
  RankHistory history_;
  RunLogs logs_;
  LineChoice choice_;
  std::string output_;  // not written yet
  bool has_printed_ = false;
  bool has_read_history_ = false;  // since the last look
  bool was_abandoned_ = false;
};

Status LogView::show() {
  PACELINE_TRY(check_run_directory(run_dir_));
  PACELINE_TRY(history_.read());
  PACELINE_TRY(check());
  PACELINE_TRY(logs_.look());
  if (logs_.empty() && !options_.follow)
    return Error{ErrorCode::not_found,
                 concat(shown(run_dir_), " has no logs: none of its ranks was started")};
  if (choice_.must_count()) PACELINE_TRY(count());
  PACELINE_TRY(print());
  if (options_.follow) PACELINE_TRY(follow());
  PACELINE_TRY(print_rest());
  explain();
  return {};
}

/// One that was never there; of a run that is followed, one that can never be there.
Status LogView::check() const {
  if (!options_.rank || *options_.rank < history_.ranks()) return {};
  const auto wrong = [&](const std::string& why) {
    return Error{ErrorCode::invalid_argument,
                 concat(shown(run_dir_), " never had a rank ", *options_.rank, ": ", why)};
  };
  if (options_.follow) {
    const Result<LaunchFacts> facts = read_launch_facts(run_dir_);
    if (!facts.ok() || *options_.rank < facts->max_ranks) return {};
    return wrong(concat("it has at most ", facts->max_ranks));
  }
  if (history_.ranks() == 0) return wrong("it has not begun to train");
  return wrong(concat("its ranks were 0 to ", history_.ranks() - 1));
}

/// A worker that has no rank yet says what belongs to its first one.
Result<LogAuthor> LogView::known_author(const LogAuthor& author) {
  if (author.rank) return author;
  std::optional<std::int64_t> rank = history_.first_rank(author.worker);
  if (!rank && !std::exchange(has_read_history_, true)) {
    PACELINE_TRY(history_.read());
    rank = history_.first_rank(author.worker);
  }
  return LogAuthor{author.worker, rank};
}

Status LogView::count() {
  while (true) {
    PACELINE_ASSIGN(const std::optional<LogLine> line, logs_.next());
    if (!line) return logs_.rewind();
    if (!line->author) continue;
    PACELINE_ASSIGN(const LogAuthor author, known_author(*line->author));
    choice_.count(author);
  }
}

Status LogView::print() {
  while (true) {
    PACELINE_ASSIGN(const std::optional<LogLine> line, logs_.next());
    if (!line) return flush();
    PACELINE_TRY(print(*line));
  }
}

Status LogView::print_rest() {
  while (const std::optional<LogLine> line = logs_.rest()) PACELINE_TRY(print(*line));
  return flush();
}

Status LogView::print(const LogLine& line) {
  if (line.author) {
    PACELINE_ASSIGN(const LogAuthor author, known_author(*line.author));
    if (!choice_.wants(author)) return {};
    output_ += concat(log_label(author), " ");
  } else if (options_.rank || options_.lines > 0) {
    return {};  // nobody knows whose it is
  }
  output_ += without_control(line.text);
  output_ += '\n';
  has_printed_ = true;
  return output_.size() < most_at_once ? Status() : flush();
}

Status LogView::flush() {
  const Status written = write_all(STDOUT_FILENO, output_, "standard output");
  output_.clear();
  return written;
}

Status LogView::follow() {
  const SteadyClock clock;
  RunEnd end(run_dir_, clock);
  while (true) {
    // First, so that nothing comes after the last look at the logs.
    const bool is_over = end.is_reached();
    has_read_history_ = false;
    PACELINE_TRY(logs_.look());
    PACELINE_TRY(print());
    was_abandoned_ = is_over && !end.has_summary();
    if (is_over) return {};
    std::this_thread::sleep_for(look_interval);
  }
}

/// What silence means.
void LogView::explain() const {
  if (!has_printed_) {
    const std::string who = options_.rank ? concat("rank ", *options_.rank) : "no rank";
    std::fprintf(stderr, "paceline: %s of %s has written %s\n", who.c_str(), shown(run_dir_).c_str(),
                 options_.rank ? "nothing" : "anything");
  }
  if (was_abandoned_)
    std::fprintf(stderr, "paceline: the run %s was not finished, and nobody runs it now\n",
                 shown(run_dir_).c_str());
}

}  // namespace

int show_logs(const LogsOptions& options) {
  end_at_signals();
  allow_many_files();
  const Status shown = LogView(options).show();
  return shown.ok() ? int{exit_done} : complain(shown.error());
}

}  // namespace paceline
