#include <limits>

#include "paceline/base/text.hpp"
#include "where/adapters.hpp"

namespace paceline {
namespace {

// Steps that run no tasks of srun: sbatch's script, salloc's shell and what was adopted into the job. Their
// processes carry SLURM_PROCID too (slurm.h: SLURM_BATCH_SCRIPT, SLURM_INTERACTIVE_STEP, SLURM_EXTERN_CONT).
bool is_taskless_step(const std::string& step) {
  return step == "4294967291" || step == "4294967290" || step == "4294967292";
}

/// How many tasks node `index` has in a list like "2(x3),1".
std::optional<std::int64_t> tasks_on_node(const std::string& list, std::int64_t index) {
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  for (const std::string& part : split(list, ',')) {
    const std::size_t bracket = part.find("(x");
    const std::optional<std::int64_t> tasks = parse_integer(part.substr(0, bracket), 1, most);
    std::optional<std::int64_t> repeats = 1;
    if (bracket != std::string::npos) {
      if (part.back() != ')') return std::nullopt;
      repeats = parse_integer(part.substr(bracket + 2, part.size() - bracket - 3), 1, most);
    }
    if (!tasks || !repeats) return std::nullopt;
    if (index < *repeats) return tasks;
    index -= *repeats;
  }
  return std::nullopt;
}

std::string launch_id(const Environment& environment) {
  return concat("slurm/", environment("SLURM_CLUSTER_NAME").value_or(""), "/",
                environment("SLURM_JOB_ID").value_or(""), ".", environment("SLURM_STEP_ID").value_or(""), "/",
                environment("SLURM_RESTART_COUNT").value_or("0"));
}

Status find_local_tasks(const Environment& environment, Place& place) {
  PACELINE_ASSIGN(place.local_rank, launcher_variable(environment, "SLURM_LOCALID", 0, place.size - 1));
  PACELINE_ASSIGN(const std::int64_t node, launcher_variable(environment, "SLURM_NODEID", 0, place.size - 1));
  const std::string list = environment("SLURM_STEP_TASKS_PER_NODE").value_or("");
  const std::optional<std::int64_t> local_size = tasks_on_node(list, node);
  if (!local_size || *local_size <= place.local_rank || *local_size > place.size)
    return Error{
        ErrorCode::invalid_argument,
        concat("SLURM_STEP_TASKS_PER_NODE is '", list, "', in which node ", node, " cannot have task ",
               place.local_rank, ": unset SLURM_STEP_ID to start without srun")};
  place.local_size = *local_size;
  return {};
}

}  // namespace

Result<std::optional<Allocation>> slurm_allocation(const Environment& environment) {
  const std::optional<std::string> job = environment("SLURM_JOB_ID");
  const std::optional<std::string> step = environment("SLURM_STEP_ID");
  if (!job || !environment("SLURM_JOB_NODELIST") || (step && !is_taskless_step(*step))) return {std::nullopt};
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  Allocation allocation;
  allocation.by = "srun";
  allocation.why = concat("SLURM_JOB_ID is ", *job);
  const char* nodes_variable = environment("SLURM_JOB_NUM_NODES") ? "SLURM_JOB_NUM_NODES" : "SLURM_NNODES";
  PACELINE_ASSIGN(allocation.nodes, launcher_variable(environment, nodes_variable, 1, most));
  // Set where --ntasks or --ntasks-per-node was given.
  if (environment("SLURM_NTASKS")) {
    PACELINE_ASSIGN(allocation.ranks, launcher_variable(environment, "SLURM_NTASKS", 1, most));
  }
  return {std::move(allocation)};
}

Result<std::optional<Place>> slurm_place(const Environment& environment) {
  const std::optional<std::string> step = environment("SLURM_STEP_ID");
  if (!step || !environment("SLURM_PROCID") || is_taskless_step(*step)) return {std::nullopt};
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  Place place;
  place.launcher = "srun";
  place.why = concat("SLURM_STEP_ID is ", *step);
  const char* size_variable = environment("SLURM_STEP_NUM_TASKS") ? "SLURM_STEP_NUM_TASKS" : "SLURM_NTASKS";
  PACELINE_ASSIGN(place.size, launcher_variable(environment, size_variable, 1, most));
  PACELINE_ASSIGN(place.rank, launcher_variable(environment, "SLURM_PROCID", 0, place.size - 1));
  PACELINE_TRY(find_local_tasks(environment, place));
  const char* nodes_variable = environment("SLURM_STEP_NUM_NODES") ? "SLURM_STEP_NUM_NODES" : "SLURM_NNODES";
  PACELINE_ASSIGN(place.nodes, launcher_variable(environment, nodes_variable, 1, most));
  place.node = node_name(environment, "SLURMD_NODENAME");
  place.launch_id = launch_id(environment);
  place.one_host = place.nodes == 1;
  if (const auto cpus = environment("SLURM_CPUS_ON_NODE"))
    place.node_cpus = parse_integer(*cpus, 1, most).value_or(0);
  return {std::move(place)};
}

}  // namespace paceline
