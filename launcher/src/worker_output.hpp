#pragma once

#include <deque>
#include <optional>
#include <string>
#include <string_view>

#include "logs/merged.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/result.hpp"

namespace paceline {

/// The last lines of a stream of bytes, for when its writer dies.
class LastLines {
 public:
  explicit LastLines(std::size_t most_lines) : most_lines_(most_lines) {}

  /// Any bytes; a line that is cut in two by the calls stays one line.
  void add(std::string_view bytes);
  /// Oldest first, the unfinished last line too. Very long lines are cut; unprintable bytes become '?'.
  [[nodiscard]] std::deque<std::string> lines() const;

 private:
  void keep(std::string line);

  std::size_t most_lines_;
  std::deque<std::string> lines_;
  std::string unfinished_;
};

/// Reads what a worker writes to its standard output and error, and copies it into its log, and into that of
/// all workers where there is one.
class WorkerOutput {
 public:
  /// Opens (and empties) `log_path`, and makes the pipe.
  [[nodiscard]] static Result<WorkerOutput> open(const std::string& log_path,
                                                 std::optional<MergedLines> merged = {});

  /// What the worker is given as its output; close it here once the worker has it.
  [[nodiscard]] UniqueFd& writing_end() noexcept { return writing_end_; }
  /// To poll; -1 once the worker's side is closed.
  [[nodiscard]] int fd() const noexcept { return reading_end_.get(); }
  /// Copies what is there, without waiting.
  void copy();
  /// The worker has gone, and everything was copied.
  void end();
  /// What it writes from now on, it writes as this rank.
  void set_rank(std::int64_t rank);
  [[nodiscard]] std::deque<std::string> last_words() const { return last_.lines(); }
  [[nodiscard]] const std::string& log_path() const noexcept { return log_path_; }

 private:
  WorkerOutput(std::string log_path, std::optional<MergedLines> merged, UniqueFd log, UniqueFd reading_end,
               UniqueFd writing_end);
  void write_log(std::string_view bytes);

  std::string log_path_;
  std::optional<MergedLines> merged_;
  UniqueFd log_;  // closed after the first failed write: a full disk is told once and ends no job
  UniqueFd reading_end_;
  UniqueFd writing_end_;
  LastLines last_;
};

}  // namespace paceline
