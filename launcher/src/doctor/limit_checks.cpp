#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <limits>

#include "doctor/machine_checks.hpp"
#include "doctor/rules.hpp"
#include "inventory.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"
#include "resources/limits.hpp"

namespace paceline::doctor {
namespace {

Limit limit_of(rlim_t value) {
  if (value == RLIM_INFINITY) return std::nullopt;
  return value;
}

/// Soft and hard.
std::pair<Limit, Limit> limits_of(__rlimit_resource resource) {
  rlimit limits{};
  if (::getrlimit(resource, &limits) != 0) return {};
  return {limit_of(limits.rlim_cur), limit_of(limits.rlim_max)};
}

bool has_entries(const char* folder) {
  std::error_code error;
  const std::filesystem::directory_iterator entries(folder, error);
  return !error && entries != std::filesystem::directory_iterator();
}

Check check_shared_memory() {
  struct statvfs figures {};
  if (::statvfs("/dev/shm", &figures) != 0)
    return warning("/dev/shm", system_error("it cannot be looked at").message,
                   "mount a tmpfs there: NCCL and Open MPI need it");
  const std::uint64_t block = figures.f_frsize;
  return judge_shared_memory({figures.f_blocks * block, figures.f_bavail * block},
                             has_entries("/proc/driver/nvidia/gpus"));
}

/// pids.max of the cgroup that this process is in.
Limit cgroup_processes() {
  const Result<std::string> membership = read_file("/proc/self/cgroup");
  if (!membership.ok()) return std::nullopt;
  const std::string path = "/sys/fs/cgroup" + pids_cgroup(*membership) + "/pids.max";
  const Result<std::string> text = read_file(path);
  if (!text.ok()) return std::nullopt;  // the root has none
  const auto number =
      parse_integer(text->substr(0, text->find('\n')), 0, std::numeric_limits<std::int64_t>::max());
  return number ? Limit(static_cast<std::uint64_t>(*number)) : std::nullopt;
}

Limit process_limit() {
  // Root's are not counted.
  const Limit own = ::geteuid() == 0 ? Limit() : limits_of(RLIMIT_NPROC).first;
  const Limit cgroup = cgroup_processes();
  if (own && cgroup) return std::min(*own, *cgroup);
  return own ? own : cgroup;
}

}  // namespace

void check_limits(const Place& place, const Sink& sink) {
  const Result<NodeInventory> node = take_inventory();
  const std::int64_t cores = node.ok() ? std::ssize(node->own.cores) : 1;
  if (!node.ok())
    sink(from_advice("cores", State::problem, node.error()));
  else
    sink(judge_cores({.own = cores,
                      .node = node->cores,
                      .quota = node->quota,
                      .is_share = !place.in_shell() || environment("SLURM_JOB_ID").has_value()}));
  sink(judge_memory(free_memory_bytes([](const char* name) { return environment(name); }), cores));
  sink(check_shared_memory());
  const auto [files, most_files] = limits_of(RLIMIT_NOFILE);
  sink(judge_open_files(files, most_files));
  sink(judge_locked_memory(limits_of(RLIMIT_MEMLOCK).first, has_entries("/sys/class/infiniband")));
  sink(judge_processes(process_limit(), cores));
  sink(judge_stack(limits_of(RLIMIT_STACK).first));
}

}  // namespace paceline::doctor
