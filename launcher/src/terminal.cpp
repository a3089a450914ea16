#include "terminal.hpp"

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace paceline {
namespace {

// poll(2) promises room for this much in a pipe, so that the write below does not wait.
constexpr std::size_t most_at_once = 4096;

}  // namespace

bool put(int fd, std::string_view text, int patience_ms) {
  while (!text.empty()) {
    pollfd entry{fd, POLLOUT, 0};
    if (::poll(&entry, 1, patience_ms) <= 0 || (entry.revents & POLLOUT) == 0) return false;
    const ssize_t written = ::write(fd, text.data(), std::min(text.size(), most_at_once));
    if (written < 0 && errno != EINTR) return false;
    if (written > 0) text.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

std::size_t terminal_width(int fd) {
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

}  // namespace paceline
