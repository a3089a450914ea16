#include "crossing.hpp"

#include <algorithm>

namespace paceline {

void Crossing::post(Transfer& transfer, bool sending, int peer, std::uint32_t part, std::byte* bytes,
                    std::size_t size) {
  transfer.peer = peer;
  transfer.bytes = bytes;
  transfer.header = context_.header;
  transfer.header.part = place_.first_part + part;
  transfer.header.bytes = size;
  transfer.header.submitted = submitted_;
  transfer.complete = false;
  if (sending)
    context_.transport.send(transfer);
  else
    context_.transport.receive(transfer);
}

std::uint32_t parts_per_crossing(int nodes) {
  return std::max(2U, 2 * (static_cast<std::uint32_t>(nodes) - 1));
}

namespace {

/// Along the chain of nodes that starts at the root's.
class Chain final : public Crossing {
 public:
  Chain(const CrossingContext& context, const CrossingPlace& place, int root_node)
      : Crossing(context, place), root_node_(root_node) {}

  void begin() override {
    if (hops() > 0)
      post(transfer_, false, owner_on((context_.layout.node() + nodes() - 1) % nodes()), 0, place_.data,
           bytes());
    else
      pass_on();
  }

  void advance() override {
    if (done_ || !transfer_.complete) return;
    if (sending_)
      done_ = true;
    else
      pass_on();
  }

  [[nodiscard]] int awaited_rank() const override { return done_ ? -1 : transfer_.peer; }

 private:
  [[nodiscard]] int nodes() const { return context_.layout.nodes(); }
  [[nodiscard]] int hops() const { return (context_.layout.node() - root_node_ + nodes()) % nodes(); }
  [[nodiscard]] std::size_t bytes() const { return place_.count * context_.arithmetic.unit(); }

  void pass_on() {
    sending_ = true;
    if (hops() == nodes() - 1)
      done_ = true;
    else
      post(transfer_, true, owner_on((context_.layout.node() + 1) % nodes()), 0, place_.data, bytes());
  }

  int root_node_;
  bool sending_ = false;
  Transfer transfer_;
};

}  // namespace

std::unique_ptr<Crossing> make_chain(const CrossingContext& context, const CrossingPlace& place,
                                     int root_node) {
  return std::make_unique<Chain>(context, place, root_node);
}

}  // namespace paceline
