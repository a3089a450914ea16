#include "socket.hpp"

#include <fcntl.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>

#include "paceline/base/text.hpp"

namespace paceline::tcp {
namespace {

using AddressList = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

Result<AddressList> resolve(const std::string& host, std::uint16_t port, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int code = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (code != 0)
    return Error{ErrorCode::not_found, concat("cannot find the host \"", host, "\": ", ::gai_strerror(code))};
  return AddressList(found, &::freeaddrinfo);
}

void set_option(int fd, int level, int option, int value) {
  // Tuning only: a kernel that refuses one of these still carries the data.
  [[maybe_unused]] const int ignored = ::setsockopt(fd, level, option, &value, sizeof value);
}

Status finish_connect(int fd, const Patience& patience) {
  PACELINE_TRY(wait_for(fd, POLLOUT, patience));
  int code = 0;
  socklen_t length = sizeof code;
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &length) != 0) code = errno;
  if (code != 0) return system_error("connect", code);
  return {};
}

Result<UniqueFd> connect_once(const addrinfo& address, const Patience& patience) {
  UniqueFd fd(::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return system_error("socket");
  if (::connect(fd.get(), address.ai_addr, address.ai_addrlen) != 0) {
    if (errno != EINPROGRESS) return system_error("connect");
    PACELINE_TRY(finish_connect(fd.get(), patience));
  }
  PACELINE_TRY(prepare(fd.get()));
  return fd;
}

Status receive_exactly(int fd, char* bytes, std::size_t count, const Patience& patience) {
  while (count > 0) {
    const ssize_t got = ::recv(fd, bytes, count, 0);
    if (got == 0) return Error{ErrorCode::peer_lost, "the connection was closed"};
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) {
      PACELINE_TRY(wait_for(fd, POLLIN, patience));
      continue;
    }
    if (got < 0) return Error{ErrorCode::peer_lost, system_error("the connection broke").message};
    bytes += got;
    count -= static_cast<std::size_t>(got);
  }
  return {};
}

}  // namespace

Status wait_for(int fd, short events, const Patience& patience) {
  while (true) {
    PACELINE_TRY(patience.abort.status());
    pollfd waits[2] = {{fd, events, 0}, {patience.abort.fd(), POLLIN, 0}};
    const int ready = ::poll(waits, 2, patience.deadline.left_ms());
    if (ready < 0 && errno != EINTR) return system_error("poll");
    if (ready > 0 && waits[0].revents != 0) return {};
    if (ready == 0 && patience.deadline.passed())
      return Error{ErrorCode::timeout, "no answer within the time allowed"};
  }
}

Result<UniqueFd> listen_on(const std::string& host, std::uint16_t port) {
  PACELINE_ASSIGN(const AddressList addresses, resolve(host, port, AI_PASSIVE));
  Error last{ErrorCode::not_found, concat("the host \"", host, "\" has no address")};
  for (const addrinfo* address = addresses.get(); address != nullptr; address = address->ai_next) {
    UniqueFd fd(::socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd.valid()) {
      last = system_error("socket");
      continue;
    }
    set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
    if (::bind(fd.get(), address->ai_addr, address->ai_addrlen) == 0 && ::listen(fd.get(), SOMAXCONN) == 0)
      return fd;
    const int code = errno;
    last = system_error(concat("cannot listen on ", host, " port ", port), code);
    if (code == EADDRINUSE)
      last = {
          ErrorCode::already_exists,
          concat("port ", port, " on ", host, " is taken by another program: choose another, or 0 for any")};
  }
  return last;
}

Result<UniqueFd> listen_in(const std::string& host, const std::string& ports) {
  if (ports.empty()) return listen_on(host, 0);
  const std::vector<std::string> ends = split(ports, '-');
  const auto first = parse_integer(ends.front(), 1, 65535);
  const auto last = parse_integer(ends.back(), 1, 65535);
  if (ends.size() > 2 || !first || !last || *first > *last)
    return Error{ErrorCode::invalid_argument,
                 concat("the ports are \"", ports, "\": give a range such as 20000-20100 (PACELINE_PORTS)")};
  for (std::int64_t port = *first; port <= *last; ++port) {
    auto listener = listen_on(host, static_cast<std::uint16_t>(port));
    if (listener.ok() || listener.error().code != ErrorCode::already_exists) return listener;
  }
  return Error{ErrorCode::already_exists,
               concat("all ports ", ports, " on ", host, " are taken: widen the range")};
}

Result<std::string> address_of_interface(const std::string& name) {
  ifaddrs* found = nullptr;
  if (::getifaddrs(&found) != 0) return system_error("getifaddrs");
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> all(found, &::freeifaddrs);
  std::string known;
  for (const int family : {AF_INET, AF_INET6}) {
    for (const ifaddrs* each = all.get(); each != nullptr; each = each->ifa_next) {
      if (each->ifa_addr == nullptr || each->ifa_addr->sa_family != family) continue;
      if (name != each->ifa_name) {
        known += concat(known.empty() ? "" : ", ", each->ifa_name);
        continue;
      }
      char host[NI_MAXHOST];
      const socklen_t length = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
      if (::getnameinfo(each->ifa_addr, length, host, sizeof host, nullptr, 0, NI_NUMERICHOST) == 0)
        return std::string(host);
    }
  }
  return Error{ErrorCode::not_found, concat("there is no network interface \"", name,
                                            "\" with an address here; there are ", known)};
}

