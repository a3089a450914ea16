#include "paceline/sched/placement.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <numeric>
#include <tuple>

#include "bindings.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr std::int64_t no_limit = std::numeric_limits<std::int32_t>::max();
// More say no more.
constexpr std::size_t reasons_shown = 3;

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char letter) { return std::tolower(letter); });
  return text;
}

std::string gib(std::int64_t bytes) {
  const double tenths = static_cast<double>(bytes) / static_cast<double>(std::int64_t{1} << 30) * 10;
  const auto whole = static_cast<std::int64_t>(tenths + 0.5);
  return concat(whole / 10, whole % 10 == 0 ? "" : concat(".", whole % 10), " GiB");
}

/// The GPUs that ranks may have; `reason` says why there are none.
std::vector<std::size_t> fitting_gpus(const NodeResources& node, const RankNeeds& needs,
                                      std::string& reason) {
  std::vector<std::size_t> of_kind;
  const std::string kind = lower(needs.gpu_kind);
  for (std::size_t i = 0; i < node.gpus.size(); ++i)
    if (lower(node.gpus[i].name).find(kind) != std::string::npos) of_kind.push_back(i);
  const auto erase_below = [&](std::vector<std::size_t> gpus, auto member) {
    std::erase_if(gpus, [&](std::size_t gpu) { return node.gpus[gpu].*member < needs.gpu_memory_bytes; });
    return gpus;
  };
  const std::vector<std::size_t> large = erase_below(of_kind, &Gpu::memory_bytes);
  std::vector<std::size_t> free = erase_below(large, &Gpu::free_bytes);
  if (node.gpus.empty()) {
    reason = "has no GPU";
  } else if (of_kind.empty()) {
    reason = concat("has no GPU of kind ", needs.gpu_kind, " (but ", node.gpus.front().name, ")");
  } else if (large.empty()) {
    reason = concat("has no GPU with ", gib(needs.gpu_memory_bytes), " (but ",
                    gib(node.gpus[of_kind.front()].memory_bytes), ")");
  } else if (free.empty()) {
    reason = concat("has no GPU with ", gib(needs.gpu_memory_bytes), " free: others use them");
  }
  return free;
}

NodeRoom room_of(const NodeResources& node, const RankNeeds& needs) {
  NodeRoom room;
  const auto refuse = [&room](std::string reason) {
    room = {};
    room.reason = std::move(reason);
    return room;
  };
  if (!node.refused.empty()) return refuse(node.refused);
  if (node.usable_cores < 1 || node.cores.cores.empty()) return refuse("has no core for this job");
  room.natural = node.slots > 0 ? node.slots : node.usable_cores;
  room.most = no_limit;
  if (needs.gpu) {
    room.gpus = fitting_gpus(node, needs, room.reason);
    room.most = std::ssize(room.gpus);
    room.natural = std::min(room.most, node.slots > 0 ? node.slots : room.most);
  }
  if (needs.memory_bytes > 0 && node.free_memory_bytes >= 0) {
    room.most = std::min(room.most, node.free_memory_bytes / needs.memory_bytes);
    if (room.most == 0 && room.reason.empty())
      return refuse(concat("has ", gib(node.free_memory_bytes), " of free memory, and a rank needs ",
                           gib(needs.memory_bytes)));
  }
  room.natural = std::min(room.natural, room.most);
  return room;
}

/// Leaves the GPUs of the kind that most of those with room are of.
void keep_one_kind(const std::vector<NodeResources>& nodes, std::vector<NodeRoom>& rooms) {
  std::map<std::string, std::int64_t> counts;
  for (std::size_t i = 0; i < nodes.size(); ++i)
    for (const std::size_t gpu : rooms[i].gpus) ++counts[nodes[i].gpus[gpu].name];
  if (counts.size() < 2) return;
  const std::string kind =
      std::ranges::max_element(counts, {}, [](const auto& entry) { return entry.second; })->first;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    NodeRoom& room = rooms[i];
    if (room.gpus.empty()) continue;
    std::erase_if(room.gpus, [&](std::size_t gpu) { return nodes[i].gpus[gpu].name != kind; });
    room.most = std::min(room.most, std::ssize(room.gpus));
    room.natural = std::min(room.natural, room.most);
    if (room.gpus.empty()) room.reason = concat("has no GPU of kind ", kind, ", which most have");
  }
}

