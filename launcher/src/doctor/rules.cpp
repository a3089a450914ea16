#include "doctor/rules.hpp"

#include <algorithm>
#include <cmath>

#include "format.hpp"
#include "paceline/base/text.hpp"

namespace paceline::doctor {
namespace {

constexpr std::uint64_t kib = 1024, mib = 1024 * kib, gib = 1024 * mib;

// A worker that has loaded LibTorch and a small model takes about 300 MiB.
constexpr std::uint64_t least_memory = 512 * mib;
constexpr std::uint64_t memory_for_each_core = gib;
// Paceline's own shared memory is made with memfd_create and not bound by /dev/shm. NCCL's is there: it
// fails with the 64 MiB that containers have by default, and its manual asks for 1 GiB.
constexpr std::uint64_t least_shared_memory = 64 * mib + 1;
constexpr std::uint64_t enough_shared_memory = gib;
// An agent has four descriptors for each worker, a worker one for each rank on other nodes and each shard
// that it reads.
constexpr std::uint64_t least_files = 256, enough_files = 1024;
// Threads count as processes: a worker has one for each core, and about ten more.
constexpr std::uint64_t least_processes = 64, enough_processes = 512, processes_for_each_core = 16;
// The usual one is 8 MiB; what threads get where there is no limit is 2 MiB.
constexpr std::uint64_t least_stack = 256 * kib, enough_stack = 2 * mib;
// What a run without checkpoints needs at least; and a model with some checkpoints.
constexpr std::uint64_t least_space = 64 * mib, enough_space = 2 * gib;
constexpr std::uint64_t least_names = 1000;
// A commit of the journal is synced several times a second.
constexpr double slow_sync_s = 1;
// Agents look for a coordinator's file for ten seconds before the next one is started.
constexpr double slow_view_s = 2;
// As for `paceline train`, which refuses more: TLS would not trust the job's certificate.
constexpr double most_skew_s = 30, small_skew_s = 1;

std::string cores_text(std::int64_t cores) {
  return concat(cores, cores == 1 ? " core" : " cores");
}

std::string text_of(const Limit& limit) {
  return limit ? std::to_string(*limit) : "unlimited";
}

std::string space_text(const Space& space) {
  return concat(human_bytes(space.free), " free of ", human_bytes(space.bytes));
}

std::string first_number(const std::string& text, std::size_t from) {
  const std::size_t begin = text.find_first_of("0123456789", from);
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_first_of(" \t\r\n,", begin) - begin);
}

/// mountinfo writes a space as \040.
std::string unescaped(const std::string& text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool escaped =
        text[i] == '\\' && i + 3 < text.size() &&
        std::ranges::all_of(text.substr(i + 1, 3), [](char c) { return c >= '0' && c < '8'; });
    if (!escaped) {
      result += text[i];
      continue;
    }
    result += static_cast<char>(64 * (text[i + 1] - '0') + 8 * (text[i + 2] - '0') + (text[i + 3] - '0'));
    i += 3;
  }
  return result;
}

bool is_within(const std::string& path, const std::string& folder) {
  return folder == "/" || path == folder || path.starts_with(folder + "/");
}

}  // namespace

Check judge_cores(const CoreFigures& figures) {
  const std::string found = figures.own == figures.node
                                ? concat("all ", cores_text(figures.node), " of the node")
                                : concat(figures.own, " of the node's ", cores_text(figures.node));
  if (figures.quota && *figures.quota < static_cast<double>(figures.own))
    return warning("cores", concat(found, ", but the cgroup allows the time of ", fixed(*figures.quota, 1)),
                   "have its CPU limit raised; ranks beyond it would be stopped in turns");
  if (figures.own < figures.node && !figures.is_share)
    return warning("cores", found, "this shell is bound to them; start from one that is not (taskset -p $$)");
  return fine("cores", found);
}

Check judge_memory(std::int64_t free_bytes, std::int64_t cores) {
  if (free_bytes < 0)
    return warning("memory", "the kernel does not say what is free", "see that /proc is mounted");
  const auto free = static_cast<std::uint64_t>(free_bytes);
  const std::string found = concat(human_bytes(free), " free within all limits, for ", cores_text(cores));
  if (free < least_memory)
    return problem("memory", found,
                   concat("a worker needs ", human_bytes(least_memory), "; ask for more, or end others"));
  if (free < memory_for_each_core * static_cast<std::uint64_t>(std::max<std::int64_t>(cores, 1)))
    return warning("memory", found,
                   concat("with a rank for each core each should have ", human_bytes(memory_for_each_core),
                          "; ask for more, or set --ranks"));
  return fine("memory", found);
}

