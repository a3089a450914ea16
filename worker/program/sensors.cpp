#include "sensors.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <filesystem>
#include <optional>
#include <utility>

#include "paceline/base/text.hpp"
#include "paceline/data/loader.hpp"

namespace paceline {
namespace {

// Beyond this a number is nonsense: 2^53 bytes are nine petabytes, and JSON has no larger integers.
constexpr std::int64_t most = std::int64_t{1} << 53;

std::string_view trimmed(std::string_view text) {
  const auto begin = text.find_first_not_of(" \t\n");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\n") + 1 - begin);
}

/// Cuts off the first line.
std::string_view next_line(std::string_view& text) {
  const auto end = std::min(text.find('\n'), text.size());
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return line;
}

/// Word number `place` as a counter.
std::optional<std::int64_t> number_at(std::string_view line, int place) {
  for (; place >= 0; --place) {
    line = trimmed(line);
    const std::string_view word = line.substr(0, line.find_first_of(" \t"));
    if (place == 0) return parse_integer(word, 0, most);
    line.remove_prefix(word.size());
  }
  return std::nullopt;
}

std::optional<std::int64_t> counter_in(const std::string& path) {
  const Result<std::string> text = read_file(path);
  return text.ok() ? parse_integer(trimmed(*text), 0, most) : std::nullopt;
}

}  // namespace

bool Sensors::File::read(std::string& text) {
  if (!fd_.valid()) fd_.reset(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd_.valid()) return false;
  constexpr std::size_t block = 4096;
  constexpr std::size_t most_text = 1 << 20;  // a file of the kernel's is not longer
  text.clear();
  while (text.size() < most_text) {
    const std::size_t had = text.size();
    text.resize(had + block);
    const ssize_t got = ::pread(fd_.get(), text.data() + had, block, static_cast<off_t>(had));
    text.resize(had + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fd_.reset();
    if (got <= 0) return got == 0;
    bytes_read_ += got;
  }
  return false;
}

void Sensors::Counter::see(std::int64_t value) {
  sum = std::min(sum + std::max<std::int64_t>(value - std::exchange(last, value), 0), most);
}

Sensors::Sensors(SensorRoots roots)
    : statm_(roots.proc + "/self/statm"), io_(roots.proc + "/self/io"), net_dev_(roots.proc + "/net/dev") {
  find_zones(roots.powercap);
}

/// RAPL's packages, and their memory, which is not part of them; cores and graphics are.
void Sensors::find_zones(const std::string& folder) {
  std::error_code none;
  for (auto entry = std::filesystem::directory_iterator(folder, none);
       entry != std::filesystem::directory_iterator(); entry.increment(none)) {
    const std::string zone = entry->path().filename();
    if (!zone.starts_with("intel-rapl:")) continue;
    const std::string path = entry->path();
    const Result<std::string> name = read_file(path + "/name");
    if (!name.ok() || !(name->starts_with("package") || trimmed(*name) == "dram")) continue;
    if (!counter_in(path + "/energy_uj")) continue;  // mostly for root alone
    zones_.push_back({File(path + "/energy_uj"), counter_in(path + "/max_energy_range_uj").value_or(0)});
  }
}

void Sensors::read(Telemetry& telemetry) {
  timespec cpu{};
  if (::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) == 0)
    telemetry.cpu_s =
        std::max(telemetry.cpu_s, static_cast<double>(cpu.tv_sec) + static_cast<double>(cpu.tv_nsec) / 1e9);
  read_memory(telemetry);
  read_network(telemetry);
  read_energy(telemetry);
  read_bytes_read(telemetry);
}

void Sensors::read_memory(Telemetry& telemetry) {
  static const std::int64_t page = ::sysconf(_SC_PAGESIZE);
  if (!statm_.read(text_)) return;
  if (const auto pages = number_at(text_, 1); pages && *pages <= most / page)
    telemetry.memory_bytes = *pages * page;
}

/// Without what was read here.
void Sensors::read_bytes_read(Telemetry& telemetry) {
  const std::int64_t own = own_bytes();
  if (io_.read(text_)) {
    for (std::string_view text = text_; !text.empty();) {
      const std::string_view line = next_line(text);
      if (!line.starts_with("rchar:")) continue;
      if (const auto bytes = number_at(line, 1)) read_.see(std::max<std::int64_t>(*bytes - own, 0));
    }
  }
  telemetry.read_bytes = std::max(telemetry.read_bytes, read_.sum + bytes_read_by_io_uring());
}

void Sensors::read_network(Telemetry& telemetry) {
  if (!net_dev_.read(text_)) return;
  for (std::string_view text = text_; !text.empty();) {
    const std::string_view line = next_line(text);
    const auto colon = line.rfind(':');  // an alias has one in its name
    if (colon == std::string_view::npos) continue;
    const std::string_view name = trimmed(line.substr(0, colon));
    const auto received = number_at(line.substr(colon + 1), 0);
    const auto sent = number_at(line.substr(colon + 1), 8);
    if (name == "lo" || !sent || !received) continue;
    auto found = interfaces_.find(name);
    if (found == interfaces_.end()) found = interfaces_.emplace(name, Interface{}).first;
    found->second.sent.see(*sent);
    found->second.received.see(*received);
  }
  std::int64_t sent = 0, received = 0;
  for (const auto& [name, interface] : interfaces_) {
    sent = std::min(sent + interface.sent.sum, most);
    received = std::min(received + interface.received.sum, most);
  }
  telemetry.network_sent_bytes = sent;
  telemetry.network_received_bytes = received;
}

void Sensors::read_energy(Telemetry& telemetry) {
  if (zones_.empty()) return;
  double joules = 0;
  for (Zone& zone : zones_) {
    const auto now = zone.file.read(text_) ? parse_integer(trimmed(text_), 0, most) : std::nullopt;
    if (now) {
      std::int64_t grown = *now - std::max<std::int64_t>(zone.last, 0);
      if (grown < 0) grown = zone.last <= zone.range ? grown + zone.range : 0;
      zone.sum = std::min(zone.sum + grown, most);
      zone.last = *now;
    }
    joules += static_cast<double>(zone.sum) / 1e6;
  }
  telemetry.node_energy_j = joules;
}

std::int64_t Sensors::own_bytes() const {
  std::int64_t bytes = statm_.bytes_read() + io_.bytes_read() + net_dev_.bytes_read();
  for (const Zone& zone : zones_) bytes += zone.file.bytes_read();
  return bytes;
}

}  // namespace paceline
