#include "paceline/base/log.hpp"

#include <unistd.h>

#include <atomic>
#include <mutex>

namespace paceline {
namespace {

LogLevel initial_level() {
  const std::string wanted = environment("PACELINE_LOG").value_or("warning");
  if (wanted == "debug") return LogLevel::debug;
  if (wanted == "info") return LogLevel::info;
  if (wanted == "error") return LogLevel::error;
  return LogLevel::warning;
}

const char* name_of(LogLevel level) {
  switch (level) {
    case LogLevel::debug: return "debug";
    case LogLevel::info: return "info";
    case LogLevel::warning: return "warning";
    case LogLevel::error: return "error";
  }
  return "?";
}

// One write per record, so that lines of several processes on one terminal do not mix.
void write_to_standard_error(LogLevel level, std::string_view message) {
  const std::string line = concat("paceline ", name_of(level), ": ", message, "\n");
  [[maybe_unused]] const ssize_t ignored = ::write(STDERR_FILENO, line.data(), line.size());
}

// The log is the one thing that is process-wide: its level and sink are set once, by the program.
std::atomic<LogLevel>& level_slot() {
  static std::atomic<LogLevel> level = initial_level();
  return level;
}
std::atomic<LogSink> sink_slot = nullptr;
std::mutex sink_mutex;

}  // namespace

void set_log_level(LogLevel level) noexcept {
  level_slot() = level;
}
LogLevel log_level() noexcept {
  return level_slot().load(std::memory_order_relaxed);
}
void set_log_sink(LogSink sink) noexcept {
  sink_slot = sink;
}

void log_message(LogLevel level, std::string_view message) {
  const std::lock_guard lock(sink_mutex);
  const LogSink sink = sink_slot;
  (sink != nullptr ? sink : write_to_standard_error)(level, message);
}

}  // namespace paceline
