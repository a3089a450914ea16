#include "paceline/sched/allocation.hpp"

#include <algorithm>
#include <functional>
#include <numeric>
#include <queue>
#include <tuple>

#include "paceline/base/text.hpp"

namespace paceline {
namespace {

std::int64_t size_of(const auto& container) {
  return static_cast<std::int64_t>(container.size());
}

/// Lengths of runs that cover `cores` cores, the first ones longer by one.
std::vector<std::int64_t> even_runs(std::int64_t cores, std::int64_t ranks) {
  std::vector<std::int64_t> runs(static_cast<std::size_t>(ranks), cores / ranks);
  for (std::int64_t rank = 0; rank < cores % ranks; ++rank) ++runs[static_cast<std::size_t>(rank)];
  return runs;
}

std::vector<std::int64_t> numa_sizes(const Inventory& inventory) {
  std::vector<std::int64_t> sizes;
  for (std::size_t i = 0; i < inventory.cores.size(); ++i) {
    if (i == 0 || inventory.cores[i].numa_node != inventory.cores[i - 1].numa_node) sizes.push_back(0);
    ++sizes.back();
  }
  return sizes;
}

/// Runs of which none crosses a NUMA border; empty where there are fewer ranks than NUMA nodes. Each rank in
/// turn goes to the NUMA node where ranks would then have the most cores, which makes the smallest run as
/// large as it can be.
std::vector<std::int64_t> numa_runs(const Inventory& inventory, std::int64_t ranks) {
  const std::vector<std::int64_t> sizes = numa_sizes(inventory);
  if (ranks < size_of(sizes)) return {};
  std::vector<std::int64_t> ranks_of(sizes.size(), 1);
  for (std::int64_t dealt = size_of(sizes); dealt < ranks; ++dealt) {
    std::size_t best = 0;
    for (std::size_t node = 1; node < sizes.size(); ++node)
      if (sizes[node] * (ranks_of[best] + 1) > sizes[best] * (ranks_of[node] + 1)) best = node;
    ++ranks_of[best];
  }
  std::vector<std::int64_t> runs;
  for (std::size_t node = 0; node < sizes.size(); ++node) {
    const std::vector<std::int64_t> here = even_runs(sizes[node], ranks_of[node]);
    runs.insert(runs.end(), here.begin(), here.end());
  }
  return runs;
}

std::vector<std::int64_t> runs_for(const Inventory& inventory, std::int64_t ranks) {
  const std::vector<std::int64_t> even = even_runs(size_of(inventory.cores), ranks);
  const std::vector<std::int64_t> numa = numa_runs(inventory, ranks);
  if (!numa.empty() && *std::min_element(numa.begin(), numa.end()) >= even.back()) return numa;
  return even;
}

RankPlace owner_of(const Inventory& inventory, std::int64_t first, std::int64_t count) {
  RankPlace place;
  place.cores = count;
  for (std::int64_t i = first; i < first + count; ++i) {
    const std::vector<int>& cpus = inventory.cores[static_cast<std::size_t>(i)].cpus;
    place.cpus.insert(place.cpus.end(), cpus.begin(), cpus.end());
  }
  return place;
}

/// The most cores for each rank first, and of two alike the one that comes first.
struct ByCores {
  bool operator()(const std::tuple<double, std::size_t>& a, const std::tuple<double, std::size_t>& b) const {
    if (std::get<0>(a) != std::get<0>(b)) return std::get<0>(a) < std::get<0>(b);
    return std::get<1>(a) > std::get<1>(b);
  }
};

Status check(const Inventory& inventory, std::int64_t ranks) {
  if (ranks < 1) return Error{ErrorCode::invalid_argument, "a job needs at least one rank"};
  if (inventory.cores.empty())
    return Error{ErrorCode::not_found,
                 "this process may use no CPU core: look at its affinity and its cgroup"};
  return {};
}

}  // namespace

Result<std::vector<RankPlace>> allocate_ranks(const Inventory& inventory, std::int64_t ranks,
                                              std::int64_t threads) {
  PACELINE_TRY(check(inventory, ranks));
  std::vector<RankPlace> places;
  if (ranks > size_of(inventory.cores)) {
    places.resize(static_cast<std::size_t>(ranks));
  } else {
    std::int64_t first = 0;
    for (const std::int64_t run : runs_for(inventory, ranks)) {
      places.push_back(owner_of(inventory, first, run));
      first += run;
    }
  }
  for (std::size_t rank = 0; rank < places.size(); ++rank) {
    places[rank].rank = static_cast<std::int64_t>(rank);
    places[rank].threads = threads > 0 ? threads : std::max<std::int64_t>(1, places[rank].cores);
  }
  return places;
}

Result<RankPlace> allocate_bound_rank(const Inventory& own, std::int64_t node_cores, std::int64_t local_rank,
                                      std::int64_t local_ranks, std::int64_t threads) {
  PACELINE_TRY(check(own, local_ranks));
  PACELINE_ASSERT(local_rank >= 0 && local_rank < local_ranks, "a local rank is one of the local ranks");
  const std::int64_t cores = size_of(own.cores);
  if (cores >= node_cores) {
    PACELINE_ASSIGN(const std::vector<RankPlace> places, allocate_ranks(own, local_ranks, threads));
    return places[static_cast<std::size_t>(local_rank)];
  }
  // Sets of this size for all local ranks cover the node so many times over.
  const std::int64_t sharers = std::max<std::int64_t>(1, (cores * local_ranks + node_cores - 1) / node_cores);
  RankPlace place = owner_of(own, 0, cores);
  place.rank = local_rank;
  if (sharers > 1) place.cores = 0;
  place.threads = threads > 0 ? threads : std::max<std::int64_t>(1, cores / sharers);
  return place;
}

std::vector<std::int64_t> spread_ranks(const std::vector<std::int64_t>& cores, std::int64_t ranks, bool all,
                                       const std::vector<std::int64_t>& most) {
  std::vector<std::size_t> order(cores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, std::greater<>(), [&](std::size_t node) { return cores[node]; });
  std::erase_if(order,
                [&](std::size_t node) { return cores[node] <= 0 || (!most.empty() && most[node] <= 0); });
  std::vector<std::int64_t> given(cores.size(), 0);
  if (order.empty()) return given;
  std::int64_t room = 0;
  std::size_t used = 0;
  while (used < order.size() && (all || room < ranks)) room += cores[order[used++]];
  order.resize(used);
  // Each in turn to where ranks then have the most cores: beyond its cores no node gets one before all are
  // full.
  using Share = std::tuple<double, std::size_t>;  // cores for each rank with one more, and place in the order
  std::priority_queue<Share, std::vector<Share>, ByCores> next;
  for (std::size_t i = 0; i < order.size(); ++i) next.emplace(static_cast<double>(cores[order[i]]), i);
  for (std::int64_t rank = 0; rank < ranks && !next.empty(); ++rank) {
    const std::size_t i = std::get<1>(next.top());
    next.pop();
    const std::int64_t here = ++given[order[i]];
    if (!most.empty() && here == most[order[i]]) continue;
    next.emplace(static_cast<double>(cores[order[i]]) / static_cast<double>(here + 1), i);
  }
  return given;
}

std::string cpu_list(std::vector<int> cpus) {
  std::sort(cpus.begin(), cpus.end());
  std::string text;
  for (std::size_t i = 0; i < cpus.size();) {
    std::size_t last = i;
    while (last + 1 < cpus.size() && cpus[last + 1] == cpus[last] + 1) ++last;
    text += concat(text.empty() ? "" : ",", cpus[i]);
    if (last > i) text += concat("-", cpus[last]);
    i = last + 1;
  }
  return text;
}

}  // namespace paceline