/// Of nodes with equal room the better ones come first: more GPUs linked, then the faster card.
std::vector<std::size_t> by_quality(const std::vector<NodeResources>& nodes,
                                    const std::vector<NodeRoom>& rooms) {
  std::vector<std::pair<std::int64_t, double>> quality(nodes.size());
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    for (const std::size_t gpu : rooms[i].gpus) quality[i].first += std::ssize(nodes[i].gpus[gpu].linked);
    for (const NetworkCard& card : nodes[i].cards)
      quality[i].second = std::max(quality[i].second, card.gbit_per_s);
  }
  std::vector<std::size_t> order(nodes.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, std::greater<>(), [&](std::size_t node) { return quality[node]; });
  return order;
}

std::vector<std::int64_t> shares_of(const std::vector<NodeResources>& nodes,
                                    const std::vector<NodeRoom>& rooms, std::int64_t ranks, bool all_nodes) {
  const std::vector<std::size_t> order = by_quality(nodes, rooms);
  std::vector<std::int64_t> natural;
  std::vector<std::int64_t> most;
  for (const std::size_t node : order) {
    natural.push_back(rooms[node].natural);
    most.push_back(rooms[node].most);
  }
  const std::vector<std::int64_t> spread = spread_ranks(natural, ranks, all_nodes, most);
  std::vector<std::int64_t> shares(nodes.size());
  for (std::size_t i = 0; i < order.size(); ++i) shares[order[i]] = spread[i];
  return shares;
}

Error no_room(const std::vector<NodeResources>& nodes, const std::vector<NodeRoom>& rooms,
              const RankNeeds& needs, std::int64_t ranks, std::int64_t room) {
  std::string text = concat(ranks, ranks == 1 ? " rank needs" : " ranks need",
                            needs.gpu ? (ranks == 1 ? " a GPU" : " a GPU each") : " a place", ", and ",
                            nodes.size() == 1 ? "the node has" : concat("the ", nodes.size(), " nodes have"),
                            " room for ", room);
  std::size_t shown = 0;
  std::size_t without = 0;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (rooms[i].reason.empty() || ++without > reasons_shown) continue;
    text += concat(shown++ == 0 ? ": " : "; ", nodes[i].name, " ", rooms[i].reason);
  }
  if (without > shown) text += concat("; and ", without - shown, " more");
  return Error{ErrorCode::not_found, text};
}

}  // namespace

std::vector<NodeRoom> find_room(const std::vector<NodeResources>& nodes, const RankNeeds& needs) {
  std::vector<NodeRoom> rooms;
  rooms.reserve(nodes.size());
  for (const NodeResources& node : nodes) rooms.push_back(room_of(node, needs));
  if (needs.gpu && needs.same_gpu_kind) keep_one_kind(nodes, rooms);
  return rooms;
}

Result<Placement> place_ranks(const std::vector<NodeResources>& nodes, const RankNeeds& needs,
                              std::int64_t ranks, bool all_nodes) {
  if (ranks < 1) return Error{ErrorCode::invalid_argument, "a job needs at least one rank"};
  const std::vector<NodeRoom> rooms = find_room(nodes, needs);
  std::int64_t room = 0;
  for (const NodeRoom& one : rooms) room = std::min(no_limit, room + one.most);
  if (room < ranks) return no_room(nodes, rooms, needs, ranks, room);
  Placement placement;
  placement.per_node = shares_of(nodes, rooms, ranks, all_nodes);
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const std::int64_t share = placement.per_node[i];
    placement.reasons.push_back(share > 0 ? "" : rooms[i].reason.empty() ? "is not needed" : rooms[i].reason);
    if (share == 0) continue;
    PACELINE_ASSIGN(const std::vector<PlacedRank> here, bind_ranks(nodes[i], rooms[i].gpus, share, needs));
    for (PlacedRank one : here) {
      one.rank = std::ssize(placement.ranks);
      one.node = i;
      placement.ranks.push_back(std::move(one));
    }
  }
  return placement;
}

}  // namespace paceline
