#include <limits>

#include "paceline/base/text.hpp"
#include "where/adapters.hpp"

namespace paceline {
namespace {

// The namespace repeats when process numbers do; the job's random key does not.
std::string launch_id(const Environment& environment) {
  return concat("openmpi/", environment("PMIX_NAMESPACE").value_or(""), "/",
                environment("OMPI_MCA_orte_precondition_transports").value_or(""), "/",
                environment("OMPI_MCA_orte_hnp_uri").value_or(""));
}

}  // namespace

Result<std::optional<Place>> openmpi_place(const Environment& environment) {
  if (!environment("OMPI_COMM_WORLD_RANK") && !environment("OMPI_COMM_WORLD_SIZE")) return {std::nullopt};
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  Place place;
  place.launcher = "mpirun";
  place.why = "OMPI_COMM_WORLD_RANK is set";
  PACELINE_ASSIGN(place.size, launcher_variable(environment, "OMPI_COMM_WORLD_SIZE", 1, most));
  PACELINE_ASSIGN(place.rank, launcher_variable(environment, "OMPI_COMM_WORLD_RANK", 0, place.size - 1));
  PACELINE_ASSIGN(place.local_size,
                  launcher_variable(environment, "OMPI_COMM_WORLD_LOCAL_SIZE", 1, place.size));
  PACELINE_ASSIGN(place.local_rank,
                  launcher_variable(environment, "OMPI_COMM_WORLD_LOCAL_RANK", 0, place.local_size - 1));
  place.node = node_name(environment);
  place.launch_id = launch_id(environment);
  place.one_host = place.local_size == place.size;
  place.nodes = place.one_host ? 1 : 0;
  if (const auto nodes = environment("OMPI_MCA_orte_num_nodes"))
    place.nodes = parse_integer(*nodes, 1, place.size).value_or(place.nodes);
  return {std::move(place)};
}

}  // namespace paceline
