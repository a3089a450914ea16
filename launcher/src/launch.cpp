#include "launch.hpp"

#include <array>
#include <cstdio>
#include <set>

#include "elastic/elastic_agent.hpp"
#include "gpu_places.hpp"
#include "inventory.hpp"
#include "paceline/base/text.hpp"
#include "summary.hpp"

namespace paceline {
namespace {

// More share its cores than could be of any use.
constexpr std::int64_t most_workers_per_core = 4;

/// What the launch has on this node, in cores.
std::int64_t launch_cores(const Place& place, const NodeInventory& node) {
  std::int64_t cores = node.cores;
  if (place.node_cpus > 0 && node.cpus > 0) cores = std::min(cores, place.node_cpus * node.cores / node.cpus);
  // A thread that computes takes all of a core, and one CPU's time.
  if (node.quota) cores = std::min(cores, static_cast<std::int64_t>(*node.quota));
  return std::max<std::int64_t>(1, cores);
}

/// Of a node's workers that all have the same agent. Where the launch has not the whole node, and nobody has
/// bound this agent to its part, the workers are not bound either.
Result<std::vector<RankPlace>> places_on_node(const Place& place, const NodeInventory& node,
                                              std::int64_t ranks, std::int64_t threads) {
  Inventory own = node.own;
  const std::int64_t cores = usable_cores(place, node);
  const bool is_bound = cores >= std::ssize(own.cores);
  own.cores.resize(static_cast<std::size_t>(cores));
  PACELINE_ASSIGN(std::vector<RankPlace> places, allocate_ranks(own, ranks, threads));
  if (!is_bound)
    for (RankPlace& one : places) one.cpus.clear();
  return places;
}

Result<std::vector<RankPlace>> places_of_agent(const Place& place, std::int64_t ranks, std::int64_t threads) {
  PACELINE_ASSIGN(const NodeInventory node, take_inventory());
  if (place.in_shell()) return places_on_node(place, node, ranks, threads);
  const std::int64_t cores = launch_cores(place, node);
  Inventory allowed = node.own;
  const bool has_share = std::ssize(allowed.cores) > cores;  // of each of its cores, and none to be bound to
  if (has_share) allowed.cores.resize(static_cast<std::size_t>(cores));
  PACELINE_ASSIGN(RankPlace own,
                  allocate_bound_rank(allowed, cores, place.local_rank, place.local_size, threads));
  if (has_share) own.cpus.clear();
  own.rank = place.rank;
  return std::vector<RankPlace>{std::move(own)};
}

std::int64_t most_slots(std::int64_t ranks, const Job& job, std::int64_t cores) {
  // Who can have more nodes need not share cores.
  if (!job.ranks.grow.empty()) return std::max(ranks, std::min(job.ranks.max, cores));
  return std::max(ranks, std::min(job.ranks.max, most_workers_per_core * cores));
}

Result<std::vector<MemberSpec>> members_of(const Place& place, std::int64_t ranks) {
  PACELINE_ASSIGN(const std::vector<std::string> names, node_names(place, ranks));
  std::vector<MemberSpec> members;
  for (const std::string& name : names) members.emplace_back().node = name;
  return members;
}

Result<Listener> open_listener(const Place& place) {
  PACELINE_ASSIGN(const PortRange ports, parse_ports(environment("PACELINE_PORTS")));
  PACELINE_ASSIGN(const std::string host, listening_host(place));
  return listen_on(host, ports);
}

/// The places of this agent's workers among `ranks` ranks.
Status give_places(const Place& place, std::int64_t ranks, const Job& job, Team& team) {
  const bool on_gpus = needs_of(job).gpu;
  if (on_gpus && place.in_shell()) return place_on_gpus(place, ranks, job.ranks.max, job, team);
  PACELINE_ASSIGN(team.places, places_of_agent(place, ranks, job.threads));
  return on_gpus ? choose_gpu_of_task(place, job, team) : Status();
}

/// What this agent has to offer a job: in a shell whatever the job may come to want, within reason.
Result<std::vector<std::string>> places_to_offer(const Place& place, const Team& team, const Job& job) {
  if (!place.in_shell()) return std::vector<std::string>{place.node};
  PACELINE_ASSIGN(const NodeInventory node, take_inventory());
  const auto ranks = static_cast<std::int64_t>(team.members.size());
  const std::int64_t most = team.gpus.empty() ? most_slots(ranks, job, node.cores) : std::ssize(team.gpus);
  std::vector<std::string> slots;
  for (std::int64_t slot = 0; slot < most; ++slot)
    slots.push_back(team.members[static_cast<std::size_t>(slot % ranks)].node);
  return slots;
}

/// A name that no agent had before.
Result<AgentName> name_agent(std::int64_t index, bool joined) {
  PACELINE_ASSIGN(const std::string random, random_secret());
  return AgentName{concat("agent ", index, " (", random.substr(0, 8), ")"), index, joined};
}

}  // namespace

std::int64_t usable_cores(const Place& place, const NodeInventory& node) {
  return std::min<std::int64_t>(std::ssize(node.own.cores), launch_cores(place, node));
}

Result<std::string> listening_host(const Place& place) {
  if (place.one_host) return std::string("127.0.0.1");
  return outside_address(environment("PACELINE_INTERFACE"));
}

Result<Team> make_team(const Place& place, std::int64_t ranks, const Job& job) {
  Team team;
  PACELINE_ASSIGN(team.members, members_of(place, ranks));
  PACELINE_TRY(give_places(place, ranks, job, team));
  PACELINE_ASSIGN(team.listener, open_listener(place));
  PACELINE_ASSIGN(team.slots, places_to_offer(place, team, job));
  team.members[0].host = team.listener->host;
  team.members[0].port = team.listener->port;
  PACELINE_ASSIGN(team.secret, random_secret());
  return team;
}

Result<Team> join_team(const Place& place, const Rendezvous& rendezvous, const Job& job) {
  Team team;
  PACELINE_ASSIGN(team.members, members_of(place, place.size));
  PACELINE_TRY(give_places(place, place.size, job, team));
  team.members[0].node = rendezvous.node;
  team.members[0].host = rendezvous.host;
  team.members[0].port = rendezvous.port;
  team.secret = rendezvous.secret;
  if (rendezvous.action != "train") return team;
  PACELINE_ASSIGN(team.listener, open_listener(place));
  PACELINE_ASSIGN(team.slots, places_to_offer(place, team, job));
  return team;
}

Outcome run_team(const Place& place, const LaunchRequest& request, const Team& team, StopSignals& signals,
                 Display& display, AgentHooks hooks) {
  if (request.action == "train") {
    Result<AgentName> name = name_agent(place.rank, false);
    if (!name.ok()) return failed_outcome(name.error());
    return ElasticAgent(request, team, *name, signals, display, std::move(hooks)).run();
  }
  std::vector<WorkerSpec> specs;
  for (const RankPlace& own : team.places) {
    WorkerSpec& spec = specs.emplace_back();
    spec.start.action = request.action;
    spec.start.job = request.job;
    spec.start.run_dir = request.run_dir;
    spec.start.worker = own.rank;
    spec.start.secret = team.secret;
    spec.start.threads = own.threads;
    FormMessage& form = spec.form.emplace();
    form.rank = own.rank;
    form.members = team.members;
    spec.start.export_format = request.export_format;
    spec.start.export_path = request.export_path;
    spec.start.has_listener = own.rank == 0 && team.listener.has_value();
    if (spec.start.has_listener) spec.listener_fd = team.listener->fd.get();
    spec.cpus = own.cpus;
    if (!team.gpus.empty()) spec.gpu = team.gpus[specs.size() - 1];
    spec.program = request.worker_program;
    spec.log_path = log_path(request, own.rank);
  }
  return Agent(signals, display).run(specs);
}

Result<Team> make_node_team(const Place& place, const NodeShare& share, const Job& job) {
  Team team;
  PACELINE_ASSIGN(const std::int64_t room, own_room(place, job));
  const std::int64_t places = share.places > 0 ? share.places : std::max<std::int64_t>(1, room);
  const bool on_gpus = needs_of(job).gpu;
  std::int64_t slots = places;
  if (on_gpus) {
    PACELINE_TRY(place_on_gpus(place, places, share.may_grow ? job.ranks.max : places, job, team));
    slots = std::ssize(team.gpus);
  } else {
    PACELINE_ASSIGN(const NodeInventory node, take_inventory());
    PACELINE_ASSIGN(team.places, places_on_node(place, node, places, job.threads));
    if (share.may_grow) slots = most_slots(places, job, room);
  }
  PACELINE_ASSIGN(const PortRange ports, parse_ports(environment("PACELINE_PORTS")));
  // That the launch has one node does not mean that the job stays there.
  PACELINE_ASSIGN(const std::string host, share.host.empty()
                                              ? outside_address(environment("PACELINE_INTERFACE"))
                                              : Result<std::string>(share.host));
  PACELINE_ASSIGN(team.listener, listen_on(host, ports));
  team.slots.assign(static_cast<std::size_t>(slots), place.node);
  team.secret = share.secret;
  return team;
}

Result<Team> make_head_team(const Place& place) {
  Team team;
  PACELINE_ASSIGN(team.listener, open_listener(place));
  PACELINE_ASSIGN(team.secret, random_secret());
  return team;
}

Outcome run_agent(const LaunchRequest& request, const Team& team, std::int64_t index, bool joined,
                  StopSignals& signals, Display& display, AgentHooks hooks) {
  const Result<AgentName> name = name_agent(index, joined);
  if (!name.ok()) return failed_outcome(name.error());
  return ElasticAgent(request, team, *name, signals, display, std::move(hooks)).run();
}

std::string describe_team(const Place& place, const Team& team) {
  const auto ranks = team.members.size();
  const std::int64_t threads = team.places.front().threads;
  std::int64_t most_threads = threads;
  bool pinned = true;
  for (const RankPlace& one : team.places) {
    most_threads = std::max(most_threads, one.threads);
    pinned = pinned && !one.cpus.empty();
  }
  std::set<std::string> nodes;
  for (const MemberSpec& member : team.members) nodes.insert(member.node);
  std::string text = concat(ranks, ranks == 1 ? " rank with " : " ranks with ", threads);
  if (most_threads != threads) text += concat(" to ", most_threads);
  text += concat(most_threads == 1 ? " thread" : " threads", ranks == 1 ? "" : " each");
  if (!team.gpus.empty()) text += ranks == 1 ? " and a GPU" : " and a GPU of its own";
  if (!pinned && team.gpus.empty()) text += ", sharing the cores";
  if (!place.in_shell()) text += concat(", started by ", place.launcher);
  if (nodes.size() > 1 || place.nodes > 1)
    return text + concat(", on ",
                         std::max<std::int64_t>(place.nodes, static_cast<std::int64_t>(nodes.size())),
                         " nodes");
  return text + concat(", on node ", *nodes.begin());
}

std::string worker_log_path(const std::string& run_dir, std::int64_t worker) {
  LaunchRequest request;
  request.run_dir = run_dir;
  return log_path(request, worker);
}

std::string log_path(const LaunchRequest& request, std::int64_t rank) {
  std::array<char, 32> number{};
  std::snprintf(number.data(), number.size(), "rank-%03lld.log", static_cast<long long>(rank));
  const std::string prefix = request.action == "train" ? "" : concat(request.action, "-");
  return concat(request.run_dir, "/logs/", prefix, number.data());
}

}  // namespace paceline
