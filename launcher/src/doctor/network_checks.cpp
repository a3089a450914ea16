#include "doctor/network_checks.hpp"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>

#include <array>
#include <cstring>
#include <memory>

#include "listener.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"

namespace paceline::doctor {
namespace {

/// The interface that has an IPv4 address; empty where there is none.
std::string interface_of(const std::string& address) {
  ifaddrs* raw = nullptr;
  if (::getifaddrs(&raw) != 0) return "";
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> list(raw, &::freeifaddrs);
  for (const ifaddrs* entry = list.get(); entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr || entry->ifa_addr->sa_family != AF_INET) continue;
    sockaddr_in own{};
    std::memcpy(&own, entry->ifa_addr, sizeof own);
    std::array<char, INET_ADDRSTRLEN> text{};
    ::inet_ntop(AF_INET, &own.sin_addr, text.data(), text.size());
    if (address == text.data()) return entry->ifa_name;
  }
  return "";
}

/// ", 25000 Mb/s"; empty where the interface does not say.
std::string speed_of(const std::string& interface) {
  const Result<std::string> text = read_file(concat("/sys/class/net/", interface, "/speed"));
  if (!text.ok()) return "";
  const auto speed = parse_integer(text->substr(0, text->find('\n')), 1, 100'000'000);
  return speed ? concat(", ", *speed, " Mb/s") : "";
}

Check judge_interface(const Result<std::string>& address, bool of_several) {
  if (!address.ok() && address.error().code == ErrorCode::invalid_argument)
    return problem("interface", address.error().message,
                   "set PACELINE_INTERFACE to one of them, or unset it");
  if (!address.ok())
    return from_advice("interface", of_several ? State::problem : State::warning, address.error());
  const std::string interface = interface_of(*address);
  const std::string found = concat(interface, " (", *address, ")", speed_of(interface));
  if (!address->starts_with("127.")) return fine("interface", found);
  return {"interface", of_several ? State::problem : State::warning,
          concat(found, ", which other machines cannot reach"),
          "set PACELINE_INTERFACE to the interface that connects the machines"};
}

/// How many of the range are free, counted to two: a job's agent and its coordinator need one each.
Result<int> free_ports(const std::string& host, const PortRange& ports) {
  PACELINE_ASSIGN(const Listener first, listen_on(host, ports));
  if (ports.first == 0) return 2;
  if (first.port == ports.last) return 1;
  const auto next = static_cast<std::uint16_t>(first.port + 1);
  return listen_on(host, {next, ports.last}).ok() ? 2 : 1;
}

Check check_ports(const std::string& host) {
  const std::optional<std::string> wish = environment("PACELINE_PORTS");
  const Result<PortRange> ports = parse_ports(wish);
  if (!ports.ok()) return from_advice("ports", State::problem, ports.error());
  const Result<int> free = free_ports(host, *ports);
  if (!free.ok()) return from_advice("ports", State::problem, free.error());
  if (*free == 1)
    return warning("ports", concat("only one of ", *wish, " at ", host, " is free"),
                   "set PACELINE_PORTS=A-B to a wider range: an agent and a coordinator need one each");
  return fine("ports", concat(wish ? *wish : std::string("any"), " at ", host));
}

}  // namespace

void check_network(bool of_several, const Sink& sink) {
  const Result<std::string> address = outside_address(environment("PACELINE_INTERFACE"));
  sink(judge_interface(address, of_several));
  // Jobs of one machine use its loopback.
  sink(check_ports(of_several && address.ok() ? *address : "127.0.0.1"));
}

}  // namespace paceline::doctor
