#include "allreduce/recipes.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

struct Peer {
  const char* name;
  const char* program;   ///< ours, in bench/ beside this program
  const char* launcher;  ///< theirs; null: we start the ranks ourselves
  const char* packages;
  const char* missing_types;  ///< that it cannot add up, each between spaces
};

constexpr Peer peers[] = {
    {"openmpi", "allreduce_openmpi", "mpirun.openmpi", "openmpi-bin libopenmpi-dev", " f16 bf16 "},
    {"mpich", "allreduce_mpich", "mpiexec.mpich", "mpich libmpich-dev", " f16 bf16 "},
    {"gloo", "allreduce_gloo", nullptr, "libgloo-dev", " bf16 "},
};

const Peer* find_peer(const std::string& name) {
  for (const Peer& peer : peers)
    if (name == peer.name) return &peer;
  return nullptr;
}

std::string own_program() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).string();
}

std::string program_in_bench(const std::string& name) {
  return (std::filesystem::path(own_program()).parent_path() / "bench" / name).string();
}

std::string peer_program(const Peer& peer) {
  return program_in_bench(peer.program);
}

bool in_path(const std::string& program) {
  for (const std::string& folder : split(environment("PATH").value_or("/usr/bin:/bin"), ':'))
    if (::access(concat(folder, "/", program).c_str(), X_OK) == 0) return true;
  return false;
}

/// What every rank of every contender is told.
std::vector<std::string> rank_arguments(const AllreduceOptions& options, const Placement& placement,
                                        const Meeting& meeting) {
  std::vector<std::string> arguments = {"--driver",    concat(placement.driver_host, ":", meeting.port),
                                        "--token",     meeting.token,
                                        "--ranks",     std::to_string(options.ranks),
                                        "--max-bytes", std::to_string(options.max_bytes),
                                        "--dtype",     options.dtype,
                                        "--folder",    meeting.folder};
  std::string cpus;
  for (const int cpu : placement.cpus) cpus += concat(cpus.empty() ? "" : ",", cpu);
  if (!cpus.empty()) arguments.insert(arguments.end(), {"--cpus", cpus});
  return arguments;
}

void append(std::vector<std::string>& to, const std::vector<std::string>& more) {
  to.insert(to.end(), more.begin(), more.end());
}

Command command_of(const std::string& contender, const Meeting& meeting) {
  Command command;
  command.output_file = concat(meeting.folder, "/", contender, ".log");
  command.environment["TMPDIR"] = meeting.folder;
  return command;
}

/// One process for each rank, on its host.
Recipe each_rank(const std::string& contender, const std::vector<std::string>& program,
                 const AllreduceOptions& options, const Placement& placement, const Meeting& meeting) {
  Recipe recipe{contender, {}};
  for (int rank = 0; rank < options.ranks; ++rank) {
    Command command = command_of(contender, meeting);
    const Host* host = placement.host_of(rank);
    if (host != nullptr) append(command.arguments, host->command);
    append(command.arguments, program);
    append(command.arguments, {"--rank", std::to_string(rank)});
    if (host != nullptr) append(command.arguments, {"--address", host->address});
    append(command.arguments, rank_arguments(options, placement, meeting));
    recipe.commands.push_back(std::move(command));
  }
  return recipe;
}

/// The node and the address of each rank, as allreduce/ours.cpp reads them.
std::vector<std::string> own_program_arguments(const AllreduceOptions& options, const Placement& placement) {
  std::string members;
  for (int rank = 0; rank < options.ranks; ++rank) {
    const Host* host = placement.host_of(rank);
    const int node = placement.node_of_rank[static_cast<std::size_t>(rank)];
    if (rank > 0) members += ',';
    // One machine keeps its own name, which is also that of its memory.
    if (host != nullptr)
      members += concat(host->name, "/", host->address);
    else
      members += concat(placement.layout.size() == 1 ? "" : concat("node", node), "/127.0.0.1");
  }
  return {"--members", members, "--memory", options.memory, "--codec", options.codec};
}

/// Open MPI starts its daemons through this, as NAME COMMAND.
Status write_agent(const std::string& path, const Placement& placement) {
  std::string script = "#!/bin/sh\nhost=$1\nshift\ncase $host in\n";
  for (const Host& host : placement.hosts) {
    script += concat("  ", host.name, ") exec");
    for (const std::string& word : host.command) script += concat(" ", word);
    script += " sh -c \"$*\" ;;\n";
  }
  script += "esac\necho \"no host $host\" >&2\nexit 1\n";
  return write_file_atomically(path, script, 0700);
}

