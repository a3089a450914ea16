#include "seeing/full_screen.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <string>

#include "paceline/base/text.hpp"
#include "terminal.hpp"

namespace paceline {
namespace {

constexpr std::string_view begin_text =
    "\x1b[?1049h\x1b[?25l\x1b[?7l";  // another screen, no cursor, no wrapping
constexpr std::string_view end_text = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// By Style.
constexpr std::array<std::string_view, 11> style_texts = {"",
                                                          "\x1b[1m",
                                                          "\x1b[2m",
                                                          "\x1b[1;31m",
                                                          "\x1b[7m",
                                                          "\x1b[41;97m",
                                                          "\x1b[44;97m",
                                                          "\x1b[42;30m",
                                                          "\x1b[43;30m",
                                                          "\x1b[45;97m",
                                                          "\x1b[46;30m"};

std::string drawn(const ScreenLine& line) {
  std::string text;
  std::size_t done = 0;
  for (const ScreenLine::Span& span : line.spans) {
    if (span.begin < done) continue;  // the first of two that overlap
    text.append(line.text, done, span.begin - done);
    text += style_texts.at(static_cast<std::size_t>(span.style));
    text.append(line.text, span.begin, span.length);
    text += "\x1b[0m";
    done = span.begin + span.length;
  }
  return text.append(line.text, done);
}

}  // namespace

bool FullScreen::is_possible() {
  if (::isatty(STDIN_FILENO) == 0 || ::isatty(STDOUT_FILENO) == 0) return false;
  const std::optional<std::string> kind = environment("TERM");
  return kind && *kind != "dumb";
}

void FullScreen::enter() {
  termios found{};
  if (before_ || ::tcgetattr(fd_, &found) != 0) return;
  before_ = found;
  found.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);  // the keys for signals stay
  found.c_cc[VMIN] = 0;
  found.c_cc[VTIME] = 0;
  ::tcsetattr(fd_, TCSANOW, &found);
  put(fd_, begin_text, line_patience_ms);
}

void FullScreen::show(const Screen& screen) {
  std::string text = "\x1b[H";
  for (std::size_t i = 0; i < screen.size(); ++i)
    text += concat(i > 0 ? "\r\n" : "", drawn(screen[i]), "\x1b[K");
  text += "\x1b[J";
  put(fd_, text, line_patience_ms);
}

void FullScreen::leave() {
  if (!before_) return;
  put(fd_, end_text, line_patience_ms);
  ::tcsetattr(fd_, TCSAFLUSH, &*before_);
  before_.reset();
}

FullScreen::Size FullScreen::size() const {
  winsize found{};
  if (::ioctl(fd_, TIOCGWINSZ, &found) != 0 || found.ws_col == 0 || found.ws_row == 0) return {};
  return {found.ws_col, found.ws_row};
}

}  // namespace paceline
