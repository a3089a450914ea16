#pragma once

#include <string>
#include <vector>

#include "doctor/child.hpp"

namespace paceline::doctor {

/// Starts a worker as an agent does, and waits for its first message.
[[nodiscard]] Check check_worker(StopSignals& signals);
/// What starts processes on other machines: mpirun, Slurm's commands, ssh.
void check_launchers(StopSignals& signals, const Sink& sink);

/// What a program prints, on both streams. not_found: there is no such program; timeout; aborted by a signal;
/// io, where it ends with anything but 0.
[[nodiscard]] Result<std::string> words_of(const std::vector<std::string>& command, StopSignals& signals);

/// GPU driver, CUDA, NCCL: loaded into this process, which may crash or hang.
void check_gpu_libraries(const Sink& sink);

}  // namespace paceline::doctor
