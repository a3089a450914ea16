#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "paceline/allreduce.hpp"

namespace paceline {

/// Who is where, and who owns what: pure functions of the list of node identities.
///
/// A collective's data is cut into fragments that do not depend on how many ranks a node has. Each node
/// gives each fragment a local owner, and the owners of a fragment on all nodes work on it together: so
/// nodes of 3, 1 and 2 ranks put no more on the wire than equal ones.
class Layout {
 public:
  /// `node_keys` and `node_names` by rank; ranks with equal keys are on one node.
  Layout(int rank, const std::vector<std::string>& node_keys, const std::vector<std::string>& node_names);

  [[nodiscard]] const Topology& topology() const noexcept { return topology_; }
  [[nodiscard]] int rank() const noexcept { return rank_; }
  [[nodiscard]] int nodes() const noexcept { return static_cast<int>(ranks_of_node_.size()); }
  [[nodiscard]] int node() const noexcept { return topology_.node_of_rank[static_cast<std::size_t>(rank_)]; }
  [[nodiscard]] const std::vector<int>& ranks_of(int node) const {
    return ranks_of_node_[static_cast<std::size_t>(node)];
  }
  [[nodiscard]] int local_size() const noexcept { return static_cast<int>(topology_.local_ranks.size()); }
  [[nodiscard]] int local_index() const noexcept { return local_index_; }

  /// Fragments per segment: as many as the largest node has ranks.
  [[nodiscard]] int fragments() const noexcept { return fragments_; }
  /// The rank that works on `fragment` for `node`.
  [[nodiscard]] int owner(int node, int fragment) const;
  /// Ranks on other nodes that this rank ever exchanges messages with, ascending: owners of its fragments on
  /// the neighbours in the ring, or on all nodes if there are few; and the first ranks of all nodes with each
  /// other.
  [[nodiscard]] std::vector<int> linked_ranks() const;

 private:
  int rank_;
  int local_index_ = 0;
  int fragments_ = 1;
  Topology topology_;
  std::vector<std::vector<int>> ranks_of_node_;
};

/// A half-open range of elements.
struct ElementRange {
  std::size_t begin = 0;
  std::size_t end = 0;
  [[nodiscard]] std::size_t size() const noexcept { return end - begin; }
};

/// Part `index` of `parts` of `whole`, cut at multiples of 16 elements (a cache line or two) where it can be.
[[nodiscard]] ElementRange part_of(ElementRange whole, int index, int parts);

}  // namespace paceline
