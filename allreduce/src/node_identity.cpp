#include "node_identity.hpp"

#include <sys/stat.h>
#include <sys/utsname.h>

#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"

namespace paceline {

NodeIdentity node_identity(const std::string& by_hand) {
  const std::string named = by_hand.empty() ? environment("PACELINE_NODE").value_or("") : by_hand;
  if (!named.empty()) return {concat("name:", named), named};
  return host_identity();
}

NodeIdentity host_identity() {
  utsname names{};
  const std::string host = ::uname(&names) == 0 ? names.nodename : "localhost";
  // Two hosts may share a name, and two containers a host: the boot identifier tells the former apart, the
  // network namespace (in which abstract sockets live) the latter.
  const auto boot_id = read_file("/proc/sys/kernel/random/boot_id");
  const std::string boot = boot_id.ok() ? boot_id.value() : std::string();
  struct stat space {};
  const auto network = ::stat("/proc/self/ns/net", &space) == 0 ? space.st_ino : 0;
  return {concat("host:", host, ":", boot, ":", network), host};
}

}  // namespace paceline
