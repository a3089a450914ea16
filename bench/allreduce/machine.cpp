#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdlib>

#include "allreduce/report.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

std::string processor() {
  const Result<std::string> text = read_file("/proc/cpuinfo");
  if (!text.ok()) return "unknown";
  for (const std::string& line : split(*text, '\n'))
    if (line.rfind("model name", 0) == 0 && line.find(": ") != std::string::npos)
      return line.substr(line.find(": ") + 2);
  return "unknown";
}

/// The chosen one of "always [madvise] never".
std::string chosen(const std::string& path) {
  const Result<std::string> text = read_file(path);
  if (!text.ok()) return "unknown";
  const std::size_t begin = text->find('[');
  const std::size_t end = text->find(']');
  if (begin == std::string::npos || end == std::string::npos || end < begin) return "unknown";
  return text->substr(begin + 1, end - begin - 1);
}

}  // namespace

Machine this_machine() {
  Machine machine;
  machine.processor = processor();
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) == 0) machine.cores = CPU_COUNT(&set);
  machine.memory_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
                         static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  utsname names{};
  if (::uname(&names) == 0) machine.kernel = concat(names.sysname, " ", names.release);
  const std::string folder = "/sys/kernel/mm/transparent_hugepage/";
  machine.huge_pages = chosen(folder + "enabled");
  machine.shared_huge_pages = chosen(folder + "shmem_enabled");
  if (::getloadavg(&machine.load, 1) != 1) machine.load = -1;
  return machine;
}

std::string describe(const Machine& machine) {
  return concat(machine.processor, ", ", machine.cores, machine.cores == 1 ? " core" : " cores", ", ",
                human_bytes(machine.memory_bytes), ", ", machine.kernel, ", huge pages ", machine.huge_pages,
                " (shared: ", machine.shared_huge_pages, "), load ", machine.load);
}

}  // namespace paceline::bench
