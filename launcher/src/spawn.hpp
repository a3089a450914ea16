#pragma once

#include <sys/types.h>

#include <csignal>
#include <cstdint>
#include <string>
#include <vector>

#include "paceline/base/result.hpp"

namespace paceline {

/// What a worker process is given. Descriptors are views; the child gets copies, and no other descriptor.
struct SpawnRequest {
  std::string program;
  std::int64_t rank = 0;
  std::int64_t threads = 1;
  std::vector<int> cpus;                  ///< to pin it to; empty: it inherits this process's affinity
  std::string gpu = {};                   ///< becomes its CUDA_VISIBLE_DEVICES; empty: it inherits that
  int channel_fd = -1;                    ///< becomes worker_channel_fd
  int listener_fd = -1;                   ///< becomes worker_listener_fd; -1: none
  int output_fd = -1;                     ///< becomes its standard output and error
  const sigset_t* signal_mask = nullptr;  ///< to run it with
};

/// Starts the program as a child in a process group of its own, which the kernel kills when the calling
/// thread dies; what ends jobs (SIGINT, SIGTERM, SIGHUP) it ignores. When this returns the program runs; if
/// it could not be started, the error says why and no child is left.
[[nodiscard]] Result<pid_t> spawn(const SpawnRequest& request);

/// The environment of a worker: ours, with its rank and thread counts, its GPU if it has one of its own, and
/// huge pages for its tensors.
[[nodiscard]] std::vector<std::string> worker_environment(const std::vector<std::string>& ours,
                                                          std::int64_t rank, std::int64_t threads,
                                                          const std::string& gpu = {});

/// PACELINE_WORKER, else `paceline-worker` beside this program. unsupported where it cannot be executed.
[[nodiscard]] Result<std::string> find_worker_program();
/// The path of this one.
[[nodiscard]] Result<std::string> own_program();
/// A batch script that comes with Paceline, by its name: in share/paceline/slurm of where this program was
/// built or installed.
[[nodiscard]] Result<std::string> find_batch_script(const std::string& name);

}  // namespace paceline
