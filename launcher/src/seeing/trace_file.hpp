#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "paceline/base/fd.hpp"
#include "paceline/base/result.hpp"

namespace paceline {

/// A file that appears under its name when it is whole: a reader never sees a part of it, and of one that
/// can't be finished nothing is left.
class FileInTheMaking {
 public:
  [[nodiscard]] static Result<FileInTheMaking> begin(const std::string& path);
  FileInTheMaking(FileInTheMaking&& other) noexcept = default;
  FileInTheMaking& operator=(FileInTheMaking&&) = delete;
  ~FileInTheMaking();

  /// Reaches the file in large pieces.
  [[nodiscard]] Status write(std::string_view bytes);
  /// Gives it its name.
  [[nodiscard]] Status finish();
  [[nodiscard]] std::int64_t bytes() const noexcept { return bytes_; }

 private:
  FileInTheMaking(std::string path, std::string partial, UniqueFd fd)
      : path_(std::move(path)), partial_(std::move(partial)), fd_(std::move(fd)) {}
  [[nodiscard]] Status flush();

  std::string path_;
  std::string partial_;
  UniqueFd fd_;
  std::string pending_;
  std::int64_t bytes_ = 0;
};

/// Where an event stands: processes and threads as the viewer names them.
struct TraceTrack {
  std::int64_t process = 0;
  std::int64_t thread = 0;
};

/// Writes a trace in the Chrome trace event format (JSON object form), which ui.perfetto.dev and
/// chrome://tracing open. Times are whole microseconds since the trace's beginning. Nothing is kept; the
/// first failure is that of finish(). `arguments`: text of a JSON object, or empty.
class TraceFile {
 public:
  explicit TraceFile(FileInTheMaking file);

  void name_process(std::int64_t process, std::string_view name, std::int64_t place);
  void name_thread(TraceTrack track, std::string_view name, std::int64_t place);
  void slice(TraceTrack track, std::string_view name, std::int64_t begin_us, std::int64_t took_us,
             std::string_view arguments = {});
  void mark(TraceTrack track, std::string_view name, std::int64_t at_us, std::string_view arguments = {});
  /// A value that holds until the next one of this name.
  void counter(std::int64_t process, std::string_view name, std::int64_t at_us, std::string_view unit,
               double value);
  /// `facts`: text of a JSON object about the whole trace. Gives its size in bytes.
  [[nodiscard]] Result<std::int64_t> finish(std::string_view facts);

 private:
  void begin_event(char kind, std::int64_t process, std::int64_t thread);
  void end_event(std::string_view name, std::string_view arguments);

  FileInTheMaking file_;
  Status written_;
  std::string event_;
  bool is_first_ = true;
};

/// Text as a JSON string, with its quotes.
[[nodiscard]] std::string json_text(std::string_view text);

}  // namespace paceline
