#include <algorithm>

#include "rounds.hpp"

namespace paceline {

ElementRange Course::round(std::uint64_t index) const {
  const std::size_t begin = index * per_round;
  return {begin, std::min<std::size_t>(begin + per_round, request.descriptor.count)};
}

StagingNeeds staging_needs(CollectiveKind kind, std::size_t ranks) {
  if (kind == CollectiveKind::reduce_scatter) return {ranks, ranks};
  if (kind == CollectiveKind::all_gather) return {1, ranks};
  return {1, 1};
}

std::byte* Course::contribution(int peer, std::uint64_t round_index) const {
  return group.staging_of(peer) + round_index % slots * slot_bytes;
}

std::byte* Course::result(int peer, std::uint64_t round_index) const {
  const StagingNeeds needs = staging_needs(request.descriptor.kind, blocks());
  return contribution(peer, round_index) + needs.contributed * per_round * unit();
}

const std::byte* Course::source(int peer, std::uint64_t round_index, std::size_t block,
                                ElementRange range) const {
  const std::size_t in_caller = (block * request.descriptor.count + range.begin) * unit();
  if (peer == group.index()) return request.input + in_caller;
  if (way == Way::direct) return inputs[static_cast<std::size_t>(peer)] + in_caller;
  const ElementRange whole = round(round_index);
  return contribution(peer, round_index) + (block * whole.size() + range.begin - whole.begin) * unit();
}

std::byte* Course::destination(int peer, std::uint64_t round_index, std::size_t block,
                               ElementRange range) const {
  const std::size_t caller_block = request.descriptor.kind == CollectiveKind::reduce_scatter ? 0 : block;
  const std::size_t in_caller = (caller_block * request.descriptor.count + range.begin) * unit();
  if (peer == group.index()) return request.output + in_caller;
  if (way == Way::direct) return outputs[static_cast<std::size_t>(peer)] + in_caller;
  const ElementRange whole = round(round_index);
  return result(group.index(), round_index) + (block * whole.size() + range.begin - whole.begin) * unit();
}

void Course::destinations(std::uint64_t round_index, std::size_t block, ElementRange range,
                          std::vector<void*>& into) const {
  into.clear();
  into.push_back(destination(group.index(), round_index, block, range));
  if (way == Way::direct) {
    for (int peer = 0; peer < group.size(); ++peer)
      if (peer != group.index()) into.push_back(destination(peer, round_index, block, range));
  } else if (way == Way::staged && group.size() > 1) {
    into.push_back(
        destination(group.index() == 0 ? 1 : 0, round_index, block, range));  // staging, once for all
  }
}

}  // namespace paceline
