// Collectives whose data fits the control block of the node: one exchange of offers, and everyone works out
// the result from them. Between nodes, sums only: the first ranks of the nodes send each other their node's
// sum.

#include <algorithm>
#include <cstring>

#include "../waiting.hpp"
#include "collectives.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

const SteadyClock steady_clock;

/// Bytes of the caller's that a rank offers.
std::size_t payload_bytes(const Descriptor& d, std::size_t ranks) {
  if (d.kind == CollectiveKind::barrier) return 0;
  return d.count * element_bytes(d.type) * (d.kind == CollectiveKind::reduce_scatter ? ranks : 1);
}

bool is_sum(CollectiveKind kind) {
  return kind == CollectiveKind::all_reduce || kind == CollectiveKind::barrier;
}

}  // namespace

bool Collectives::is_small(const Request& request) const {
  const Descriptor& d = request.descriptor;
  if (d.count == 0) return true;  // nothing but a barrier
  if (d.count > shm::inline_bytes || d.feedback != 0) return false;
  if (transport_ == nullptr)
    return payload_bytes(d, layout_.topology().node_of_rank.size()) <= shm::inline_bytes;
  const std::size_t unit = d.codec == Codec::fixed_point ? sizeof(std::int64_t) : element_bytes(d.type);
  return is_sum(d.kind) && (d.kind == CollectiveKind::barrier || d.count * unit <= shm::inline_bytes);
}

Status Collectives::run_small(const Request& request, const Arithmetic& arithmetic, std::uint64_t& submitted,
                              const shm::Patience& patience) {
  const Descriptor& d = request.descriptor;
  const std::size_t ranks = layout_.topology().node_of_rank.size();
  const bool has_payload = d.kind != CollectiveKind::broadcast || d.root == layout_.rank();
  group_.offer({d, request.weight, submitted}, {request.input, has_payload ? payload_bytes(d, ranks) : 0});
  PACELINE_TRY(group_.await_offers(patience));
  for (int peer = 0; peer < group_.size(); ++peer)
    submitted = std::min(submitted, group_.offered_submitted(peer));
  if (transport_ != nullptr) return sum_small_between_nodes(request, arithmetic, submitted, patience);
  if (d.kind != CollectiveKind::barrier && d.count > 0) finish_small(request, arithmetic);
  return {};
}

/// On one node: the result, from everyone's offers.
void Collectives::finish_small(const Request& request, const Arithmetic& arithmetic) {
  const Descriptor& d = request.descriptor;
  const std::size_t bytes = d.count * element_bytes(d.type);
  const std::vector<int>& ranks = layout_.topology().local_ranks;
  if (d.kind == CollectiveKind::broadcast) {
    if (d.root != layout_.rank()) std::memcpy(request.output, group_.offered_payload(d.root), bytes);
    return;
  }
  if (d.kind == CollectiveKind::all_gather) {
    for (int peer = 0; peer < group_.size(); ++peer)
      std::memcpy(request.output + static_cast<std::size_t>(peer) * bytes, group_.offered_payload(peer),
                  bytes);
    return;
  }
  const std::size_t skipped =
      d.kind == CollectiveKind::reduce_scatter ? static_cast<std::size_t>(layout_.rank()) * bytes : 0;
  ins_.clear();
  for (int peer = 0; peer < group_.size(); ++peer) ins_.push_back(group_.offered_payload(peer) + skipped);
  const std::vector<double> weights = offered_weights();
  void* out = request.output;
  arithmetic.whole(&out, 1, ins_.data(), static_cast<int>(ranks.size()),
                   weights.empty() ? nullptr : weights.data(), d.count, divisor_of(request));
}

