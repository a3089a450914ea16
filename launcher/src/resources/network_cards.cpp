#include "resources/network_cards.hpp"

#include <algorithm>
#include <filesystem>

#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

/// The first line; empty where it cannot be read: a card that is down has no speed.
std::string line_of(const std::filesystem::path& path) {
  const Result<std::string> text = read_file(path.string(), 4096);
  return text.ok() ? text->substr(0, text->find('\n')) : "";
}

std::vector<std::filesystem::path> entries_of(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> entries;
  std::error_code code;
  for (std::filesystem::directory_iterator it(folder, code), end; !code && it != end; it.increment(code))
    entries.push_back(it->path());
  std::ranges::sort(entries);
  return entries;
}

std::int64_t numa_node_of(const std::filesystem::path& card) {
  return parse_integer(line_of(card / "device/numa_node"), 0, 1 << 20).value_or(-1);
}

/// Interfaces that are up, without loopback. Where any is hardware, bridges and tunnels lie on top of it and
/// are left out; a container or a namespace may have nothing else.
std::vector<std::filesystem::path> interfaces_of(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> up;
  for (const std::filesystem::path& path : entries_of(folder)) {
    // 772: ARPHRD_LOOPBACK. Some drivers say "unknown" of what is up.
    const std::string state = line_of(path / "operstate");
    if (line_of(path / "type") != "772" && (state == "up" || state == "unknown")) up.push_back(path);
  }
  std::vector<std::filesystem::path> hardware;
  std::error_code ignored;
  for (const std::filesystem::path& path : up)
    if (std::filesystem::exists(path / "device", ignored)) hardware.push_back(path);
  return hardware.empty() ? up : hardware;
}

}  // namespace

std::vector<NetworkCard> find_network_cards(const std::string& sys) {
  std::vector<NetworkCard> cards;
  for (const std::filesystem::path& path : interfaces_of(sys + "/class/net")) {
    const auto mbit = parse_integer(line_of(path / "speed"), 1, 100'000'000);
    cards.push_back(
        {path.filename().string(), numa_node_of(path), static_cast<double>(mbit.value_or(0)) / 1000});
  }
  for (const std::filesystem::path& path : entries_of(sys + "/class/infiniband"))
    for (const std::filesystem::path& port : entries_of(path / "ports")) {
      if (line_of(port / "state").find("ACTIVE") == std::string::npos) continue;
      // "400 Gb/sec (4X NDR)"
      const std::string rate = line_of(port / "rate");
      const auto gbit = parse_integer(rate.substr(0, rate.find_first_of(". ")), 1, 1'000'000);
      cards.push_back({concat(path.filename().string(), ":", port.filename().string()), numa_node_of(path),
                       static_cast<double>(gbit.value_or(0))});
    }
  return cards;
}

}  // namespace paceline
