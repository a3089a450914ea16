#pragma once

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>

#include "paceline/base/fd.hpp"

namespace paceline::fuzz {

/// A connection whose far end has sent `bytes` (as far as they fit the socket's buffer) and then closed or
/// gone silent.
struct Connection {
  UniqueFd near;
  UniqueFd far;
};

inline Connection connection_with(const unsigned char* bytes, std::size_t size, bool then_closes) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0) std::abort();
  Connection connection{UniqueFd(ends[0]), UniqueFd(ends[1])};
  [[maybe_unused]] const ssize_t put = ::send(ends[1], bytes, size, MSG_NOSIGNAL);
  if (then_closes) ::shutdown(ends[1], SHUT_WR);
  return connection;
}

}  // namespace paceline::fuzz