Check judge_shared_memory(const Space& space, bool has_gpus) {
  static const std::string mend =
      "NCCL needs 1 GiB there; mount it larger (containers: --shm-size=1g). Paceline's own does not count";
  if (space.free >= enough_shared_memory) return fine("/dev/shm", space_text(space));
  const bool fails = has_gpus && space.free < least_shared_memory;
  return {"/dev/shm", fails ? State::problem : State::warning, space_text(space), mend};
}

Check judge_open_files(const Limit& now, const Limit& most) {
  const std::string found = concat(text_of(now), " of at most ", text_of(most));
  if (!now || *now >= enough_files) return fine("open files", found);
  const bool may_raise = !most || *most >= enough_files;
  const std::string mend = may_raise ? concat("ulimit -n ", enough_files)
                                     : concat("have the hard limit raised to ", enough_files,
                                              " (limits.conf, or LimitNOFILE of slurmd)");
  return {"open files", *now < least_files ? State::problem : State::warning, found, mend};
}

Check judge_locked_memory(const Limit& bytes, bool has_infiniband) {
  const std::string found = bytes ? human_bytes(*bytes) : "unlimited";
  if (!bytes || !has_infiniband)
    return fine("locked memory", concat(found, has_infiniband ? "" : " (only InfiniBand needs more)"));
  return warning("locked memory", concat(found, ", and there is InfiniBand, whose buffers are locked"),
                 "ulimit -l unlimited (limits.conf, or LimitMEMLOCK of slurmd)");
}

std::string pids_cgroup(const std::string& membership) {
  std::string unified = "/";
  for (const std::string& line : split(membership, '\n')) {
    // 8:pids:/a/b (v1), or 0::/a/b (v2)
    const std::vector<std::string> parts = split(line, ':');
    if (parts.size() != 3) continue;
    if (parts[1] == "pids") return "/pids" + parts[2];
    if (parts[1].empty()) unified = parts[2];
  }
  return unified;
}

Check judge_processes(const Limit& processes, std::int64_t cores) {
  const std::string found = text_of(processes);
  const std::uint64_t enough =
      enough_processes +
      processes_for_each_core * static_cast<std::uint64_t>(std::max<std::int64_t>(cores, 0));
  if (!processes || *processes >= enough) return fine("processes", found);
  return {"processes", *processes < least_processes ? State::problem : State::warning,
          concat(found, " (threads count)"),
          concat("raise it to ", enough, " (ulimit -u, or pids.max of the cgroup)")};
}

Check judge_stack(const Limit& bytes) {
  const std::string found = bytes ? human_bytes(*bytes) : "unlimited";
  if (!bytes || *bytes >= enough_stack) return fine("stack", found);
  return {"stack", *bytes < least_stack ? State::problem : State::warning, found, "ulimit -s 8192"};
}

Check judge_huge_pages(const std::string& chosen) {
  if (chosen == "always" || chosen == "madvise") return fine("huge pages", chosen);
  return warning("huge pages", chosen.empty() ? "the kernel has none" : chosen,
                 "tensors get small pages, which is slower; as root: echo madvise > "
                 "/sys/kernel/mm/transparent_hugepage/enabled");
}

Check judge_io_uring(const std::string& refusal, const std::string& wish) {
  if (!wish.empty() && wish != "io_uring" && wish != "threads")
    return problem("io_uring", concat("PACELINE_READS is ", shown(wish)), "it takes io_uring or threads");
  if (refusal.empty()) return fine("io_uring", wish == "threads" ? "works; PACELINE_READS=threads" : "works");
  if (wish == "io_uring")
    return problem("io_uring", concat("refused (", refusal, "), and PACELINE_READS asks for it"),
                   "unset PACELINE_READS, and threads read instead");
  return warning("io_uring", concat("refused (", refusal, ")"),
                 "threads read instead, with more CPU time; sysctl kernel.io_uring_disabled=0, or allow it "
                 "in the container's seccomp profile");
}

Check judge_memory_of_others(const std::string& refusal, const std::optional<std::int64_t>& ptrace_scope) {
  if (refusal.empty()) return fine("process_vm_readv", "ranks can read each other's memory");
  const std::string why =
      ptrace_scope.value_or(0) > 0 ? concat(", kernel.yama.ptrace_scope is ", *ptrace_scope) : "";
  return absent("process_vm_readv", concat("refused (", refusal, why, ")"),
                "ranks of a node use shared memory for everything, which is mostly as fast; "
                "sysctl kernel.yama.ptrace_scope=0 allows it");
}

Check judge_clock(bool is_synchronised) {
  if (is_synchronised) return fine("clock", "synchronised");
  return warning(
      "clock", "nothing keeps it right",
      "run chrony or systemd-timesyncd; jobs of several machines need clocks that agree within 30 s");
}

