#include "allreduce/placement.hpp"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>

#include <memory>
#include <numeric>
#include <set>
#include <sstream>

#include "allreduce/sizes.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

std::string text_of(in_addr address) {
  char text[INET_ADDRSTRLEN] = "";
  ::inet_ntop(AF_INET, &address, text, sizeof text);
  return text;
}

/// The address of ours that packets to `host` would leave with.
Result<in_addr> address_towards(const Host& host) {
  sockaddr_in there{};
  there.sin_family = AF_INET;
  there.sin_port = htons(9);  // nothing is sent
  if (::inet_pton(AF_INET, host.address.c_str(), &there.sin_addr) != 1)
    return Error{ErrorCode::invalid_argument,
                 concat("host ", host.name, " has the address ", host.address, ": write an IPv4 address")};
  const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in here{};
  socklen_t length = sizeof here;
  if (!socket.valid() || ::connect(socket.get(), reinterpret_cast<sockaddr*>(&there), sizeof there) != 0 ||
      ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&here), &length) != 0)
    return system_error(concat("host ", host.name, " at ", host.address, " cannot be reached"));
  return here.sin_addr;
}

/// The network that one of our addresses is in: 10.77.0.254 gives 10.77.0.0/24.
Result<std::string> network_of(in_addr address) {
  ifaddrs* raw = nullptr;
  if (::getifaddrs(&raw) != 0) return system_error("cannot list the network interfaces");
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> all(raw, ::freeifaddrs);
  for (const ifaddrs* each = raw; each != nullptr; each = each->ifa_next) {
    if (each->ifa_addr == nullptr || each->ifa_addr->sa_family != AF_INET || each->ifa_netmask == nullptr)
      continue;
    const in_addr own = reinterpret_cast<const sockaddr_in*>(each->ifa_addr)->sin_addr;
    const in_addr mask = reinterpret_cast<const sockaddr_in*>(each->ifa_netmask)->sin_addr;
    if (own.s_addr != address.s_addr) continue;
    return concat(text_of({own.s_addr & mask.s_addr}), "/", __builtin_popcount(mask.s_addr));
  }
  return Error{ErrorCode::not_found, concat("no network interface has the address ", text_of(address))};
}

std::vector<int> own_cpus() {
  std::vector<int> cpus;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  return cpus;
}

Status place_on_hosts(const AllreduceOptions& options, Placement& placement) {
  const Result<std::string> text = read_file(options.hosts_file);
  if (!text.ok()) return Error{ErrorCode::invalid_argument, concat("--hosts: ", text.error().message)};
  Result<std::vector<Host>> hosts = parse_hosts(*text);
  if (!hosts.ok()) return hosts.error().with_context(options.hosts_file);
  if (placement.layout.size() == 1)
    placement.layout = even_layout(options.ranks, static_cast<int>(hosts->size()));
  if (placement.layout.size() != hosts->size())
    return Error{ErrorCode::invalid_argument,
                 concat("--layout is for ", placement.layout.size(), " nodes, but ", options.hosts_file,
                        " has ", hosts->size(), " hosts")};
  if (options.ranks < static_cast<int>(hosts->size()))
    return Error{ErrorCode::invalid_argument,
                 concat("--ranks ", options.ranks, " leaves some of the ", hosts->size(), " hosts of ",
                        options.hosts_file, " without any")};
  PACELINE_ASSIGN(const in_addr here, address_towards(hosts->front()));
  PACELINE_ASSIGN(placement.network, network_of(here));
  placement.driver_host = text_of(here);
  placement.hosts = std::move(*hosts);
  return {};
}

}  // namespace

const Host* Placement::host_of(int rank) const {
  if (hosts.empty()) return nullptr;
  return &hosts[static_cast<std::size_t>(node_of_rank[static_cast<std::size_t>(rank)])];
}

Result<std::vector<Host>> parse_hosts(const std::string& text) {
  std::vector<Host> hosts;
  std::set<std::string> names;
  int number = 0;
  for (const std::string& line : split(text, '\n')) {
    ++number;
    std::istringstream words(line);
    Host host;
    if (!(words >> host.name) || host.name.front() == '#') continue;
    if (!(words >> host.address))
      return Error{ErrorCode::invalid_argument, concat("line ", number, ": write NAME ADDRESS COMMAND...")};
    if (!names.insert(host.name).second)
      return Error{ErrorCode::invalid_argument,
                   concat("line ", number, ": ", host.name, " is there already")};
    for (std::string word; words >> word;) host.command.push_back(word);
    hosts.push_back(std::move(host));
  }
  if (hosts.empty()) return Error{ErrorCode::invalid_argument, "no hosts in it"};
  return hosts;
}

Result<Placement> place(const AllreduceOptions& options) {
  Placement placement;
  placement.layout = options.layout;
  placement.driver_host = "127.0.0.1";
  if (!options.hosts_file.empty()) PACELINE_TRY(place_on_hosts(options, placement));
  placement.node_of_rank = nodes_of_ranks(placement.layout);
  const std::vector<int> cpus = own_cpus();
  if (placement.hosts.empty() && placement.node_of_rank.size() <= cpus.size())
    placement.cpus.assign(cpus.begin(), cpus.begin() + options.ranks);
  return placement;
}

std::string describe(const Placement& placement) {
  const std::size_t ranks = placement.node_of_rank.size();
  std::string text = concat(ranks, ranks == 1 ? " rank" : " ranks");
  if (placement.layout.size() == 1 && placement.hosts.empty()) {
    text += " on this machine";
  } else {
    const char* kind = placement.hosts.empty() ? "pretended nodes" : "hosts";
    text += concat(" on ", placement.layout.size(), " ", kind, " (");
    for (std::size_t node = 0; node < placement.layout.size(); ++node)
      text += concat(node == 0 ? "" : "+", placement.layout[node]);
    text += ")";
  }
  return text + (placement.cpus.empty() ? ", not pinned" : ", each pinned to a core of its own");
}

}  // namespace paceline::bench
