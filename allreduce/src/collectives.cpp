#include "collectives.hpp"

#include <algorithm>
#include <cstring>

#include "paceline/base/assert.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

// Between nodes: long enough that headers and turns do not count, short enough for staging.
constexpr std::size_t segment_bytes = shm::staging_bytes;
// Sums within a node go block by block, so that what was added is still in the core's cache when it is
// written to the others.
constexpr std::size_t block_bytes = 32U << 10;

}  // namespace

Status Collectives::run(const Descriptor& descriptor, std::byte* data, const Deadline& deadline,
                        bool may_spin) {
  Call call{descriptor, deadline, may_spin, element_bytes(descriptor.type),
            reduce_kernel(descriptor.type, descriptor.op)};
  switch (descriptor.kind) {
    case CollectiveKind::barrier: return small_all_reduce(call, data);
    case CollectiveKind::all_reduce:
      if (descriptor.count * call.element_bytes <= shm::inline_bytes) return small_all_reduce(call, data);
      return all_reduce(call, data);
    case CollectiveKind::broadcast: return broadcast(call, data);
    case CollectiveKind::all_gather: return all_gather(call, data);
  }
  return Error{ErrorCode::internal, "unknown collective"};
}

Status Collectives::small_all_reduce(Call& call, std::byte* data) {
  const std::size_t count = call.descriptor.kind == CollectiveKind::barrier ? 0 : call.descriptor.count;
  const std::size_t bytes = count * call.element_bytes;
  group_.offer(call.descriptor, {}, {data, bytes});
  PACELINE_TRY(group_.await_offers(call.deadline, call.may_spin));
  const bool leads = group_.index() == 0;
  if (between_ != nullptr && !leads) {
    PACELINE_ASSIGN(const std::byte* outcome, group_.await_outcome(0, call.deadline, call.may_spin));
    if (bytes > 0) std::memcpy(data, outcome, bytes);
    return {};
  }
  for (int peer = 0; peer < group_.size() && bytes > 0; ++peer) {
    const std::byte* theirs = group_.offered_payload(peer, bytes).data();
    if (peer == 0)
      std::memcpy(data, theirs, bytes);
    else
      call.reduce(data, data, theirs, count);
  }
  if (between_ == nullptr) return {};
  PACELINE_TRY(exchange_small(call, data, bytes));
  if (bytes > 0) std::memcpy(group_.own_outcome(), data, bytes);
  group_.finish();
  return {};
}

/// The first ranks of all nodes send each other their node's sum and add up all of them in node order.
Status Collectives::exchange_small(Call& call, std::byte* sum, std::size_t bytes) {
  const auto nodes = static_cast<std::size_t>(layout_.nodes());
  const auto own = static_cast<std::size_t>(layout_.node());
  scratch_.resize(std::max<std::size_t>(nodes * shm::inline_bytes, scratch_.size()));
  const auto sum_of = [&](std::size_t node) { return scratch_.data() + node * shm::inline_bytes; };
  std::vector<Outgoing> outgoing;
  std::vector<Incoming> incoming;
  for (std::size_t node = 0; node < nodes; ++node) {
    if (node == own) continue;
    const int peer = layout_.ranks_of(static_cast<int>(node)).front();
    outgoing.push_back({peer, 0, {sum, bytes}});
    incoming.push_back({peer, 0, {sum_of(node), bytes}});
  }
  PACELINE_TRY(between_->exchange(call.descriptor, outgoing, incoming, call.deadline));
  if (bytes == 0) return {};
  std::memcpy(sum_of(own), sum, bytes);
  std::memcpy(sum, sum_of(0), bytes);
  for (std::size_t node = 1; node < nodes; ++node)
    call.reduce(sum, sum, sum_of(node), bytes / call.element_bytes);
  return {};
}

Status Collectives::all_reduce(Call& call, std::byte* data) {
  return over_segments(call, data, call.descriptor.count, [&](const Buffers& buffers, ElementRange segment) {
    return reduce_segment(call, buffers, segment);
  });
}

Status Collectives::broadcast(Call& call, std::byte* data) {
  return over_segments(call, data, call.descriptor.count, [&](const Buffers& buffers, ElementRange segment) {
    return broadcast_segment(call, buffers, segment, call.descriptor.root);
  });
}

/// A broadcast of every rank's block, one after the other.
Status Collectives::all_gather(Call& call, std::byte* data) {
  const std::size_t count = call.descriptor.count;
  const auto ranks = layout_.topology().node_of_rank.size();
  return over_segments(
      call, data, count * ranks, [&](const Buffers& buffers, ElementRange segment) -> Status {
        if (count == 0) return {};
        for (std::size_t rank = segment.begin / count; rank < ranks && rank * count < segment.end; ++rank) {
          const ElementRange block{std::max(segment.begin, rank * count),
                                   std::min(segment.end, (rank + 1) * count)};
          PACELINE_TRY(broadcast_segment(call, buffers, block, static_cast<int>(rank)));
        }
        return {};
      });
}

