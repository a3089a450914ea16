#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "paceline/base/result.hpp"

namespace paceline {

/// Looks up an environment variable; nothing where it is unset or empty.
using Environment = std::function<std::optional<std::string>(const char* name)>;

/// Who started this process, and as which of how many.
struct Place {
  std::string
      launcher;     ///< "mpirun", "mpiexec", "srun"; empty in a plain shell, where one agent starts all ranks
  std::string why;  ///< what gave it away, for error messages
  std::int64_t rank = 0;
  std::int64_t size = 1;
  std::int64_t local_rank = 0;
  std::int64_t local_size = 1;
  std::string node;            ///< this node's name, or in a plain shell one name for each rank, with commas
  std::string launch_id;       ///< the same for all processes of this launch, and for no other launch
  std::int64_t nodes = 0;      ///< 0: not known
  bool one_host = true;        ///< all processes of the launch are on this machine
  std::int64_t node_cpus = 0;  ///< hardware threads that the launch has on this node; 0: all there are

  [[nodiscard]] bool in_shell() const noexcept { return launcher.empty(); }
};

/// Asks each adapter in turn: MPI's launchers first, because inside a Slurm job their processes see the
/// variables of the step that started their daemons. An error where the variables contradict themselves. To
/// be called once: a process manager may have been asked.
[[nodiscard]] Result<Place> find_place(const Environment& environment);

/// The name of each of `ranks` ranks' node, as far as this process can know: in a plain shell PACELINE_NODE
/// may list one for each rank; elsewhere all get this node's.
[[nodiscard]] Result<std::vector<std::string>> node_names(const Place& place, std::int64_t ranks);

}  // namespace paceline