Result<std::uint16_t> port_of(int listener) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length) != 0)
    return system_error("getsockname");
  const auto* any = reinterpret_cast<const sockaddr_in*>(&address);  // sin_port lies where sin6_port does
  return static_cast<std::uint16_t>(ntohs(any->sin_port));
}

Result<std::string> local_address(int connection) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  char host[NI_MAXHOST];
  if (::getsockname(connection, reinterpret_cast<sockaddr*>(&address), &length) != 0 ||
      ::getnameinfo(reinterpret_cast<sockaddr*>(&address), length, host, sizeof host, nullptr, 0,
                    NI_NUMERICHOST) != 0)
    return system_error("cannot tell the local address of a connection");
  return std::string(host);
}

Result<UniqueFd> connect_to(const std::string& host, std::uint16_t port, const Patience& patience) {
  auto pause = std::chrono::milliseconds(2);
  while (true) {
    PACELINE_ASSIGN(const AddressList addresses, resolve(host, port, 0));
    Error last{ErrorCode::not_found, "no address"};
    for (const addrinfo* address = addresses.get(); address != nullptr; address = address->ai_next) {
      auto connection = connect_once(*address, patience);
      if (connection.ok()) return connection;
      last = std::move(connection).error();
    }
    PACELINE_TRY(patience.abort.status());
    if (patience.deadline.passed())
      return Error{ErrorCode::timeout, concat("cannot reach ", host, " port ", port, ": ", last.message)};
    std::this_thread::sleep_for(std::min<Duration>(pause, patience.deadline.left()));
    pause = std::min(pause * 2, std::chrono::milliseconds(100));
  }
}

Result<UniqueFd> accept_from(int listener, const Patience& patience) {
  while (true) {
    // Also where somebody connects all the time.
    if (patience.deadline.passed()) return Error{ErrorCode::timeout, "no connection within the time allowed"};
    UniqueFd fd(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd.valid()) {
      PACELINE_TRY(prepare(fd.get()));
      return fd;
    }
    if (errno == EAGAIN) {
      PACELINE_TRY(wait_for(listener, POLLIN, patience));
    } else if (errno != EINTR && errno != ECONNABORTED) {
      return system_error("accept");
    }
  }
}

Status prepare(int connection) {
  const int flags = ::fcntl(connection, F_GETFL);
  if (flags < 0 || ::fcntl(connection, F_SETFL, flags | O_NONBLOCK) != 0) return system_error("fcntl");
  set_option(connection, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(connection, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(connection, IPPROTO_TCP, TCP_KEEPIDLE, 5);
  set_option(connection, IPPROTO_TCP, TCP_KEEPINTVL, 2);
  set_option(connection, IPPROTO_TCP, TCP_KEEPCNT, 5);
  set_option(connection, IPPROTO_TCP, TCP_USER_TIMEOUT, 15000);
  return {};
}

Status send_frame(int connection, wire::FrameType type, std::string_view payload, const Patience& patience) {
  wire::FrameHeader header;
  header.type = static_cast<std::uint16_t>(type);
  header.bytes = static_cast<std::uint32_t>(payload.size());
  std::string bytes(sizeof header, '\0');
  std::memcpy(bytes.data(), &header, sizeof header);
  bytes += payload;
  std::string_view left = bytes;
  while (!left.empty()) {
    const ssize_t put = ::send(connection, left.data(), left.size(), MSG_NOSIGNAL);
    if (put >= 0) {
      left.remove_prefix(static_cast<std::size_t>(put));
    } else if (errno == EAGAIN) {
      PACELINE_TRY(wait_for(connection, POLLOUT, patience));
    } else if (errno != EINTR) {
      return Error{ErrorCode::peer_lost, system_error("the connection broke").message};
    }
  }
  return {};
}

Result<Frame> receive_frame(int connection, std::uint32_t most_bytes, const Patience& patience) {
  wire::FrameHeader header;
  char raw[sizeof header];
  PACELINE_TRY(receive_exactly(connection, raw, sizeof raw, patience));
  std::memcpy(&header, raw, sizeof raw);
  if (header.magic != wire::magic) return Error{ErrorCode::corrupt, "it does not speak Paceline's protocol"};
  if (header.version != wire::version)
    return Error{ErrorCode::unsupported,
                 concat("it speaks version ", header.version, " of the protocol, this program ",
                        wire::version, ": use the same Paceline on all nodes")};
  if (header.bytes > most_bytes) return Error{ErrorCode::corrupt, "it sent a message that is too long"};
  Frame frame{static_cast<wire::FrameType>(header.type), std::string(header.bytes, '\0')};
  PACELINE_TRY(receive_exactly(connection, frame.payload.data(), frame.payload.size(), patience));
  return frame;
}

}  // namespace paceline::tcp
