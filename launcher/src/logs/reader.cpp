#include "logs/reader.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "logs/merged.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr std::size_t block_bytes = std::size_t{16} << 10;
// Agents write no longer ones; their labels need some room.
constexpr std::size_t longest_line = longest_log_line + 256;

bool is_same_file(const struct stat& one, const struct stat& other) {
  return one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

}  // namespace

Status LogFile::open() {
  fd_.reset(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  rewind();
  reaches_ = 0;
  if (fd_.valid() || errno == ENOENT) return {};
  return system_error(concat("cannot read ", shown(path_)));
}

Status LogFile::look() {
  if (!fd_.valid()) PACELINE_TRY(open());
  if (!fd_.valid()) return {};  // somebody has removed it
  struct stat own {
  }, named{};
  if (::fstat(fd_.get(), &own) != 0) return system_error(concat("cannot read ", shown(path_)));
  const bool is_replaced = ::stat(path_.c_str(), &named) == 0 && !is_same_file(own, named);
  // What the old one has is read first.
  const bool is_read = read_ >= own.st_size;
  if (is_replaced && is_read && has_unfinished()) {
    bytes_ += '\n';
  } else if (is_replaced && is_read) {
    PACELINE_TRY(open());
    own = named;
  }
  if (own.st_size < read_) rewind();  // it was cut
  reaches_ = own.st_size;
  return {};
}

void LogFile::rewind() {
  read_ = 0;
  bytes_.clear();
  line_begins_ = 0;
  time_.clear();
}

Result<std::optional<LogLine>> LogFile::next() {
  std::size_t without_end = 0;  // bytes of the line
  while (true) {
    const std::size_t end = bytes_.find('\n', line_begins_ + without_end);
    if (end != std::string::npos) return {take(end, end + 1)};
    without_end = bytes_.size() - line_begins_;
    if (without_end >= longest_line) return {take(line_begins_ + longest_line, line_begins_ + longest_line)};
    PACELINE_ASSIGN(const bool is_more, fill());
    if (!is_more) return {std::nullopt};
  }
}

std::optional<LogLine> LogFile::rest() {
  if (!has_unfinished()) return std::nullopt;
  return take(bytes_.size(), bytes_.size());
}

/// False: there is no more up to where the file reached.
Result<bool> LogFile::fill() {
  const off_t left = reaches_ - read_;
  if (left <= 0) return false;
  const std::size_t wanted = std::min(block_bytes, static_cast<std::size_t>(left));
  bytes_.erase(0, std::exchange(line_begins_, 0));
  const std::size_t before = bytes_.size();
  bytes_.resize(before + wanted);
  const ssize_t got = ::pread(fd_.get(), bytes_.data() + before, wanted, read_);
  const int error_number = errno;
  bytes_.resize(before + (got > 0 ? static_cast<std::size_t>(got) : 0));
  if (got < 0 && error_number == EINTR) return true;
  if (got < 0) return system_error(concat("cannot read ", shown(path_)), error_number);
  read_ += got;
  return got > 0;
}

LogLine LogFile::take(std::size_t end, std::size_t next_line) {
  LogLine line = parse_log_line(std::string_view(bytes_).substr(line_begins_, end - line_begins_));
  line_begins_ = next_line;
  // A clock may have been set back, and what is no line of ours has no time.
  if (line.time < time_) line.time = time_;
  time_ = line.time;
  return line;
}

Status RunLogs::find_files() {
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder_, error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (is_merged_log(name)) files_.try_emplace(name, it->path().string());
  }
  if (error && error != std::errc::no_such_file_or_directory)
    return Error{ErrorCode::io, concat("cannot read ", shown(folder_), ": ", error.message())};
  return {};
}

Status RunLogs::look() {
  PACELINE_TRY(find_files());
  for (auto& [name, entry] : files_) {
    PACELINE_TRY(entry.file.look());
    if (!entry.line) PACELINE_TRY(advance(name, entry));
  }
  return {};
}

Status RunLogs::rewind() {
  next_.clear();
  for (auto& [name, entry] : files_) {
    entry.file.rewind();
    PACELINE_TRY(advance(name, entry));
  }
  return {};
}

Status RunLogs::advance(const std::string& name, Entry& entry) {
  PACELINE_ASSIGN(entry.line, entry.file.next());
  if (entry.line) next_.emplace(entry.line->time, name);
  return {};
}

Result<std::optional<LogLine>> RunLogs::next() {
  if (next_.empty()) return {std::nullopt};
  const std::string name = next_.begin()->second;
  next_.erase(next_.begin());
  Entry& entry = files_.at(name);
  std::optional<LogLine> line = std::move(entry.line);
  PACELINE_TRY(advance(name, entry));
  return {std::move(line)};
}

std::optional<LogLine> RunLogs::rest() {
  for (auto& [name, entry] : files_)
    if (std::optional<LogLine> line = entry.file.rest()) return line;
  return std::nullopt;
}

}  // namespace paceline
