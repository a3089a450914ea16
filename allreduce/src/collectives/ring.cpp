#include <algorithm>
#include <utility>

#include "crossing.hpp"

namespace paceline {
namespace {

/// Ring all-reduce (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of
/// workstations", 2009) and its halves. In the first half, nodes - 1 steps, each node adds the chunk that it
/// receives to its own and passes it on in the next step; in the second half, as many steps, the complete
/// chunks go round.
class Ring final : public Crossing {
 public:
  /// In step s of a half a node sends the chunk with index (node + shift - s), round the nodes.
  struct Half {
    bool present = false;
    int shift = 0;
  };

  Ring(const CrossingContext& context, const CrossingPlace& place, Chunks chunks, Half adding, Half gathering)
      : Crossing(context, place), chunks_(std::move(chunks)), adding_(adding), gathering_(gathering) {}

  void begin() override {
    std::size_t most = 0;
    for (const ElementRange& chunk : chunks_)
      most = std::max(most, context_.arithmetic.wire_bytes(chunk.size()));
    if (adding_.present || context_.arithmetic.coded()) incoming_ = context_.scratch.take(most);
    if (context_.arithmetic.coded()) outgoing_ = context_.scratch.take(most);
    begin_step();
  }

  void advance() override {
    while (!done_ && send_.complete && receive_.complete) {
      hear(receive_);
      take_up();
      ++step_;
      if (step_ == steps())
        done_ = true;
      else
        begin_step();
    }
  }

  [[nodiscard]] int awaited_rank() const override {
    if (done_) return -1;
    return receive_.complete ? send_.peer : receive_.peer;
  }

 private:
  [[nodiscard]] int nodes() const { return context_.layout.nodes(); }
  [[nodiscard]] int steps() const {
    return ((adding_.present ? 1 : 0) + (gathering_.present ? 1 : 0)) * (nodes() - 1);
  }
  [[nodiscard]] bool in_first_half() const { return adding_.present && step_ < nodes() - 1; }
  [[nodiscard]] int step_of_half() const {
    return in_first_half() || !adding_.present ? step_ : step_ - (nodes() - 1);
  }

  /// The chunk that this node sends in the current step, or that it receives.
  [[nodiscard]] const ElementRange& chunk(bool sent) const {
    const int shift = in_first_half() ? adding_.shift : gathering_.shift;
    const int index = context_.layout.node() + shift - step_of_half() - (sent ? 0 : 1);
    return chunks_[static_cast<std::size_t>((index % nodes() + nodes()) % nodes())];
  }

  void begin_step() {
    const int next = owner_on((context_.layout.node() + 1) % nodes());
    const int previous = owner_on((context_.layout.node() + nodes() - 1) % nodes());
    const Arithmetic& arithmetic = context_.arithmetic;
    const auto part = static_cast<std::uint32_t>(step_);
    const ElementRange& out = chunk(true);
    const ElementRange& in = chunk(false);
    if (arithmetic.coded()) prepare_outgoing(out);
    std::byte* from = arithmetic.coded() ? outgoing_.data() : at(out.begin);
    std::byte* to = arithmetic.coded() || in_first_half() ? incoming_.data() : at(in.begin);
    post(receive_, false, previous, part, to, arithmetic.wire_bytes(in.size()));
    post(send_, true, next, part, from, arithmetic.wire_bytes(out.size()));
  }

  /// Fills outgoing_ with what the chunk is on the wire.
  void prepare_outgoing(const ElementRange& out) {
    if (in_first_half()) {
      context_.arithmetic.encode(outgoing_.data(), at(out.begin), out.size(), residual_at(out.begin));
    } else if (step_of_half() == 0) {
      // The one who completed the sum keeps what the others will decode.
      context_.arithmetic.encode(outgoing_.data(), at(out.begin), out.size(), residual_at(out.begin));
      context_.arithmetic.decode(at(out.begin), outgoing_.data(), out.size());
    } else {
      std::swap(outgoing_, incoming_);  // as it came
    }
  }

  /// Adds what was received, or puts it in its place.
  void take_up() {
    const ElementRange& in = chunk(false);
    const Arithmetic& arithmetic = context_.arithmetic;
    if (!in_first_half()) {
      if (arithmetic.coded()) arithmetic.decode(at(in.begin), incoming_.data(), in.size());
      return;
    }
    const bool last = step_ == nodes() - 2;
    const std::byte* received = incoming_.data();
    if (arithmetic.coded()) {
      if (decoded_.data() == nullptr) decoded_ = context_.scratch.take(largest_chunk() * arithmetic.unit());
      arithmetic.decode(decoded_.data(), received, in.size());
      received = decoded_.data();
    }
    const void* parts[] = {received, at(in.begin)};
    arithmetic.add(at(in.begin), parts, 2, in.size(), last ? context_.divisor : 1.0);
  }

  [[nodiscard]] std::size_t largest_chunk() const {
    std::size_t most = 0;
    for (const ElementRange& each : chunks_) most = std::max(most, each.size());
    return most;
  }

  Chunks chunks_;
  Half adding_;
  Half gathering_;
  int step_ = 0;
  Transfer send_;
  Transfer receive_;
  ScratchPool::Buffer outgoing_;
  ScratchPool::Buffer incoming_;
  ScratchPool::Buffer decoded_;
};

}  // namespace

std::unique_ptr<Crossing> make_ring_sum(const CrossingContext& context, const CrossingPlace& place) {
  const int nodes = context.layout.nodes();
  Chunks chunks;
  for (int node = 0; node < nodes; ++node) chunks.push_back(part_of({0, place.count}, node, nodes));
  // Which chunk a node begins with moves with the fragment, so that uneven chunks do not add up.
  const int shift = place.fragment;
  return std::make_unique<Ring>(context, place, std::move(chunks), Ring::Half{true, shift},
                                Ring::Half{true, shift + 1});
}

std::unique_ptr<Crossing> make_scattered_sum(const CrossingContext& context, const CrossingPlace& place,
                                             Chunks chunks) {
  return std::make_unique<Ring>(context, place, std::move(chunks), Ring::Half{true, -1}, Ring::Half{});
}

std::unique_ptr<Crossing> make_gather(const CrossingContext& context, const CrossingPlace& place,
                                      Chunks chunks) {
  return std::make_unique<Ring>(context, place, std::move(chunks), Ring::Half{}, Ring::Half{true, 0});
}

}  // namespace paceline