/// `program` with its arguments as ranks of one `mpirun`.
Result<Recipe> under_openmpi(const std::string& contender, const std::vector<std::string>& program,
                             const AllreduceOptions& options, const Placement& placement,
                             const Meeting& meeting) {
  Command command = command_of(contender, meeting);
  command.arguments = {"mpirun.openmpi", "-np", std::to_string(options.ranks)};
  // Pinned by the ranks themselves, as with all contenders.
  append(command.arguments, {"--bind-to", "none", "--oversubscribe"});
  append(command.arguments, {"--mca", "btl_vader_backing_directory", meeting.folder});
  append(command.arguments, {"--mca", "orte_tmpdir_base", meeting.folder});
  if (!placement.hosts.empty()) {
    std::string slots;
    for (std::size_t i = 0; i < placement.hosts.size(); ++i)
      slots += concat(i == 0 ? "" : ",", placement.hosts[i].name, ":", placement.layout[i]);
    const std::string agent = concat(meeting.folder, "/agent");
    PACELINE_TRY(write_agent(agent, placement));
    append(command.arguments, {"--host", slots, "--map-by", "slot", "--mca", "plm_rsh_agent", agent});
    for (const char* layer : {"oob_tcp_if_include", "btl_tcp_if_include"})
      append(command.arguments, {"--mca", layer, placement.network});
  }
  append(command.arguments, program);
  append(command.arguments, {"--rank-variable", "OMPI_COMM_WORLD_RANK"});
  append(command.arguments, rank_arguments(options, placement, meeting));
  for (const char* name : {"OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"})
    command.environment.emplace(name, "1");
  command.signal_when_orphaned = SIGTERM;  // it takes its ranks along
  return Recipe{contender, {std::move(command)}};
}

Recipe mpich(const AllreduceOptions& options, const Placement& placement, const Meeting& meeting) {
  Command command = command_of("mpich", meeting);
  command.arguments = {
      "mpiexec.mpich",   "-n",      std::to_string(options.ranks), peer_program(*find_peer("mpich")),
      "--rank-variable", "PMI_RANK"};
  append(command.arguments, rank_arguments(options, placement, meeting));
  command.signal_when_orphaned = SIGTERM;
  return {"mpich", {std::move(command)}};
}

}  // namespace

Status check_transport(const AllreduceOptions& options) {
  if (options.transport != "mpi") return {};
  if (!in_path("mpirun.openmpi"))
    return Error{
        ErrorCode::invalid_argument,
        "--transport mpi: there is no mpirun.openmpi in PATH: install the Debian package openmpi-bin"};
  if (::access(program_in_bench("allreduce_paceline_mpi").c_str(), X_OK) != 0)
    return Error{ErrorCode::invalid_argument,
                 "--transport mpi: this Paceline was built without MPI: install the Debian package "
                 "libopenmpi-dev, configure and build again"};
  return {};
}

Status check_peer(const std::string& peer, const AllreduceOptions& options) {
  const Peer* known = find_peer(peer);
  if (known == nullptr) return Error{ErrorCode::invalid_argument, concat("there is no peer ", peer)};
  if (known->launcher != nullptr && !in_path(known->launcher))
    return Error{ErrorCode::invalid_argument,
                 concat("peer ", peer, ": there is no ", known->launcher,
                        " in PATH: install the Debian packages ", known->packages)};
  if (::access(peer_program(*known).c_str(), X_OK) != 0)
    return Error{ErrorCode::invalid_argument, concat("peer ", peer, ": ", peer_program(*known),
                                                     " was not built: install the Debian packages ",
                                                     known->packages, ", configure and build again")};
  if (std::string_view(known->missing_types).find(concat(" ", options.dtype, " ")) != std::string_view::npos)
    return Error{ErrorCode::invalid_argument, concat("peer ", peer, " cannot add up ", options.dtype,
                                                     ": leave it out, or choose another --dtype")};
  if (peer == "mpich" && !options.hosts_file.empty())
    return Error{ErrorCode::invalid_argument,
                 "peer mpich runs on one machine only: leave it out with --hosts"};
  return {};
}

Result<Recipe> recipe_for(const std::string& contender, const AllreduceOptions& options,
                          const Placement& placement, const Meeting& meeting) {
  if (contender == "paceline") {
    std::vector<std::string> program = {own_program(), "bench", "rank", "paceline"};
    if (options.transport == "mpi") program = {program_in_bench("allreduce_paceline_mpi")};
    append(program, own_program_arguments(options, placement));
    if (options.transport == "mpi") return under_openmpi(contender, program, options, placement, meeting);
    return each_rank(contender, program, options, placement, meeting);
  }
  if (contender == "probe")
    return each_rank(contender, {own_program(), "bench", "rank", "probe"}, options, placement, meeting);
  if (contender == "gloo") {
    // Its ranks have a thread each that moves data, and which takes turns of milliseconds with the one that
    // adds up when both are pinned to one core: 1 to 5 ms for the smallest sums, in place of 0.2 to 1.4.
    Placement anywhere = placement;
    anywhere.cpus.clear();
    return each_rank(contender, {peer_program(*find_peer("gloo"))}, options, anywhere, meeting);
  }
  if (contender == "openmpi")
    return under_openmpi(contender, {peer_program(*find_peer("openmpi"))}, options, placement, meeting);
  return mpich(options, placement, meeting);
}

}  // namespace paceline::bench
