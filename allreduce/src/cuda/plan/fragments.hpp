#pragma once

#include <cstddef>
#include <vector>

#include "../../topology.hpp"
#include "paceline/allreduce.hpp"

namespace paceline::cuda {

/// A range of elements that one lane carries between nodes. A lane is one owner on each node.
struct Piece {
  int lane = 0;
  ElementRange range;
};

/// A part of a piece that fits a slot of pinned memory.
struct Fragment {
  int lane = 0;
  std::size_t first = 0;
  std::size_t count = 0;
};

/// Lanes of a topology: as many as the largest node has ranks. Owners are those of the host communicator, so
/// a node of one rank owns all of them and puts no more on the wire than others.
[[nodiscard]] std::vector<std::vector<int>> lanes_of(const Topology& topology);

/// Element ranges of `count` elements by lane; equal on all ranks.
[[nodiscard]] std::vector<Piece> pieces_of(std::size_t count, int lanes);

/// What each local rank owns of `count` elements, in the order of the node's ranks: the pieces of its lanes,
/// which follow each other. Ranks that own nothing have an empty range.
[[nodiscard]] std::vector<ElementRange> owned_ranges(const Topology& topology, int rank, std::size_t count);

/// Cuts pieces into fragments of at most `most_elements`, at multiples of 256 (a block of the int8 codec)
/// where they are that long, taken in turn from each lane. A piece of nothing is one fragment of nothing,
/// which still synchronises its lane: a rank may own several lanes, so it must not depend on what else it
/// owns.
[[nodiscard]] std::vector<Fragment> fragments_of(const std::vector<Piece>& pieces, std::size_t most_elements);

/// Bytes of a fragment for `bytes` in all: four or more fragments overlap, but none is so short that what a
/// sum costs by itself counts, nor longer than a slot.
[[nodiscard]] std::size_t fragment_bytes(std::size_t bytes, std::size_t slot_bytes);

}  // namespace paceline::cuda