Status Collectives::over_segments(Call& call, std::byte* data, std::size_t total, const Segment& work) {
  const std::size_t bytes = total * call.element_bytes;
  group_.offer(call.descriptor, group_.locate(data, bytes), {});
  PACELINE_TRY(group_.await_offers(call.deadline, call.may_spin));
  Buffers buffers;
  if (group_.size() == 1) {
    buffers.data = {data};
  } else {
    PACELINE_ASSIGN(const bool mapped, map_buffers(bytes, buffers));
    if (!mapped) return over_staging(call, data, total, work);
  }
  // Nodes agree on where segments end, whatever memory they have; on a single one there is no need to cut.
  const std::size_t step =
      between_ == nullptr ? std::max<std::size_t>(total, 1) : segment_bytes / call.element_bytes;
  for (std::size_t begin = 0; begin < total; begin += step)
    PACELINE_TRY(work(buffers, {begin, std::min(begin + step, total)}));
  group_.finish();
  return group_.await_finished_by_all(call.deadline, call.may_spin);
}

/// True if every rank of the node offered shared memory, which is then in `buffers`.
Result<bool> Collectives::map_buffers(std::size_t bytes, Buffers& buffers) const {
  for (int peer = 0; peer < group_.size(); ++peer)
    if (!group_.offered_location(peer).shared) return false;
  for (int peer = 0; peer < group_.size(); ++peer) {
    std::byte* at = group_.at(peer, group_.offered_location(peer), bytes);
    if (at == nullptr) {
      const int rank = layout_.topology().local_ranks[static_cast<std::size_t>(peer)];
      return Error{ErrorCode::mismatch,
                   concat("rank ", rank,
                          " offers shared memory that this rank does not have: allocate() and "
                          "free in the same order on all ranks of a node"),
                   rank};
    }
    buffers.data.push_back(at);
  }
  return true;
}

Status Collectives::over_staging(Call& call, std::byte* data, std::size_t total, const Segment& work) {
  const std::size_t step = segment_bytes / call.element_bytes;
  Buffers buffers;
  for (int peer = 0; peer < group_.size(); ++peer)
    buffers.data.push_back(group_.at(peer, group_.staging(), shm::staging_bytes));
  std::byte* own = buffers.data[static_cast<std::size_t>(group_.index())];
  for (std::size_t begin = 0; begin < total; begin += step) {
    const ElementRange segment{begin, std::min(begin + step, total)};
    std::byte* at = data + begin * call.element_bytes;
    std::memcpy(own, at, segment.size() * call.element_bytes);
    group_.offer(call.descriptor, group_.staging(), {});
    PACELINE_TRY(group_.await_offers(call.deadline, call.may_spin));
    buffers.base = begin;
    PACELINE_TRY(work(buffers, segment));
    group_.finish();
    PACELINE_TRY(group_.await_finished_by_all(call.deadline, call.may_spin));
    std::memcpy(at, own, segment.size() * call.element_bytes);
  }
  return {};
}

Status Collectives::reduce_segment(Call& call, const Buffers& buffers, ElementRange segment) {
  for (int fragment = 0; fragment < layout_.fragments(); ++fragment) {
    const std::uint32_t first_part = call.part;  // counted by all ranks alike, owners or not
    call.part += 2 * static_cast<std::uint32_t>(layout_.nodes() - 1);
    if (layout_.owner(layout_.node(), fragment) != layout_.rank()) continue;
    const ElementRange range = part_of(segment, fragment, layout_.fragments());
    reduce_on_node(call, buffers, range, between_ == nullptr);
    if (between_ == nullptr) continue;
    std::byte* own = place(call, buffers, group_.index(), range.begin);
    PACELINE_TRY(ring(call, own, range.size(), fragment, first_part));
    spread_on_node(call, buffers, range, group_.index());
  }
  return {};
}

