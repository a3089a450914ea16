#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "doctor/check.hpp"

/// What figures mean: from numbers that were read, or made up by a test, to checks. Nothing is read here.
namespace paceline::doctor {

struct CoreFigures {
  std::int64_t own = 0;   ///< this process may run on
  std::int64_t node = 0;  ///< has the node
  std::optional<double> quota{};
  bool is_share = false;  ///< a launcher or Slurm has dealt them out
};
[[nodiscard]] Check judge_cores(const CoreFigures& figures);
/// `free_bytes`: within the cgroups and Slurm's share; -1: not known.
[[nodiscard]] Check judge_memory(std::int64_t free_bytes, std::int64_t cores);
struct Space {
  std::uint64_t bytes = 0;
  std::uint64_t free = 0;
};
[[nodiscard]] Check judge_shared_memory(const Space& space, bool has_gpus);

/// Limits as getrlimit gives them; nothing: there is none.
using Limit = std::optional<std::uint64_t>;
[[nodiscard]] Check judge_open_files(const Limit& now, const Limit& most);
[[nodiscard]] Check judge_locked_memory(const Limit& bytes, bool has_infiniband);
/// The folder below /sys/fs/cgroup that bounds a process's number of processes, by its /proc/self/cgroup.
[[nodiscard]] std::string pids_cgroup(const std::string& membership);
[[nodiscard]] Check judge_processes(const Limit& processes, std::int64_t cores);
[[nodiscard]] Check judge_stack(const Limit& bytes);

/// `chosen`: "madvise", of /sys/kernel/mm/transparent_hugepage/enabled; empty: there is no such file.
[[nodiscard]] Check judge_huge_pages(const std::string& chosen);
/// `refusal`: why not, empty where it works. `wish`: PACELINE_READS.
[[nodiscard]] Check judge_io_uring(const std::string& refusal, const std::string& wish);
/// `ptrace_scope`: of Yama; nothing: the kernel has none.
[[nodiscard]] Check judge_memory_of_others(const std::string& refusal,
                                           const std::optional<std::int64_t>& ptrace_scope);
/// Of the clock of this machine alone.
[[nodiscard]] Check judge_clock(bool is_synchronised);
/// How far the clock of a node is ahead of this machine's, and how sure that is.
[[nodiscard]] Check judge_skew(double ahead_s, double within_s);

struct MpiVersion {
  std::string flavour;  ///< "Open MPI", "MPICH", "Intel MPI"; empty: not known
  std::string version;
};
/// What `mpirun --version` prints.
[[nodiscard]] MpiVersion parse_mpi_version(const std::string& text);
/// `refuses_root`: this is root, and Open MPI has not been told that this is meant.
[[nodiscard]] Check judge_mpi(const MpiVersion& mpi, bool refuses_root);
/// The number that ncclGetVersion gives as "2.18.3".
[[nodiscard]] std::string nccl_version(int code);
/// The number that cuDriverGetVersion gives as "12.2".
[[nodiscard]] std::string cuda_version(int code);

struct Filesystem {
  std::string type;    ///< "ext4", "fuse"
  std::string source;  ///< "server:/export"
};
/// The filesystem of an absolute path without links, by /proc/self/mountinfo.
[[nodiscard]] Filesystem find_filesystem(const std::string& mountinfo, const std::string& path);
[[nodiscard]] Check judge_filesystem(const Filesystem& filesystem, const std::string& folder);
/// `free_names`: nothing where the filesystem does not count them.
[[nodiscard]] Check judge_free_space(const Space& space, const std::optional<std::uint64_t>& free_names);
/// How long a megabyte took to be on the disk.
[[nodiscard]] Check judge_sync(double seconds);
/// How long until the last node saw what another did.
[[nodiscard]] Check judge_delay(const std::string& name, double seconds);

}  // namespace paceline::doctor
