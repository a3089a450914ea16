#include "import_display.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "format.hpp"
#include "paceline/base/text.hpp"
#include "terminal.hpp"

namespace paceline {
namespace {

constexpr Duration line_period = std::chrono::seconds(5);
constexpr std::size_t widest_bar = 30;

std::string amount(std::int64_t number, bool in_bytes) {
  return in_bytes ? human_bytes(static_cast<std::uint64_t>(number))
                  : with_commas(static_cast<double>(number));
}

}  // namespace

std::string import_line(const ImportProgress& progress) {
  if (progress.total == 0 && progress.done == 0) return progress.what;
  const std::string total =
      progress.total > 0 ? concat(" of ", amount(progress.total, progress.in_bytes)) : std::string();
  return concat(progress.what, ": ", amount(progress.done, progress.in_bytes), total,
                progress.in_bytes ? "" : " images");
}

std::string import_bar(const ImportProgress& progress, std::size_t width) {
  const std::string text = import_line(progress);
  if (text.size() >= width) return text.substr(0, width);
  const std::size_t room = width - text.size();
  if (progress.total <= 0 || room < 8) return text;
  const std::size_t cells = std::min(widest_bar, room - 3);  // a space and two brackets
  const double part =
      std::clamp(static_cast<double>(progress.done) / static_cast<double>(progress.total), 0.0, 1.0);
  const auto full = static_cast<std::size_t>(part * static_cast<double>(cells));
  return concat(text, " [", std::string(full, '#'), std::string(cells - full, '.'), "]");
}

ImportDisplay::ImportDisplay(bool quiet) : quiet_(quiet), terminal_(::isatty(STDERR_FILENO) == 1) {
}

ImportDisplay::~ImportDisplay() {
  end();
}

void ImportDisplay::progress(const ImportProgress& progress, Instant now) {
  if (quiet_) return;
  if (terminal_) {
    put(STDERR_FILENO, concat("\r\x1b[K", import_bar(progress, terminal_width(STDERR_FILENO) - 1)), 0);
    bar_is_drawn_ = true;
    return;
  }
  const bool first = !line_shown_;
  if (!first && now < *line_shown_ + line_period) return;
  line_shown_ = now;
  if (!first) put(STDERR_FILENO, concat(import_line(progress), "\n"), line_patience_ms);
}

void ImportDisplay::warning(const std::string& sentence) {
  end();
  put(STDERR_FILENO, concat("paceline: ", sentence, "\n"), line_patience_ms);
}

void ImportDisplay::end() {
  if (bar_is_drawn_) put(STDERR_FILENO, "\r\x1b[K", line_patience_ms);
  bar_is_drawn_ = false;
}

}  // namespace paceline