Check judge_skew(double ahead_s, double within_s) {
  const double apart = std::max(0.0, std::abs(ahead_s) - within_s);
  const std::string found = concat(fixed(std::abs(ahead_s), 3), " s ", ahead_s < 0 ? "behind" : "ahead of",
                                   " this machine's, within ", fixed(within_s, 3), " s");
  static const std::string mend = "synchronise them (chrony, systemd-timesyncd)";
  if (apart > most_skew_s) return problem("clock of the node", found, mend);
  if (apart > small_skew_s) return warning("clock of the node", found, mend);
  return fine("clock of the node", found);
}

MpiVersion parse_mpi_version(const std::string& text) {
  struct Sign {
    const char* words;
    const char* flavour;
    const char* before_version;
  };
  for (const Sign& sign :
       {Sign{"(Open MPI)", "Open MPI", "(Open MPI)"}, Sign{"Intel(R) MPI", "Intel MPI", "Version"},
        Sign{"HYDRA", "MPICH", "Version:"}}) {
    if (text.find(sign.words) == std::string::npos) continue;
    const std::size_t at = text.find(sign.before_version);
    return {sign.flavour, at == std::string::npos ? "" : first_number(text, at)};
  }
  return {};
}

Check judge_mpi(const MpiVersion& mpi, bool refuses_root) {
  if (mpi.flavour.empty())
    return warning(
        "mpirun", "one that does not say what it is",
        "paceline knows Open MPI, and MPICH and its descendants; use one of them, srun, or --hosts");
  const std::string found = concat(mpi.flavour, " ", mpi.version);
  if (refuses_root && mpi.flavour == "Open MPI")
    return warning("mpirun", concat(found, " does not start anything for root"),
                   "export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1");
  return fine("mpirun", found);
}

std::string nccl_version(int code) {
  // 2.8 and older had one digit for the middle number.
  const int unit = code >= 10000 ? 10000 : 1000;
  return concat(code / unit, ".", code % unit / 100, ".", code % 100);
}

std::string cuda_version(int code) {
  return concat(code / 1000, ".", code % 1000 / 10);
}

Filesystem find_filesystem(const std::string& mountinfo, const std::string& path) {
  // 36 35 98:0 /root /mount/point rw,noatime shared:1 - ext4 /dev/sda rw (proc_pid_mountinfo(5))
  Filesystem found;
  std::size_t longest = 0;
  for (const std::string& line : split(mountinfo, '\n')) {
    const std::vector<std::string> words = split(line, ' ');
    const auto dash = std::ranges::find(words, "-");
    if (words.size() < 5 || words.end() - dash < 3) continue;
    const std::string point = unescaped(words[4]);
    // Of several on one place the last is on top.
    if (!is_within(path, point) || point.size() < longest) continue;
    longest = point.size();
    found = {*(dash + 1), unescaped(*(dash + 2))};
  }
  return found;
}

Check judge_filesystem(const Filesystem& filesystem, const std::string& folder) {
  const std::string found =
      concat(shown(folder), " on ", filesystem.type.empty() ? "an unknown filesystem" : filesystem.type,
             filesystem.source.empty() ? "" : concat(" (", shown(filesystem.source), ")"));
  if (filesystem.type == "tmpfs" || filesystem.type == "ramfs")
    return warning("folder", found,
                   "that is memory: what is there ends with the machine; name a disk with --folder");
  if (filesystem.type == "overlay")
    return warning("folder", found, "a container's own layer ends with it; mount a folder from outside");
  return fine("folder", found);
}

Check judge_free_space(const Space& space, const std::optional<std::uint64_t>& free_names) {
  const std::string found = space_text(space);
  static const std::string mend = "make room: a run writes its model, checkpoints and logs there";
  if (space.free < least_space) return problem("free space", found, mend);
  if (free_names && *free_names < least_names)
    return problem("free space", concat(found, ", but only for ", *free_names, " more files"),
                   "remove files: the filesystem has no more inodes");
  if (space.free < enough_space) return warning("free space", found, mend);
  return fine("free space", found);
}

Check judge_sync(double seconds) {
  const std::string found = concat("1 MiB in ", fixed(seconds * 1e3, 1), " ms");
  if (seconds < slow_sync_s) return fine("fsync", found);
  return warning("fsync", found, "each commit and checkpoint waits for it; use a faster filesystem for runs");
}

Check judge_delay(const std::string& name, double seconds) {
  const std::string found = concat("by all after ", fixed(seconds, 2), " s");
  if (seconds < slow_view_s) return fine(name, found);
  return warning(name, found,
                 "nodes find their coordinator through files; mount with shorter caches (NFS: actimeo=1 and "
                 "lookupcache=positive)");
}

}  // namespace paceline::doctor
