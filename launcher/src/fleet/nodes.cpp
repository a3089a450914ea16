#include "fleet/nodes.hpp"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>

#include "gpu_places.hpp"
#include "job_size.hpp"
#include "listener.hpp"
#include "paceline/base/text.hpp"
#include "paceline/control/address.hpp"
#include "paceline/control/client.hpp"
#include "paceline/sched/allocation.hpp"
#include "run_directory.hpp"

namespace paceline {
namespace {

/// Of a folder that may still have to be made.
std::string existing_part(const std::string& folder) {
  std::filesystem::path path = absolute_path(folder);
  std::error_code ignored;
  while (!std::filesystem::exists(path, ignored) && path.has_relative_path()) path = path.parent_path();
  return path.string();
}

/// What every node must find, so that training does not fail later and less clearly.
std::vector<std::string> needed_everywhere(const Job& job, const LaunchFolders& folders) {
  std::vector<std::string> paths = {absolute_path("."), folders.worker_program, existing_part(folders.runs),
                                    absolute_path(job.data.train)};
  if (!job.data.eval.empty()) paths.push_back(absolute_path(job.data.eval));
  if (job.model.plugin.find('/') != std::string::npos) paths.push_back(absolute_path(job.model.plugin));
  return paths;
}

/// By node: the ranks that would have a core of their own.
std::vector<std::int64_t> rooms_of(const Allocation& allocation, const std::vector<NodeReport>& reports) {
  std::vector<std::int64_t> rooms;
  for (std::size_t i = 0; i < reports.size(); ++i) {
    const std::int64_t slots = i < allocation.hosts.size() ? allocation.hosts[i].slots : 0;
    rooms.push_back(slots > 0 ? slots : reports[i].cores);
  }
  return rooms;
}

std::vector<NodeResources> with_gpus(const Allocation& allocation, const std::vector<NodeReport>& reports) {
  std::vector<NodeResources> nodes;
  for (std::size_t i = 0; i < reports.size(); ++i) {
    NodeResources& node = nodes.emplace_back(reports[i].resources.value_or(NodeResources{}));
    node.name = reports[i].node;
    if (i < allocation.hosts.size()) node.slots = allocation.hosts[i].slots;
    if (!reports[i].complaint.empty()) node.refused = concat("cannot use its GPUs: ", reports[i].complaint);
  }
  return nodes;
}

/// By node: the ranks that would have a GPU of their own.
std::vector<std::int64_t> rooms_on_gpus(const std::vector<NodeResources>& nodes, const RankNeeds& needs) {
  std::vector<std::int64_t> rooms;
  for (const NodeRoom& room : find_room(nodes, needs)) rooms.push_back(room.natural);
  return rooms;
}

/// Those with ranks first, so that the ranks go to them; without those that have room for none.
std::vector<AgentOrder> orders_of(const std::vector<NodeReport>& reports,
                                  const std::vector<std::int64_t>& rooms,
                                  const std::vector<std::int64_t>& shares) {
  std::vector<AgentOrder> orders;
  for (const bool spare : {false, true})
    for (std::size_t i = 0; i < reports.size(); ++i)
      if ((shares[i] == 0) == spare && (shares[i] > 0 || rooms[i] > 0))
        orders.push_back({reports[i].node, std::ssize(orders) + 1, spare ? rooms[i] : shares[i]});
  return orders;
}

std::string describe(const Allocation& allocation, std::int64_t ranks,
                     const std::vector<std::int64_t>& shares) {
  const auto used = std::ranges::count_if(shares, [](std::int64_t share) { return share > 0; });
  std::string text = concat(ranks, ranks == 1 ? " rank on " : " ranks on ", used);
  if (used < std::ssize(shares)) text += concat(" of ", shares.size());
  return text + concat(shares.size() == 1 ? " node" : " nodes", ", started by ", allocation.by);
}

/// Ranks that the job would like to have, and has no places for. Nothing: nobody could say.
std::optional<std::int64_t> shortage_of(const std::string& run_dir) {
  const auto coordinator = control::newest_coordinator(run_dir);
  if (!coordinator.ok() || !*coordinator) return std::nullopt;
  const Result<control::Credentials> credentials = control::read_credentials(run_dir);
  if (!credentials.ok()) return std::nullopt;
  control::Request request;
  request.mutable_status();
  const Result<control::Answer> answer =
      control::ask(**coordinator, *credentials, request, std::chrono::milliseconds(500));
  if (!answer.ok()) return std::nullopt;
  const auto status = nlohmann::json::parse(answer->text(), nullptr, false);
  if (!status.is_object() || status.value("state", "") == "gathering") return std::nullopt;
  return status.value("wish", std::int64_t{0}) - status.value("room", std::int64_t{0});
}

Status ask_to_leave(const std::string& node, const std::string& run_dir) {
  PACELINE_ASSIGN(const auto coordinator, control::newest_coordinator(run_dir));
  if (!coordinator) return Error{ErrorCode::not_found, "there is no coordinator"};
  PACELINE_ASSIGN(const control::Credentials credentials, control::read_credentials(run_dir));
  control::Request request;
  request.mutable_drain()->set_node(node);
  PACELINE_ASSIGN(const control::Answer answer,
                  control::ask(*coordinator, credentials, request, std::chrono::seconds(2)));
  if (!answer.error().empty()) return Error{ErrorCode::invalid_argument, answer.error()};
  return {};
}

}  // namespace

Status look_after(Nodes& nodes, const std::string& run_dir, Display& display) {
  if (nodes.slurm) {
    for (const std::string& node : nodes.slurm->attend()) {
      // Where the coordinator has no time now, Slurm is asked again.
      if (!ask_to_leave(node, run_dir).ok()) continue;
      nodes.slurm->settle(node);
      display.warning(concat("Slurm drains node ", node, ": the job leaves it"));
    }
  }
  if (nodes.growth)
    for (const std::string& news : nodes.growth->attend([&run_dir] { return shortage_of(run_dir); }))
      display.warning(news);
  Status status = nodes.fleet->attend();
  for (const std::string& complaint : nodes.fleet->take_complaints()) display.warning(complaint);
  return status;
}

Result<Nodes> prepare_nodes(const Allocation& allocation, const Job& job,
                            const std::optional<std::int64_t>& asked, const LaunchFolders& folders,
                            StopSignals& signals) {
  Nodes nodes;
  const RankNeeds needs = needs_of(job);
  const bool on_gpus = needs.gpu;
  PACELINE_ASSIGN(nodes.fleet, Fleet::start(allocation, needed_everywhere(job, folders), on_gpus));
  PACELINE_ASSIGN(const std::vector<NodeReport> reports, nodes.fleet->gather(signals));
  PACELINE_TRY(check_reports(reports, seconds_since_1970()));
  const std::vector<NodeResources> gpu_nodes =
      on_gpus ? with_gpus(allocation, reports) : std::vector<NodeResources>{};
  const std::vector<std::int64_t> rooms =
      on_gpus ? rooms_on_gpus(gpu_nodes, needs) : rooms_of(allocation, reports);
  nodes.ranks = asked ? *asked
                      : allocation.ranks.value_or(
                            default_ranks(job, std::accumulate(rooms.begin(), rooms.end(), std::int64_t{0})));
  PACELINE_TRY(check_ranks(job, nodes.ranks));
  std::vector<std::int64_t> shares;
  if (on_gpus) {  // where there is no room for all, it says why
    PACELINE_ASSIGN(Placement placement,
                    place_ranks(gpu_nodes, needs, nodes.ranks, allocation.ranks.has_value()));
    shares = std::move(placement.per_node);
  } else {
    shares = spread_ranks(rooms, nodes.ranks, allocation.ranks.has_value());
  }
  nodes.agents = orders_of(reports, rooms, shares);
  if (allocation.by == "srun") {
    std::vector<std::string> names;
    for (const NodeReport& report : reports) names.push_back(report.node);
    nodes.slurm = std::make_unique<SlurmWatch>(std::move(names));
    if (!job.ranks.grow.empty())
      nodes.growth = std::make_unique<SlurmGrowth>(
          job.ranks.grow, std::max<std::int64_t>(1, *std::ranges::min_element(rooms)));
  }
  nodes.text = describe(allocation, nodes.ranks, shares);
  // PACELINE_INTERFACE is the nodes'; the machine of the launcher may be another kind.
  PACELINE_ASSIGN(const std::string here, address_towards(reports.front().address));
  ::setenv("PACELINE_INTERFACE", here.c_str(), 1);
  return nodes;
}

}  // namespace paceline
