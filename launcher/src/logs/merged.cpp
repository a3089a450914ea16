#include "logs/merged.hpp"

#include <fcntl.h>

#include "paceline/base/log.hpp"

namespace paceline {
namespace {

constexpr int most_names = 10000;
constexpr std::string_view first_part = "all-", last_part = ".log";

}  // namespace

bool is_merged_log(std::string_view name) {
  return name.starts_with(first_part) && name.ends_with(last_part);
}

void MergedLog::begin() {
  for (int attempt = 1; !begun_ && attempt <= most_names; ++attempt) {
    const std::string number = attempt > 1 ? concat("-", attempt) : "";
    path_ = concat(run_dir_, "/logs/", first_part, agent_, number, last_part);
    // To its end, wherever that is: people may cut a log that has become too long.
    log_.reset(::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644));
    if (!log_.valid() && errno == EEXIST) continue;
    if (!log_.valid())
      log(LogLevel::warning, system_error(concat("cannot create ", path_)).message, "; the run goes on");
    begun_ = true;
  }
}

void MergedLog::write(std::string_view lines) {
  if (!log_.valid() || lines.empty()) return;
  const Status written = write_all(log_.get(), lines, path_);
  if (written.ok()) return;
  log(LogLevel::warning, written.error().message, "; the log ends here, the run goes on");
  log_.reset();
}

void MergedLines::add(std::string_view bytes) {
  const std::string time = log_time(std::chrono::system_clock::now());
  std::string lines;
  cutter_.add(bytes, [&](std::string_view line) { lines += format_log_line(time, author_, line); });
  log_->write(lines);
}

void MergedLines::end() {
  cutter_.end([this](std::string_view line) {
    log_->write(format_log_line(log_time(std::chrono::system_clock::now()), author_, line));
  });
}

}  // namespace paceline
