#include "gpu_places.hpp"

#include <algorithm>

#include "paceline/base/text.hpp"
#include "resources/node_resources.hpp"

namespace paceline {
namespace {

Result<NodeResources> own_node(const Place& place) {
  PACELINE_ASSIGN(OwnResources own, take_resources(place));
  if (!own.complaint.empty()) return Error{ErrorCode::io, own.complaint};
  return std::move(own.node);
}

}  // namespace

RankNeeds needs_of(const Job& job) {
  RankNeeds needs;
  needs.gpu = job.device == "gpu";
  needs.threads = job.threads;
  return needs;
}

Result<std::int64_t> own_room(const Place& place, const Job& job) {
  const RankNeeds needs = needs_of(job);
  if (needs.gpu) {
    PACELINE_ASSIGN(const NodeResources node, own_node(place));
    return find_room({node}, needs).front().natural;
  }
  PACELINE_ASSIGN(const NodeInventory node, take_inventory());
  return usable_cores(place, node);
}

Status place_on_gpus(const Place& place, std::int64_t ranks, std::int64_t most, const Job& job, Team& team) {
  const RankNeeds needs = needs_of(job);
  PACELINE_ASSIGN(const NodeResources node, own_node(place));
  const NodeRoom room = find_room({node}, needs).front();
  PACELINE_ASSIGN(const Placement placement, place_ranks({node}, needs, ranks));
  // Who has a share of the node, and no cores of its own, binds its workers to none.
  const bool is_bound = node.usable_cores >= std::ssize(node.cores.cores);
  team.places.clear();
  team.gpus.clear();
  for (const PlacedRank& one : placement.ranks) {
    team.places.push_back(one.place);
    if (!is_bound) team.places.back().cpus.clear();
    team.gpus.push_back(node.gpus[static_cast<std::size_t>(one.gpu)].uuid);
  }
  // Whom the job grows by later gets no cores of its own, as it does where it grows beyond the cores.
  for (const std::size_t gpu : room.gpus)
    if (std::ssize(team.gpus) < most && std::ranges::find(team.gpus, node.gpus[gpu].uuid) == team.gpus.end())
      team.gpus.push_back(node.gpus[gpu].uuid);
  return {};
}

Status choose_gpu_of_task(const Place& place, const Job& job, Team& team) {
  const RankNeeds needs = needs_of(job);
  PACELINE_ASSIGN(const NodeResources node, own_node(place));
  const NodeRoom room = find_room({node}, needs).front();
  const bool was_given = room.gpus.size() == 1;
  if (!was_given && !room.gpus.empty() && std::ssize(room.gpus) < place.local_size)
    return Error{ErrorCode::not_found,
                 concat("a task of ", place.local_size, " on node ", place.node, " sees ", room.gpus.size(),
                        " GPUs, neither one of its own nor one for each task: start them so that each sees "
                        "one (srun --gpus-per-task=1), or all of the node's")};
  PACELINE_ASSIGN(const Placement placement, place_ranks({node}, needs, was_given ? 1 : place.local_size));
  const auto own = static_cast<std::size_t>(was_given ? 0 : place.local_rank);
  team.gpus = {node.gpus[static_cast<std::size_t>(placement.ranks[own].gpu)].uuid};
  return {};
}

}  // namespace paceline
