#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace paceline::bench {

/// The processes that the main thread of `pid` has started and that have not been waited for.
[[nodiscard]] std::vector<pid_t> children_of(pid_t pid);

/// Which worker of a job a process is, by its environment. Nothing: it is no worker, has ended, or has not
/// begun to be one.
[[nodiscard]] std::optional<std::int64_t> worker_number(pid_t pid);

/// Bytes of a process; of one that has ended: zeros.
struct ProcessMemory {
  double resident = 0;
  double anonymous = 0;  ///< its own, which no other process has; shared memory is not in it
};
[[nodiscard]] ProcessMemory memory_of(pid_t pid);

/// Bytes that new processes can have without swapping, by the kernel's estimate. Nothing: it doesn't say.
[[nodiscard]] std::optional<double> available_memory();

}  // namespace paceline::bench
