#include "bindings.hpp"

#include <algorithm>
#include <map>
#include <tuple>

namespace paceline {
namespace {

// A link between two GPUs is worth more than that they are on one NUMA node.
constexpr std::int64_t link_score = 100;
constexpr std::int64_t numa_score = 1;

std::int64_t closeness(const Gpu& one, const Gpu& other, std::size_t place_of_other) {
  const bool linked =
      std::ranges::find(one.linked, static_cast<std::int64_t>(place_of_other)) != one.linked.end();
  const bool same_numa_node = one.numa_node >= 0 && one.numa_node == other.numa_node;
  return (linked ? link_score : 0) + (same_numa_node ? numa_score : 0);
}

struct Group {
  std::vector<std::size_t> gpus;
  std::int64_t score = 0;
};

/// From `first` on, always the GPU that is closest to those chosen.
Group grow_group(const NodeResources& node, std::vector<std::size_t> left, std::size_t first,
                 std::size_t count) {
  Group group{{first}, 0};
  std::erase(left, first);
  std::vector<std::int64_t> scores(node.gpus.size());  // of each with the group
  while (group.gpus.size() < count) {
    const std::size_t newest = group.gpus.back();
    for (const std::size_t candidate : left)
      scores[candidate] += closeness(node.gpus[newest], node.gpus[candidate], candidate);
    const auto best = std::ranges::max_element(left, {}, [&](std::size_t gpu) { return scores[gpu]; });
    group.score += scores[*best];
    group.gpus.push_back(*best);
    left.erase(best);
  }
  return group;
}

/// GPUs that are close to each other, in the order of their NUMA nodes.
std::vector<std::size_t> choose_gpus(const NodeResources& node, const std::vector<std::size_t>& gpus,
                                     std::size_t count) {
  Group best{gpus, 0};
  if (count < gpus.size()) {
    best = grow_group(node, gpus, gpus.front(), count);
    for (const std::size_t first : gpus) {
      Group group = grow_group(node, gpus, first, count);
      if (group.score > best.score) best = std::move(group);
    }
  }
  std::ranges::sort(best.gpus, {}, [&](std::size_t gpu) { return std::pair(node.gpus[gpu].numa_node, gpu); });
  return best.gpus;
}

/// Each rank has cores of its GPU's NUMA node; nothing where some NUMA node has fewer than one for each.
std::vector<RankPlace> near_cores(const NodeResources& node, const std::vector<std::size_t>& gpus,
                                  std::int64_t threads) {
  std::map<std::int64_t, Inventory> cores;
  for (const Core& core : node.cores.cores) cores[core.numa_node].cores.push_back(core);
  std::map<std::int64_t, std::int64_t> ranks;
  for (const std::size_t gpu : gpus) ++ranks[node.gpus[gpu].numa_node];
  std::vector<RankPlace> places;
  for (const auto& [numa_node, count] : ranks) {
    if (std::ssize(cores[numa_node].cores) < count) return {};
    const Result<std::vector<RankPlace>> here = allocate_ranks(cores[numa_node], count, threads);
    if (!here.ok()) return {};
    places.insert(places.end(), here->begin(), here->end());
  }
  return places;
}

/// Where the job has a share of every core, nobody is bound to any.
Result<std::vector<RankPlace>> any_cores(const NodeResources& node, std::int64_t ranks,
                                         std::int64_t threads) {
  Inventory cores = node.cores;
  const bool has_all = node.usable_cores >= std::ssize(cores.cores);
  if (!has_all) cores.cores.resize(static_cast<std::size_t>(node.usable_cores));
  PACELINE_ASSIGN(std::vector<RankPlace> places, allocate_ranks(cores, ranks, threads));
  if (!has_all)
    for (RankPlace& place : places) place.cpus.clear();
  return places;
}

/// The card on that NUMA node, or on any: the fastest for each of the ranks that it has then.
std::int64_t nearest_card(const NodeResources& node, std::int64_t numa_node,
                          std::vector<std::int64_t>& ranks_of_card) {
  std::int64_t best = -1;
  std::tuple<bool, double> best_score;
  for (std::size_t i = 0; i < node.cards.size(); ++i) {
    const NetworkCard& card = node.cards[i];
    const std::tuple score(card.numa_node >= 0 && card.numa_node == numa_node,
                           card.gbit_per_s / static_cast<double>(ranks_of_card[i] + 1));
    if (best >= 0 && score <= best_score) continue;
    best = static_cast<std::int64_t>(i);
    best_score = score;
  }
  if (best >= 0) ++ranks_of_card[static_cast<std::size_t>(best)];
  return best;
}

std::int64_t numa_node_of(const NodeResources& node, const PlacedRank& rank) {
  if (rank.gpu >= 0) return node.gpus[static_cast<std::size_t>(rank.gpu)].numa_node;
  if (rank.place.cpus.empty()) return -1;
  for (const Core& core : node.cores.cores)
    if (std::ranges::find(core.cpus, rank.place.cpus.front()) != core.cpus.end()) return core.numa_node;
  return -1;
}

}  // namespace

Result<std::vector<PlacedRank>> bind_ranks(const NodeResources& node, const std::vector<std::size_t>& gpus,
                                           std::int64_t ranks, const RankNeeds& needs) {
  std::vector<std::size_t> chosen;
  std::vector<RankPlace> places;
  if (needs.gpu) {
    chosen = choose_gpus(node, gpus, static_cast<std::size_t>(ranks));
    if (node.usable_cores >= std::ssize(node.cores.cores)) places = near_cores(node, chosen, needs.threads);
  }
  if (places.empty()) {
    PACELINE_ASSIGN(places, any_cores(node, ranks, needs.threads));
  }
  std::vector<std::int64_t> ranks_of_card(node.cards.size());
  std::vector<PlacedRank> rows;
  for (std::size_t i = 0; i < places.size(); ++i) {
    PlacedRank& row = rows.emplace_back();
    row.place = std::move(places[i]);
    row.place.rank = static_cast<std::int64_t>(i);
    if (needs.gpu) row.gpu = static_cast<std::int64_t>(chosen[i]);
    row.card = nearest_card(node, numa_node_of(node, row), ranks_of_card);
  }
  return rows;
}

}  // namespace paceline
