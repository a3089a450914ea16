#pragma once

#include <termios.h>

#include <cstddef>
#include <optional>

#include "seeing/screen.hpp"

namespace paceline {

/// A terminal of which all is used, from show() until leave(): its content comes back then, and keys are read
/// without waiting for the end of a line. Escape sequences of ECMA-48 that all terminals in use know.
class FullScreen {
 public:
  /// `fd`: of the terminal, read and written.
  explicit FullScreen(int fd) : fd_(fd) {}
  ~FullScreen() { leave(); }
  FullScreen(const FullScreen&) = delete;
  FullScreen& operator=(const FullScreen&) = delete;

  /// Whether standard input and output are a terminal that can do this.
  [[nodiscard]] static bool is_possible();

  void enter();
  void show(const Screen& screen);
  void leave();
  struct Size {
    std::size_t width = 80;
    std::size_t height = 24;
  };
  [[nodiscard]] Size size() const;

 private:
  int fd_;
  std::optional<termios> before_;  // while it is used
};

}  // namespace paceline
