#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "where/place.hpp"

namespace paceline {

/// Where the kernel tells what a process may use; folders of their own in tests.
struct LimitSources {
  std::string proc = "/proc";
  std::string cgroup = "/sys/fs/cgroup";
};

/// Memory that this process may still take: what the node has free, within every cgroup above it (v1 and v2)
/// and Slurm's SLURM_MEM_PER_NODE. -1: not known.
[[nodiscard]] std::int64_t free_memory_bytes(const Environment& environment,
                                             const LimitSources& sources = {});

/// How many CPUs' time the cgroups above this process let it have (cpu.max, cpu.cfs_quota_us). Nothing: all.
[[nodiscard]] std::optional<double> cpu_quota(const LimitSources& sources = {});

}  // namespace paceline
