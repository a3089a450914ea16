#include "fragments.hpp"

#include <algorithm>
#include <string>

#include "paceline/base/assert.hpp"

namespace paceline::cuda {
namespace {

constexpr std::size_t codec_block = 256;
constexpr std::size_t least_fragment_bytes = std::size_t{256} << 10;
constexpr std::size_t overlapping_fragments = 4;

Layout layout_of(const Topology& topology, int rank) {
  std::vector<std::string> keys;
  std::vector<std::string> names;
  for (const int node : topology.node_of_rank) {
    keys.push_back(std::to_string(node));
    names.push_back(topology.nodes[static_cast<std::size_t>(node)]);
  }
  return {rank, keys, names};
}

}  // namespace

std::vector<std::vector<int>> lanes_of(const Topology& topology) {
  const Layout layout = layout_of(topology, 0);
  std::vector<std::vector<int>> lanes(static_cast<std::size_t>(layout.fragments()));
  for (int lane = 0; lane < layout.fragments(); ++lane)
    for (int node = 0; node < layout.nodes(); ++node)
      lanes[static_cast<std::size_t>(lane)].push_back(layout.owner(node, lane));
  return lanes;
}

std::vector<Piece> pieces_of(std::size_t count, int lanes) {
  std::vector<Piece> pieces;
  for (int lane = 0; lane < lanes; ++lane) pieces.push_back({lane, part_of({0, count}, lane, lanes)});
  return pieces;
}

std::vector<ElementRange> owned_ranges(const Topology& topology, int rank, std::size_t count) {
  const Layout layout = layout_of(topology, rank);
  std::vector<ElementRange> ranges(static_cast<std::size_t>(layout.local_size()));
  for (const Piece& piece : pieces_of(count, layout.fragments())) {
    const int owner = layout.owner(layout.node(), piece.lane);
    const auto& local = topology.local_ranks;
    const auto index = std::find(local.begin(), local.end(), owner) - local.begin();
    ElementRange& range = ranges[static_cast<std::size_t>(index)];
    if (range.size() == 0) {
      range = piece.range;
    } else if (piece.range.size() > 0) {
      PACELINE_ASSERT(range.end == piece.range.begin, "the lanes of a rank follow each other");
      range.end = piece.range.end;
    }
  }
  return ranges;
}

std::vector<Fragment> fragments_of(const std::vector<Piece>& pieces, std::size_t most_elements) {
  const std::size_t whole_blocks = most_elements / codec_block * codec_block;
  const std::size_t step = std::max<std::size_t>(1, whole_blocks > 0 ? whole_blocks : most_elements);
  std::vector<Fragment> fragments;
  for (std::size_t offset = 0, left = 1; left > 0; offset += step) {
    left = 0;
    for (const Piece& piece : pieces) {
      if (offset > 0 && offset >= piece.range.size()) continue;
      const std::size_t count = std::min(step, piece.range.size() - offset);
      fragments.push_back({piece.lane, piece.range.begin + offset, count});
      left += piece.range.size() - offset - count;
    }
  }
  return fragments;
}

std::size_t fragment_bytes(std::size_t bytes, std::size_t slot_bytes) {
  return std::min(slot_bytes, std::max(least_fragment_bytes, bytes / overlapping_fragments));
}

}  // namespace paceline::cuda
