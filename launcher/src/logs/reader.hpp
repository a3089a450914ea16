#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "logs/line.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/result.hpp"

namespace paceline {

/// One merged log, read while it grows. It may be cut, or replaced by another of its name. Keeps no more of
/// it than a line.
class LogFile {
 public:
  explicit LogFile(std::string path) : path_(std::move(path)) {}

  /// How far it reaches now; lines are read up to there, until this is called again.
  [[nodiscard]] Status look();
  /// To where it reached at the last look, from its beginning again.
  void rewind();
  /// The next line, if there is a whole one. `time` is never less than that of the line before.
  [[nodiscard]] Result<std::optional<LogLine>> next();
  /// What there is of a line that has no end, when no more will come of it.
  [[nodiscard]] std::optional<LogLine> rest();

 private:
  [[nodiscard]] Status open();
  [[nodiscard]] Result<bool> fill();
  [[nodiscard]] LogLine take(std::size_t end, std::size_t next_line);
  [[nodiscard]] bool has_unfinished() const { return line_begins_ < bytes_.size(); }

  std::string path_;
  UniqueFd fd_;
  off_t read_ = 0;               // bytes of the file
  off_t reaches_ = 0;            // at the last look
  std::string bytes_;            // the last that were read
  std::size_t line_begins_ = 0;  // those before were handed out
  std::string time_;             // of the last line
};

/// All merged logs of a run, as one.
class RunLogs {
 public:
  explicit RunLogs(const std::string& run_dir) : folder_(run_dir + "/logs") {}

  /// Finds files that are new, and how far all reach now. An error names the file.
  [[nodiscard]] Status look();
  [[nodiscard]] bool empty() const { return files_.empty(); }
  /// From the beginning again, to where they reached at the last look.
  [[nodiscard]] Status rewind();
  /// Of the lines that are next in the files the earliest; nothing: that was all, for now.
  [[nodiscard]] Result<std::optional<LogLine>> next();
  /// What there is of a last line in any file, when no more will come.
  [[nodiscard]] std::optional<LogLine> rest();

 private:
  struct Entry {
    explicit Entry(std::string path) : file(std::move(path)) {}
    LogFile file;
    std::optional<LogLine> line;  ///< read, and not handed out
  };
  [[nodiscard]] Status find_files();
  [[nodiscard]] Status advance(const std::string& name, Entry& entry);

  std::string folder_;
  std::map<std::string, Entry> files_;
  std::set<std::pair<std::string, std::string>> next_;  // time and file of the lines that are read
};

}  // namespace paceline
