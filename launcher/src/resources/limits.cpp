#include "resources/limits.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr std::int64_t no_limit = std::numeric_limits<std::int64_t>::max();

std::string first_line(const std::string& path) {
  const Result<std::string> text = read_file(path, std::size_t{1} << 16);
  return text.ok() ? text->substr(0, text->find('\n')) : "";
}

/// "max", v1's largest number and what is not there are no limit.
std::int64_t number_in(const std::string& path) {
  return parse_integer(first_line(path), 0, no_limit).value_or(no_limit);
}

/// The folders of the cgroups that this process is in, of `controller` (v1) or of all (v2: empty), from its
/// own up to the root.
std::vector<std::string> cgroup_folders(const LimitSources& sources, const std::string& controller) {
  const Result<std::string> text = read_file(sources.proc + "/self/cgroup", std::size_t{1} << 16);
  std::vector<std::string> folders;
  if (!text.ok()) return folders;
  for (const std::string& line : split(*text, '\n')) {
    // 4:memory:/slurm/job_7, or 0::/system.slice
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::vector<std::string> controllers = split(line.substr(first + 1, second - first - 1), ',');
    if (std::ranges::find(controllers, controller) == controllers.end()) continue;
    const std::string root = controller.empty() ? sources.cgroup : concat(sources.cgroup, "/", controller);
    for (std::string path = line.substr(second + 1);; path = path.substr(0, path.rfind('/'))) {
      folders.push_back(root + (path == "/" ? "" : path));
      if (path.empty() || path == "/" || path.find('/') == std::string::npos) break;
    }
  }
  return folders;
}

/// What a cgroup uses and would give back: files that were read or have been written. Its keys begin with
/// `prefix`.
std::int64_t cache_in(const std::string& folder, const std::string& prefix) {
  const Result<std::string> text = read_file(folder + "/memory.stat", std::size_t{1} << 20);
  std::int64_t bytes = 0;
  if (!text.ok()) return bytes;
  for (const std::string& line : split(*text, '\n'))
    for (const char* key : {"active_file ", "inactive_file "})
      if (line.starts_with(prefix + key))
        bytes += parse_integer(line.substr(line.find(' ') + 1), 0, no_limit / 4).value_or(0);
  return bytes;
}

/// What one cgroup leaves of its memory.
std::int64_t left_in(std::int64_t limit, std::int64_t used, std::int64_t cache) {
  if (limit == no_limit || used == no_limit) return no_limit;
  return std::max<std::int64_t>(0, limit - std::max<std::int64_t>(0, used - cache));
}

std::int64_t node_memory(const LimitSources& sources) {
  const Result<std::string> text = read_file(sources.proc + "/meminfo", std::size_t{1} << 16);
  if (!text.ok()) return no_limit;
  for (const std::string& line : split(*text, '\n')) {
    constexpr std::string_view key = "MemAvailable:";
    if (!line.starts_with(key)) continue;
    const std::size_t begin = line.find_first_of("0123456789");
    if (begin == std::string::npos) break;
    const std::string number = line.substr(begin, line.find_first_not_of("0123456789", begin) - begin);
    if (const auto kib = parse_integer(number, 0, no_limit >> 10)) return *kib << 10;
  }
  return no_limit;
}

}  // namespace

std::int64_t free_memory_bytes(const Environment& environment, const LimitSources& sources) {
  std::int64_t free = node_memory(sources);
  for (const std::string& folder : cgroup_folders(sources, ""))
    free = std::min(free, left_in(number_in(folder + "/memory.max"), number_in(folder + "/memory.current"),
                                  cache_in(folder, "")));
  for (const std::string& folder : cgroup_folders(sources, "memory"))
    free = std::min(free, left_in(number_in(folder + "/memory.limit_in_bytes"),
                                  number_in(folder + "/memory.usage_in_bytes"), cache_in(folder, "total_")));
  // In MiB; 0 is all of it.
  if (const auto text = environment("SLURM_MEM_PER_NODE"))
    if (const auto mib = parse_integer(*text, 1, no_limit >> 20)) free = std::min(free, *mib << 20);
  return free == no_limit ? -1 : free;
}

std::optional<double> cpu_quota(const LimitSources& sources) {
  std::optional<double> quota;
  const auto take = [&quota](const std::string& used, const std::string& period) {
    const auto part = parse_integer(used, 1, no_limit);
    const auto whole = parse_integer(period, 1, no_limit);
    if (!part || !whole) return;
    const double cpus = static_cast<double>(*part) / static_cast<double>(*whole);
    quota = std::min(quota.value_or(cpus), cpus);
  };
  for (const std::string& folder : cgroup_folders(sources, "")) {
    const std::vector<std::string> words = split(first_line(folder + "/cpu.max"), ' ');
    if (words.size() == 2) take(words[0], words[1]);
  }
  for (const std::string& folder : cgroup_folders(sources, "cpu"))
    take(first_line(folder + "/cpu.cfs_quota_us"), first_line(folder + "/cpu.cfs_period_us"));
  return quota;
}

}  // namespace paceline
