#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace paceline {

// A line of a merged log (logs_merged.hpp), as it is written, read and shown:
//
//   2026-11-22T04:15:00.123456Z [rank 3] what rank 3 wrote

/// Of a longer line of a worker each piece is a line.
inline constexpr std::size_t longest_log_line = std::size_t{64} << 10;

/// Who wrote a line.
struct LogAuthor {
  std::int64_t worker = 0;
  std::optional<std::int64_t> rank;  ///< that it had then; nothing: none yet
  friend bool operator==(const LogAuthor&, const LogAuthor&) = default;
};

/// "[rank 3]"; "[rank 3, worker 7]" where the numbers differ; "[worker 7]" of one that had no rank yet.
[[nodiscard]] std::string log_label(const LogAuthor& author);

struct LogLine {
  std::string time;                 ///< UTC, all of one length, so that they sort as text
  std::optional<LogAuthor> author;  ///< nothing: this was no line of a merged log, and `text` is all of it
  std::string text;
  friend bool operator==(const LogLine&, const LogLine&) = default;
};

[[nodiscard]] std::string log_time(std::chrono::system_clock::time_point time);
/// With a line break at its end.
[[nodiscard]] std::string format_log_line(std::string_view time, const LogAuthor& author,
                                          std::string_view text);
/// Without one; any bytes.
[[nodiscard]] LogLine parse_log_line(std::string_view line);

/// The text without what moves a terminal's cursor, changes its colours or makes it do things: '?' in place
/// of each control character but tabs. All other bytes stay, UTF-8 or not.
[[nodiscard]] std::string without_control(std::string_view text);

/// Cuts a stream of bytes into lines. A carriage return ends one too, so that each state of a progress bar
/// is a line.
class LineCutter {
 public:
  explicit LineCutter(std::size_t longest = longest_log_line) : longest_(longest) {}
  using HandOn = std::function<void(std::string_view line)>;

  void add(std::string_view bytes, const HandOn& hand_on);
  /// There will be no more bytes: hands on what is there of a last line.
  void end(const HandOn& hand_on);

 private:
  void take_end(char letter, const HandOn& hand_on);
  void hand_over(const HandOn& hand_on);

  std::size_t longest_;
  std::string unfinished_;
  bool after_return_ = false;
};

}  // namespace paceline
