#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "paceline/base/fd.hpp"
#include "paceline/base/result.hpp"

namespace paceline {

/// A TCP socket that listens, before anybody knows the ranks who will connect.
struct Listener {
  UniqueFd fd;
  std::string host;  ///< numeric address that it is bound to
  std::uint16_t port = 0;
};

/// Ports to choose from, both ends included; {0, 0} leaves the choice to the operating system.
struct PortRange {
  std::uint16_t first = 0;
  std::uint16_t last = 0;
  friend bool operator==(const PortRange&, const PortRange&) = default;
};

/// PACELINE_PORTS: "A-B" or "A"; everything where it is not set.
[[nodiscard]] Result<PortRange> parse_ports(const std::optional<std::string>& text);

/// Binds the first free port of the range. already_exists, with the range, where all are taken.
[[nodiscard]] Result<Listener> listen_on(const std::string& host, const PortRange& ports);

/// The address at which other machines reach this one: that of `interface` (a name like eth0, or an
/// address of this machine); else what the host's name resolves to; else that of the first network
/// interface that is up. Never a loopback address.
[[nodiscard]] Result<std::string> outside_address(const std::optional<std::string>& interface);

/// This machine's address on the way to another's. Sends nothing.
[[nodiscard]] Result<std::string> address_towards(const std::string& other);

}  // namespace paceline