/// The sum over the node's ranks, in the order of their indices, into this rank's buffer; with `spread` into
/// the buffers of all.
void Collectives::reduce_on_node(const Call& call, const Buffers& buffers, ElementRange range, bool spread) {
  const std::size_t step = block_bytes / call.element_bytes;
  scratch_.resize(std::max(scratch_.size(), block_bytes));
  for (std::size_t begin = range.begin; begin < range.end; begin += step) {
    const std::size_t count = std::min(step, range.end - begin);
    const auto at = [&](int peer) { return place(call, buffers, peer, begin); };
    std::byte* own = at(group_.index());
    if (group_.size() == 1) return;
    // With two ranks the sum can go straight into place; with more, this rank's addend may be due later.
    std::byte* sum = group_.size() == 2 ? own : scratch_.data();
    call.reduce(sum, at(0), at(1), count);
    for (int peer = 2; peer < group_.size(); ++peer) call.reduce(sum, sum, at(peer), count);
    for (int peer = 0; peer < group_.size(); ++peer)
      if ((spread || peer == group_.index()) && at(peer) != sum)
        std::memcpy(at(peer), sum, count * call.element_bytes);
  }
}

void Collectives::spread_on_node(const Call& call, const Buffers& buffers, ElementRange range, int source) {
  const std::byte* from = place(call, buffers, source, range.begin);
  for (int peer = 0; peer < group_.size(); ++peer)
    if (peer != source)
      std::memcpy(place(call, buffers, peer, range.begin), from, range.size() * call.element_bytes);
}

/// Ring all-reduce (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of
/// workstations", 2009) among the owners of `fragment`: nodes - 1 steps in which each adds the chunk that it
/// receives and passes it on, then as many in which the complete chunks go round. Each chunk is added up
/// along one path and then copied, so all nodes get the same bits.
Status Collectives::ring(const Call& call, std::byte* own, std::size_t count, int fragment,
                         std::uint32_t first_part) {
  const int nodes = layout_.nodes();
  const int next = layout_.owner((layout_.node() + 1) % nodes, fragment);
  const int previous = layout_.owner((layout_.node() + nodes - 1) % nodes, fragment);
  // Which chunk a node begins with moves with the fragment, so that uneven chunks do not add up.
  const auto chunk = [&](int place_in_ring) {
    const int index = ((place_in_ring + fragment) % nodes + nodes) % nodes;
    return part_of({0, count}, index, nodes);
  };
  const auto bytes_of = [&](ElementRange r) {
    return std::span<std::byte>{own + r.begin * call.element_bytes, r.size() * call.element_bytes};
  };
  scratch_.resize(
      std::max(scratch_.size(), (count / static_cast<std::size_t>(nodes) + 32) * call.element_bytes));
  for (int step = 0; step < 2 * (nodes - 1); ++step) {
    const std::uint32_t part = first_part + static_cast<std::uint32_t>(step);
    const bool adding = step < nodes - 1;
    const ElementRange out = chunk(layout_.node() - step);
    const ElementRange in = chunk(layout_.node() - step - 1);
    const std::span<std::byte> received =
        adding ? std::span<std::byte>{scratch_.data(), in.size() * call.element_bytes} : bytes_of(in);
    const Outgoing outgoing{next, part, bytes_of(out)};
    const Incoming incoming{previous, part, received};
    PACELINE_TRY(between_->exchange(call.descriptor, {&outgoing, 1}, {&incoming, 1}, call.deadline));
    if (adding) call.reduce(bytes_of(in).data(), received.data(), bytes_of(in).data(), in.size());
  }
  return {};
}

/// Along the chain of nodes that starts at the root's, fragment by fragment.
Status Collectives::broadcast_segment(Call& call, const Buffers& buffers, ElementRange segment, int root) {
  const int nodes = layout_.nodes();
  const int root_node = layout_.topology().node_of_rank[static_cast<std::size_t>(root)];
  const int hops = (layout_.node() - root_node + nodes) % nodes;  // from the root's node to this one
  const std::vector<int>& locals = layout_.ranks_of(layout_.node());
  for (int fragment = 0; fragment < layout_.fragments(); ++fragment) {
    const std::uint32_t part = call.part++;
    if (layout_.owner(layout_.node(), fragment) != layout_.rank()) continue;
    const ElementRange range = part_of(segment, fragment, layout_.fragments());
    const int source =
        hops == 0 ? static_cast<int>(std::ranges::find(locals, root) - locals.begin()) : group_.index();
    const std::span<std::byte> bytes{place(call, buffers, source, range.begin),
                                     range.size() * call.element_bytes};
    if (hops > 0) {
      const Incoming incoming{layout_.owner((layout_.node() + nodes - 1) % nodes, fragment), part, bytes};
      PACELINE_TRY(between_->exchange(call.descriptor, {}, {&incoming, 1}, call.deadline));
    }
    if (hops < nodes - 1) {
      const Outgoing outgoing{layout_.owner((layout_.node() + 1) % nodes, fragment), part, bytes};
      PACELINE_TRY(between_->exchange(call.descriptor, {&outgoing, 1}, {}, call.deadline));
    }
    spread_on_node(call, buffers, range, source);
  }
  return {};
}

}  // namespace paceline
