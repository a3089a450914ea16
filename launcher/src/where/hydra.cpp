// mpiexec and mpirun of MPICH, and of MPI libraries that come from it.
#include <chrono>
#include <limits>

#include "paceline/base/text.hpp"
#include "where/adapters.hpp"
#include "where/pmi.hpp"

namespace paceline {
namespace {

constexpr Duration answer_limit = std::chrono::seconds(20);

/// No variable says it: the process manager does, once.
Result<std::string> launch_id(const Environment& environment) {
  if (const auto known = environment(known_launch_id)) return *known;
  PACELINE_ASSIGN(const std::int64_t fd,
                  launcher_variable(environment, "PMI_FD", 0, std::numeric_limits<std::int32_t>::max()));
  Result<std::string> name = pmi_job_name(static_cast<int>(fd), answer_limit);
  if (!name.ok())
    return Error{name.error().code, concat("cannot ask mpiexec (PMI_FD is ", fd,
                                           ") for the name of its job: ", name.error().message,
                                           "; it answers one paceline in each process that it starts")};
  return concat("hydra/", *name);
}

}  // namespace

Result<std::optional<Place>> hydra_place(const Environment& environment) {
  // Slurm's PMI-2 sets PMI_RANK as well, but nothing of the local ranks.
  if (!environment("PMI_RANK") || !environment("MPI_LOCALNRANKS")) return {std::nullopt};
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  Place place;
  place.launcher = "mpiexec";
  place.why = "PMI_RANK and MPI_LOCALNRANKS are set";
  PACELINE_ASSIGN(place.size, launcher_variable(environment, "PMI_SIZE", 1, most));
  PACELINE_ASSIGN(place.rank, launcher_variable(environment, "PMI_RANK", 0, place.size - 1));
  PACELINE_ASSIGN(place.local_size, launcher_variable(environment, "MPI_LOCALNRANKS", 1, place.size));
  PACELINE_ASSIGN(place.local_rank,
                  launcher_variable(environment, "MPI_LOCALRANKID", 0, place.local_size - 1));
  place.node = node_name(environment);
  place.one_host = place.local_size == place.size;
  place.nodes = place.one_host ? 1 : 0;
  PACELINE_ASSIGN(place.launch_id, launch_id(environment));
  return {std::move(place)};
}

}  // namespace paceline
