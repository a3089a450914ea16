#include "listener.hpp"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <memory>
#include <vector>

#include "paceline/base/text.hpp"

namespace paceline {
namespace {

struct InterfaceAddress {
  std::string name;
  std::string address;
  bool loopback = false;
};

// The socket interface passes every address family through sockaddr; copying out is the defined way.
std::optional<sockaddr_in> ipv4(const sockaddr* address) {
  if (address == nullptr || address->sa_family != AF_INET) return std::nullopt;
  sockaddr_in copy{};
  std::memcpy(&copy, address, sizeof copy);
  return copy;
}

std::string to_text(const sockaddr_in& address) {
  std::array<char, INET_ADDRSTRLEN> text{};
  ::inet_ntop(AF_INET, &address.sin_addr, text.data(), text.size());
  return text.data();
}

bool is_loopback(const sockaddr_in& address) {
  return (ntohl(address.sin_addr.s_addr) >> 24) == 127;
}

Result<std::vector<InterfaceAddress>> interface_addresses() {
  ifaddrs* raw = nullptr;
  if (::getifaddrs(&raw) != 0) return system_error("cannot list the network interfaces");
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> list(raw, &::freeifaddrs);
  std::vector<InterfaceAddress> found;
  for (const ifaddrs* entry = list.get(); entry != nullptr; entry = entry->ifa_next) {
    const std::optional<sockaddr_in> address = ipv4(entry->ifa_addr);
    if (address && (entry->ifa_flags & IFF_UP) != 0)
      found.push_back({entry->ifa_name, to_text(*address), is_loopback(*address)});
  }
  return found;
}

std::optional<std::string> address_of_host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) return std::nullopt;
  addrinfo hints{};
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* raw = nullptr;
  if (::getaddrinfo(name.data(), nullptr, &hints, &raw) != 0) return std::nullopt;
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> list(raw, &::freeaddrinfo);
  for (const addrinfo* entry = list.get(); entry != nullptr; entry = entry->ai_next) {
    const std::optional<sockaddr_in> address = ipv4(entry->ai_addr);
    if (address && !is_loopback(*address)) return to_text(*address);
  }
  return std::nullopt;
}

/// A port, if this one was free; nothing if it is taken.
Result<std::optional<Listener>> try_port(const std::string& host, std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  if (::inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1)
    return Error{ErrorCode::invalid_argument, concat(host, " is not an IPv4 address")};
  Listener listener{UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), host, port};
  if (!listener.fd.valid()) return system_error("cannot make a socket");
  const int yes = 1;
  ::setsockopt(listener.fd.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  socklen_t length = sizeof address;
  if (::bind(listener.fd.get(), generic, length) != 0 || ::listen(listener.fd.get(), SOMAXCONN) != 0) {
    if (errno == EADDRINUSE) return {std::nullopt};
    return system_error(concat("cannot listen at ", host, " port ", port));
  }
  if (::getsockname(listener.fd.get(), generic, &length) != 0)
    return system_error("cannot read a socket's port");
  listener.port = ntohs(address.sin_port);
  return {std::move(listener)};
}

std::string to_text(const PortRange& ports) {
  return ports.first == ports.last ? concat("port ", ports.first)
                                   : concat("ports ", ports.first, "-", ports.last);
}

}  // namespace

Result<PortRange> parse_ports(const std::optional<std::string>& text) {
  if (!text) return PortRange{};
  const std::vector<std::string> ends = split(*text, '-');
  const std::optional<std::int64_t> first = parse_integer(ends.front(), 1, 65535);
  const std::optional<std::int64_t> last = parse_integer(ends.back(), 1, 65535);
  if (ends.size() > 2 || !first || !last || *first > *last)
    return Error{
        ErrorCode::invalid_argument,
        concat("PACELINE_PORTS is '", *text, "': give a port or a range of ports such as 20000-20100")};
  return PortRange{static_cast<std::uint16_t>(*first), static_cast<std::uint16_t>(*last)};
}

Result<Listener> listen_on(const std::string& host, const PortRange& ports) {
  for (std::uint32_t port = ports.first; port <= ports.last; ++port) {
    PACELINE_ASSIGN(std::optional<Listener> listener, try_port(host, static_cast<std::uint16_t>(port)));
    if (listener) return *std::move(listener);
  }
  return Error{ErrorCode::already_exists,
               concat(to_text(ports), " at ", host, ports.first == ports.last ? " is" : " are all",
                      " taken: set PACELINE_PORTS=A-B to a range with a free port")};
}

Result<std::string> outside_address(const std::optional<std::string>& interface) {
  PACELINE_ASSIGN(const std::vector<InterfaceAddress> all, interface_addresses());
  std::string names;
  for (const InterfaceAddress& one : all) {
    if (interface && (one.name == *interface || one.address == *interface)) return one.address;
    names += concat(names.empty() ? "" : ", ", one.name, " (", one.address, ")");
  }
  if (interface)
    return Error{ErrorCode::invalid_argument,
                 concat("PACELINE_INTERFACE is '", *interface, "', but this machine has ", names)};
  if (const auto address = address_of_host_name()) return *address;
  for (const InterfaceAddress& one : all)
    if (!one.loopback) return one.address;
  return Error{ErrorCode::not_found,
               "this machine has no network address that others could reach: set "
               "PACELINE_INTERFACE to the interface that connects the nodes"};
}

Result<std::string> address_towards(const std::string& other) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(9);  // any
  if (::inet_pton(AF_INET, other.c_str(), &address.sin_addr) != 1)
    return Error{ErrorCode::invalid_argument, concat(other, " is not an IPv4 address")};
  const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return system_error("cannot make a socket");
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  socklen_t length = sizeof address;
  if (::connect(socket.get(), generic, length) != 0)
    return system_error(concat("this machine has no way to ", other));
  if (::getsockname(socket.get(), generic, &length) != 0)
    return system_error("cannot read a socket's address");
  return to_text(address);
}

}  // namespace paceline
