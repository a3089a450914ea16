#include "sent.hpp"

// The kernel's own header: the C library's has an older tcp_info, and the two exclude each other.
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstddef>

namespace paceline::tcp {

Sent sent_on(int connection) noexcept {
  tcp_info info{};
  socklen_t length = sizeof info;
  if (::getsockopt(connection, IPPROTO_TCP, TCP_INFO, &info, &length) != 0) return {};
  // An older kernel fills in less.
  if (length < offsetof(tcp_info, tcpi_rwnd_limited) + sizeof info.tcpi_rwnd_limited) return {};
  // A peer that doesn't read is no slow wire.
  const auto busy_us = info.tcpi_busy_time - std::min(info.tcpi_rwnd_limited, info.tcpi_busy_time);
  return {static_cast<std::int64_t>(info.tcpi_bytes_acked), std::chrono::microseconds(busy_us)};
}

}  // namespace paceline::tcp
