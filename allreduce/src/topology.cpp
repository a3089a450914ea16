#include "topology.hpp"

#include <algorithm>
#include <set>

#include "paceline/base/assert.hpp"
#include "paceline/base/text.hpp"
#include "plan.hpp"

namespace paceline {

Layout::Layout(int rank, const std::vector<std::string>& node_keys,
               const std::vector<std::string>& node_names)
    : rank_(rank) {
  PACELINE_ASSERT(
      node_keys.size() == node_names.size() && rank >= 0 && static_cast<std::size_t>(rank) < node_keys.size(),
      "a key and a name for every rank");
  std::vector<std::string> keys;
  for (std::size_t r = 0; r < node_keys.size(); ++r) {
    const auto found = std::find(keys.begin(), keys.end(), node_keys[r]);
    const auto node = static_cast<std::size_t>(found - keys.begin());
    if (found == keys.end()) {
      keys.push_back(node_keys[r]);
      topology_.nodes.push_back(node_names[r]);
      ranks_of_node_.emplace_back();
    }
    topology_.node_of_rank.push_back(static_cast<int>(node));
    ranks_of_node_[node].push_back(static_cast<int>(r));
  }
  topology_.local_ranks = ranks_of(node());
  local_index_ =
      static_cast<int>(std::find(topology_.local_ranks.begin(), topology_.local_ranks.end(), rank) -
                       topology_.local_ranks.begin());
  for (const auto& ranks : ranks_of_node_) fragments_ = std::max(fragments_, static_cast<int>(ranks.size()));
}

int Layout::owner(int node, int fragment) const {
  // The fragment's middle, as a place among the node's ranks: neighbours in the list share no more
  // fragments than they must, and any number of fragments gives the same pairs of ranks.
  const std::vector<int>& ranks = ranks_of(node);
  const auto place = (2 * static_cast<std::size_t>(fragment) + 1) * ranks.size() /
                     (2 * static_cast<std::size_t>(fragments_));
  return ranks[place];
}

std::vector<int> Layout::linked_ranks() const {
  std::set<int> linked;
  if (nodes() == 1) return {};
  const int next = (node() + 1) % nodes();
  const int previous = (node() + nodes() - 1) % nodes();
  for (int fragment = 0; fragment < fragments_; ++fragment) {
    if (owner(node(), fragment) != rank_) continue;
    linked.insert(owner(next, fragment));
    linked.insert(owner(previous, fragment));
    for (int other = 0; other < nodes() && nodes() <= most_meshed_nodes; ++other)
      if (other != node()) linked.insert(owner(other, fragment));
  }
  if (local_index_ == 0)  // the first ranks of all nodes meet directly for small sums
    for (int other = 0; other < nodes(); ++other)
      if (other != node()) linked.insert(ranks_of(other).front());
  return {linked.begin(), linked.end()};
}

std::string Topology::describe() const {
  std::string text;
  for (std::size_t node = 0; node < nodes.size(); ++node) {
    std::string ranks;
    for (std::size_t rank = 0; rank < node_of_rank.size(); ++rank)
      if (node_of_rank[rank] == static_cast<int>(node)) ranks += concat(ranks.empty() ? "" : ", ", rank);
    text += concat("node ", nodes[node], ": ranks ", ranks, "\n");
  }
  return text;
}

ElementRange part_of(ElementRange whole, int index, int parts) {
  constexpr std::size_t grid = 16;
  const auto cut = [&](int place) {
    if (place == parts) return whole.size();
    // Divide first: sizes up to 2^60 elements times a few hundred parts must not overflow.
    const auto p = static_cast<std::size_t>(place);
    const auto n = static_cast<std::size_t>(parts);
    const std::size_t exact = whole.size() / n * p + whole.size() % n * p / n;
    return exact / grid * grid;
  };
  return {whole.begin + cut(index), whole.begin + cut(index + 1)};
}

}  // namespace paceline
