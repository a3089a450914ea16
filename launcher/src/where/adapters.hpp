#pragma once

#include <optional>

#include "where/allocation.hpp"
#include "where/place.hpp"

namespace paceline {

/// Each adapter says where this process is, or nothing where it was not started by that launcher.
[[nodiscard]] Result<std::optional<Place>> openmpi_place(const Environment& environment);
/// A variable with the launch's id, for processes that this one starts: mpiexec tells it only once.
inline constexpr const char* known_launch_id = "PACELINE_LAUNCH_ID";
[[nodiscard]] Result<std::optional<Place>> hydra_place(const Environment& environment);
[[nodiscard]] Result<std::optional<Place>> slurm_place(const Environment& environment);
/// Always there: nobody but a person or a script started this process.
[[nodiscard]] Place shell_place(const Environment& environment);

/// The job of the script or shell that this process belongs to, where it is no task of srun.
[[nodiscard]] Result<std::optional<Allocation>> slurm_allocation(const Environment& environment);

/// Shared by the adapters: an integer that the launcher must have set.
[[nodiscard]] Result<std::int64_t> launcher_variable(const Environment& environment, const char* name,
                                                     std::int64_t least, std::int64_t greatest);
/// PACELINE_NODE, else `launchers_name`, else the host's name.
[[nodiscard]] std::string node_name(const Environment& environment, const char* launchers_name = nullptr);

}  // namespace paceline
