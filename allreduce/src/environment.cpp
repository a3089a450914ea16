#include <functional>

#include "paceline/allreduce.hpp"
#include "paceline/base/hash.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

/// One launcher's way of telling a process who it is.
struct Convention {
  const char* name;
  const char* rank;
  const char* size;
  const char* local_size;  ///< null: not told
  const char* job;         ///< null: not told
};

constexpr Convention conventions[] = {
    {"RANK and WORLD_SIZE", "RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", nullptr},
    {"Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE",
     "PMIX_NAMESPACE"},
    {"Slurm", "SLURM_PROCID", "SLURM_NTASKS", nullptr, "SLURM_JOB_ID"},
};

constexpr std::int64_t default_port = 29411;

Result<std::int64_t> number(const char* name, std::int64_t least, std::int64_t greatest) {
  const std::string text = environment(name).value_or("");
  const auto value = parse_integer(text, least, greatest);
  if (value.has_value()) return *value;
  return Error{ErrorCode::invalid_argument,
               concat(name, " is \"", text, "\": it must be a number from ", least, " to ", greatest)};
}

/// Jobs of one launcher can run side by side, so each takes a port of its own, below those that the kernel
/// hands out by itself.
std::int64_t port_of_job(const std::string& job) {
  std::uint64_t hash = 0;
  for (const char c : job) hash = mix64(hash, static_cast<unsigned char>(c));
  return 20000 + static_cast<std::int64_t>(hash % 9000);
}

Result<Member> place_of_rank_0(const Convention& convention, std::int64_t size) {
  Member place;
  place.port = static_cast<std::uint16_t>(default_port);
  if (convention.job != nullptr && environment(convention.job).has_value())
    place.port = static_cast<std::uint16_t>(port_of_job(*environment(convention.job)));
  if (environment("PACELINE_PORT").has_value()) {
    PACELINE_ASSIGN(const std::int64_t port, number("PACELINE_PORT", 1, 65535));
    place.port = static_cast<std::uint16_t>(port);
  }
  const bool one_node = size == 1 || (convention.local_size != nullptr &&
                                      environment(convention.local_size) == std::to_string(size));
  if (const auto host = environment("MASTER_ADDR")) {
    place.host = *host;
  } else if (one_node) {
    place.host = "127.0.0.1";
  } else {
    return Error{ErrorCode::invalid_argument,
                 "the ranks are on several nodes, so set MASTER_ADDR to the address of rank 0's"};
  }
  return place;
}

}  // namespace

Result<Communicator> Communicator::from_environment(CommunicatorOptions options) {
  for (const Convention& convention : conventions) {
    if (!environment(convention.rank).has_value() || !environment(convention.size).has_value()) continue;
    PACELINE_ASSIGN(const std::int64_t size, number(convention.size, 1, 1 << 20));
    PACELINE_ASSIGN(const std::int64_t rank, number(convention.rank, 0, size - 1));
    PACELINE_ASSIGN(const Member place, place_of_rank_0(convention, size));
    if (options.secret.empty()) options.secret = environment("PACELINE_SECRET").value_or("");
    std::vector<Member> members(static_cast<std::size_t>(size));
    members[0] = place;
    auto communicator = connect(static_cast<int>(rank), members, std::move(options));
    if (!communicator.ok())
      return communicator.error().with_context(concat("rank ", rank, " of ", size, " by ", convention.name));
    return communicator;
  }
  return Error{
      ErrorCode::not_found,
      "nothing in the environment says which rank this is: start it with mpirun, srun or torchrun, or "
      "set RANK, WORLD_SIZE and MASTER_ADDR"};
}

}  // namespace paceline