Status Collectives::sum_small_between_nodes(const Request& request, const Arithmetic& arithmetic,
                                            std::uint64_t& submitted, const shm::Patience& patience) {
  const std::size_t count = request.descriptor.kind == CollectiveKind::barrier ? 0 : request.descriptor.count;
  const std::size_t result_bytes = count * element_bytes(request.descriptor.type);
  const std::size_t bytes = count * arithmetic.unit();
  if (group_.index() != 0) {
    PACELINE_ASSIGN(const std::byte* outcome, group_.await_outcome(0, patience));
    std::memcpy(&submitted, outcome, sizeof submitted);
    if (count > 0) std::memcpy(request.output, outcome + sizeof submitted, result_bytes);
    return {};
  }
  const auto nodes = static_cast<std::size_t>(layout_.nodes());
  const ScratchPool::Buffer buffer = scratch_.take(nodes * shm::inline_bytes);
  std::byte* partials = buffer.data();
  if (count > 0) {
    ins_.clear();
    for (int peer = 0; peer < group_.size(); ++peer) ins_.push_back(group_.offered_payload(peer));
    const std::vector<double> weights = offered_weights();
    arithmetic.partial(partials + static_cast<std::size_t>(layout_.node()) * shm::inline_bytes, ins_.data(),
                       group_.size(), weights.empty() ? nullptr : weights.data(), count);
  }
  PACELINE_TRY(exchange_small(request, partials, bytes, submitted, patience));
  std::byte* outcome = group_.own_outcome();
  std::memcpy(outcome, &submitted, sizeof submitted);
  if (count > 0) {
    ins_.clear();
    for (std::size_t node = 0; node < nodes; ++node) ins_.push_back(partials + node * shm::inline_bytes);
    const double divisor = divisor_of(request);
    arithmetic.add(partials, ins_.data(), static_cast<int>(nodes), count, divisor);
    void* outs[] = {outcome + sizeof submitted, request.output};
    arithmetic.finish(outs, 2, partials, count, divisor);
  }
  group_.finish();
  return {};
}

/// The first ranks of all nodes send each other their node's partial sum.
Status Collectives::exchange_small(const Request& request, std::byte* partials, std::size_t bytes,
                                   std::uint64_t& submitted, const shm::Patience& patience) {
  const int nodes = layout_.nodes();
  std::vector<Transfer> transfers(static_cast<std::size_t>(nodes) * 2);
  const BlockHeader header = header_of(request, submitted);
  const auto sum_of = [&](int node) { return partials + static_cast<std::size_t>(node) * shm::inline_bytes; };
  for (int node = 0; node < nodes; ++node) {
    if (node == layout_.node()) continue;
    Transfer& send = transfers[static_cast<std::size_t>(node) * 2];
    Transfer& receive = transfers[static_cast<std::size_t>(node) * 2 + 1];
    send.header = receive.header = header;
    send.header.bytes = receive.header.bytes = bytes;
    send.peer = receive.peer = layout_.ranks_of(node).front();
    send.bytes = sum_of(layout_.node());
    receive.bytes = sum_of(node);
    transport_->receive(receive);
    transport_->send(send);
  }
  const Instant spin_end = steady_clock.now() + (patience.may_spin ? wire_spin : Duration::zero());
  for (auto first = transfers.begin(); first != transfers.end();) {
    if (first->bytes == nullptr || first->complete) {  // this node's own places are empty
      ++first;
      continue;
    }
    PACELINE_TRY(abort_.status());
    const bool spin = patience.may_spin && steady_clock.now() < spin_end;
    PACELINE_TRY(
        transport_->progress(spin ? Duration::zero() : std::min(longest_nap, patience.deadline.left())));
    if (!first->complete && patience.deadline.passed())
      return Error{ErrorCode::timeout,
                   concat("rank ", first->peer, " did not answer in time in ", describe(request.descriptor)),
                   first->peer};
  }
  for (int node = 0; node < nodes; ++node)
    if (node != layout_.node())
      submitted = std::min(submitted, transfers[static_cast<std::size_t>(node) * 2 + 1].received.submitted);
  return {};
}

}  // namespace paceline
