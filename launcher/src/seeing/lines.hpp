#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "paceline/base/fd.hpp"
#include "paceline/base/result.hpp"

namespace paceline {

/// The whole lines of a file that may be of any size, and may grow. A line that is longer than
/// `most_line_bytes` is passed over; one without its end waits for it.
class LineFile {
 public:
  static constexpr std::size_t most_line_bytes = std::size_t{1} << 20;

  /// `most_bytes`: of the file, which count. Nothing is read before next().
  explicit LineFile(std::string path, std::int64_t most_bytes = std::int64_t{1} << 62)
      : path_(std::move(path)), most_bytes_(most_bytes) {}

  /// Begins no earlier than `bytes` before the present end, with the first line there that is whole. Before
  /// the first next().
  void skip_to_last(std::int64_t bytes) { last_bytes_ = bytes; }

  using HandOn = std::function<void(std::string_view line)>;
  /// Hands on, without their ends, the lines that there are by now and were not handed on. A file that is not
  /// there has none.
  [[nodiscard]] Status next(const HandOn& hand_on);
  /// Lines that were passed over.
  [[nodiscard]] std::int64_t too_long() const noexcept { return too_long_; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

 private:
  [[nodiscard]] Status open();
  void take(std::string_view bytes, const HandOn& hand_on);

  std::string path_;
  std::int64_t most_bytes_;
  std::int64_t last_bytes_ = -1;
  std::int64_t read_ = 0;
  std::int64_t too_long_ = 0;
  UniqueFd fd_;
  std::string begun_;     // of a line whose end has not come yet
  bool passing_ = false;  // over the rest of that line
  bool foreign_ = false;  // it began before where we did
};

}  // namespace paceline
