#include "route.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <optional>

#include "../tcp/socket.hpp"
#include "paceline/base/fd.hpp"

namespace paceline::mpi {
namespace {

/// What the kernel would send from, to an address that stands for any other network. Nothing is sent.
std::optional<std::string> source_towards(const sockaddr* address, socklen_t bytes) {
  const UniqueFd probe(::socket(address->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!probe.valid() || ::connect(probe.get(), address, bytes) != 0) return std::nullopt;
  auto local = tcp::local_address(probe.get());
  if (!local.ok()) return std::nullopt;
  return std::move(*local);
}

}  // namespace

Result<std::string> address_of_default_route() {
  // Addresses for documentation (RFC 5737, RFC 3849), which are nobody's.
  sockaddr_in four{};
  four.sin_family = AF_INET;
  four.sin_port = htons(9);
  ::inet_pton(AF_INET, "192.0.2.1", &four.sin_addr);
  sockaddr_in6 six{};
  six.sin6_family = AF_INET6;
  six.sin6_port = htons(9);
  ::inet_pton(AF_INET6, "2001:db8::1", &six.sin6_addr);
  if (auto address = source_towards(reinterpret_cast<const sockaddr*>(&four), sizeof four)) return *address;
  if (auto address = source_towards(reinterpret_cast<const sockaddr*>(&six), sizeof six)) return *address;
  return Error{ErrorCode::not_found,
               "this host has no default route, so its address for the other hosts is not known: name the "
               "network interface (PACELINE_INTERFACE)"};
}

}  // namespace paceline::mpi
