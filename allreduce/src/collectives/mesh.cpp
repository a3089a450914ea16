#include <algorithm>
#include <cstring>

#include "crossing.hpp"

namespace paceline {

std::unique_ptr<Crossing> make_ring_sum(const CrossingContext& context, const CrossingPlace& place);

namespace {

/// A round trip of one block with each other node: sent to all of them, and one received from each.
struct Peer {
  int node = 0;
  Transfer send;
  Transfer receive;
  ScratchPool::Buffer outgoing;
  ScratchPool::Buffer incoming;
};

/// Sums in which every owner speaks with every other at once.
class Mesh : public Crossing {
 public:
  Mesh(const CrossingContext& context, const CrossingPlace& place) : Crossing(context, place) {
    for (int node = 0; node < context.layout.nodes(); ++node) {
      if (node == context.layout.node()) continue;
      peers_.push_back(std::make_unique<Peer>());
      peers_.back()->node = node;
    }
  }

  [[nodiscard]] int awaited_rank() const override {
    for (const auto& peer : peers_)
      if (!done_ && !peer->receive.complete) return peer->receive.peer;
    for (const auto& peer : peers_)
      if (!done_ && !peer->send.complete) return peer->send.peer;
    return -1;
  }

 protected:
  [[nodiscard]] bool all_complete() const {
    return std::ranges::all_of(peers_, [](const auto& p) { return p->send.complete && p->receive.complete; });
  }

  /// sum = what has come from every node and what this one has, in the order of the nodes.
  void add_up(std::byte* sum, const std::byte* own, std::size_t count) {
    const Arithmetic& arithmetic = context_.arithmetic;
    std::vector<const void*> parts;
    std::vector<ScratchPool::Buffer> decoded;
    for (const auto& peer : peers_) {
      if (peer->node == context_.layout.node() + 1) parts.push_back(own);
      const std::byte* came = peer->incoming.data();
      if (arithmetic.coded()) {
        decoded.push_back(context_.scratch.take(count * arithmetic.unit()));
        arithmetic.decode(decoded.back().data(), came, count);
        came = decoded.back().data();
      }
      parts.push_back(came);
    }
    if (parts.size() == peers_.size()) parts.push_back(own);  // the last node
    arithmetic.add(sum, parts.data(), static_cast<int>(parts.size()), count, context_.divisor);
  }

  std::vector<std::unique_ptr<Peer>> peers_;  // in the order of the nodes; transfers must not move
};

/// One hop: everybody sends everything to everybody and adds up all of it.
class Exchange final : public Mesh {
 public:
  using Mesh::Mesh;

  void begin() override {
    const Arithmetic& arithmetic = context_.arithmetic;
    const std::size_t bytes = arithmetic.wire_bytes(place_.count);
    std::byte* from = place_.data;
    if (arithmetic.coded()) {
      outgoing_ = context_.scratch.take(bytes);
      from = outgoing_.data();
      arithmetic.encode(from, place_.data, place_.count, place_.residual);
      arithmetic.decode(place_.data, from, place_.count);  // what all the others will add
    }
    for (const auto& peer : peers_) {
      peer->incoming = context_.scratch.take(bytes);
      post(peer->receive, false, owner_on(peer->node), 0, peer->incoming.data(), bytes);
      post(peer->send, true, owner_on(peer->node), 0, from, bytes);
    }
  }

  void advance() override {
    if (done_ || !all_complete()) return;
    for (const auto& peer : peers_) hear(peer->receive);
    add_up(place_.data, place_.data, place_.count);
    done_ = true;
  }

 private:
  ScratchPool::Buffer outgoing_;
};

/// Two hops: every node gets the others' parts of its chunk, adds them up, and sends everybody the sum.
class Direct final : public Mesh {
 public:
  using Mesh::Mesh;

  void begin() override {
    const Arithmetic& arithmetic = context_.arithmetic;
    for (const auto& peer : peers_) {
      const ElementRange theirs = chunk(peer->node);
      const std::size_t bytes = arithmetic.wire_bytes(theirs.size());
      std::byte* from = at(theirs.begin);
      if (arithmetic.coded()) {
        peer->outgoing = context_.scratch.take(std::max(bytes, arithmetic.wire_bytes(own().size())));
        from = peer->outgoing.data();
        arithmetic.encode(from, at(theirs.begin), theirs.size(), residual_at(theirs.begin));
      }
      const std::size_t own_bytes = arithmetic.wire_bytes(own().size());
      peer->incoming = context_.scratch.take(std::max(bytes, own_bytes));
      post(peer->receive, false, owner_on(peer->node), 0, peer->incoming.data(), own_bytes);
      post(peer->send, true, owner_on(peer->node), 0, from, bytes);
    }
  }

  void advance() override {
    if (done_ || !all_complete()) return;
    if (!second_hop_) {
      for (const auto& peer : peers_) hear(peer->receive);
      begin_second_hop();
      return;
    }
    if (context_.arithmetic.coded())
      for (const auto& peer : peers_) {
        const ElementRange theirs = chunk(peer->node);
        context_.arithmetic.decode(at(theirs.begin), peer->incoming.data(), theirs.size());
      }
    done_ = true;
  }

 private:
  [[nodiscard]] ElementRange chunk(int node) const {
    return part_of({0, place_.count}, node, context_.layout.nodes());
  }
  [[nodiscard]] ElementRange own() const { return chunk(context_.layout.node()); }

  void begin_second_hop() {
    second_hop_ = true;
    const Arithmetic& arithmetic = context_.arithmetic;
    const ElementRange mine = own();
    std::byte* sum = at(mine.begin);
    add_up(sum, sum, mine.size());
    std::byte* from = sum;
    const std::size_t own_bytes = arithmetic.wire_bytes(mine.size());
    if (arithmetic.coded()) {
      from = peers_.front()->outgoing.data();
      arithmetic.encode(from, sum, mine.size(), residual_at(mine.begin));
      arithmetic.decode(sum, from, mine.size());
    }
    for (const auto& peer : peers_) {
      const ElementRange theirs = chunk(peer->node);
      std::byte* to = arithmetic.coded() ? peer->incoming.data() : at(theirs.begin);
      post(peer->receive, false, owner_on(peer->node), 1, to, arithmetic.wire_bytes(theirs.size()));
      post(peer->send, true, owner_on(peer->node), 1, from, own_bytes);
    }
  }

  bool second_hop_ = false;
};

}  // namespace

std::unique_ptr<Crossing> make_sum(Algorithm algorithm, const CrossingContext& context,
                                   const CrossingPlace& place) {
  if (algorithm == Algorithm::exchange) return std::make_unique<Exchange>(context, place);
  if (algorithm == Algorithm::direct) return std::make_unique<Direct>(context, place);
  return make_ring_sum(context, place);
}

}  // namespace paceline
