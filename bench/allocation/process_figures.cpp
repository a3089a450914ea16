#include "allocation/process_figures.hpp"

#include <string>
#include <string_view>

#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

constexpr std::size_t most_bytes = std::size_t{4} << 20;
constexpr std::int64_t most_number = std::int64_t{1} << 53;

std::string text_of(const std::string& path) {
  Result<std::string> text = read_file(path, most_bytes);
  return text.ok() ? std::move(text).value() : "";
}

/// Bytes behind "Name:   1234 kB".
std::optional<double> kilobytes_of(std::string_view text, std::string_view name) {
  for (const std::string& line : split(text, '\n')) {
    if (!line.starts_with(name) || line.substr(name.size(), 1) != ":") continue;
    const std::size_t begin = line.find_first_of("0123456789");
    if (begin == std::string::npos) return std::nullopt;
    const std::size_t end = line.find_first_not_of("0123456789", begin);
    const auto number = parse_integer(line.substr(begin, end - begin), 0, most_number);
    return number ? std::optional(1024.0 * static_cast<double>(*number)) : std::nullopt;
  }
  return std::nullopt;
}

}  // namespace

std::vector<pid_t> children_of(pid_t pid) {
  std::vector<pid_t> children;
  for (const std::string& word : split(text_of(concat("/proc/", pid, "/task/", pid, "/children")), ' '))
    if (const auto child = parse_integer(word, 1, 1 << 30)) children.push_back(static_cast<pid_t>(*child));
  return children;
}

std::optional<std::int64_t> worker_number(pid_t pid) {
  // Between fork and exec it still has its parent's name and environment.
  if (text_of(concat("/proc/", pid, "/comm")) != "paceline-worker\n") return std::nullopt;
  constexpr std::string_view name = "PACELINE_RANK=";
  for (const std::string& entry : split(text_of(concat("/proc/", pid, "/environ")), '\0'))
    if (entry.starts_with(name)) return parse_integer(entry.substr(name.size()), 0, most_number);
  return std::nullopt;
}

ProcessMemory memory_of(pid_t pid) {
  const std::string status = text_of(concat("/proc/", pid, "/status"));
  return {kilobytes_of(status, "VmRSS").value_or(0), kilobytes_of(status, "RssAnon").value_or(0)};
}

std::optional<double> available_memory() {
  return kilobytes_of(text_of("/proc/meminfo"), "MemAvailable");
}

}  // namespace paceline::bench
