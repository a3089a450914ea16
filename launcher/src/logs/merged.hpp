#pragma once

#include <string>
#include <string_view>

#include "logs/line.hpp"
#include "paceline/base/fd.hpp"

namespace paceline {

/// RUN/logs/all-<agent>.log: what all workers of one agent write, line by line as it comes, with the time and
/// the rank. Each agent has a file of its own, which nobody else ever writes to: appending from several
/// machines is not atomic on every filesystem. `paceline logs` reads them all, by time.
class MergedLog {
 public:
  /// `agent`: its number in the launch.
  MergedLog(std::string run_dir, std::int64_t agent) : run_dir_(std::move(run_dir)), agent_(agent) {}

  /// Makes the file, the first time. Where an agent of an earlier launch has the name, it is
  /// all-<agent>-2.log, and so on. A log that cannot be made is told once, and ends no job.
  void begin();
  /// Whole lines, as format_log_line makes them.
  void write(std::string_view lines);

 private:
  std::string run_dir_;
  std::int64_t agent_;
  std::string path_;
  UniqueFd log_;  // closed after the first failed write
  bool begun_ = false;
};

/// Whether a file of RUN/logs is one of these.
[[nodiscard]] bool is_merged_log(std::string_view name);

/// One worker's part in a merged log: its bytes become lines.
class MergedLines {
 public:
  /// `log` outlives it.
  MergedLines(MergedLog& log, std::int64_t worker) : log_(&log), author_{worker, std::nullopt} {}

  /// From now on.
  void set_rank(std::int64_t rank) { author_.rank = rank; }
  void add(std::string_view bytes);
  /// The worker has gone.
  void end();

 private:
  MergedLog* log_;  // a view
  LogAuthor author_;
  LineCutter cutter_;
};

}  // namespace paceline
