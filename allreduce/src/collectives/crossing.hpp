#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "../codec.hpp"
#include "../topology.hpp"
#include "paceline/transport.hpp"
#include "scratch.hpp"

namespace paceline {

/// What every crossing of one collective has in common.
struct CrossingContext {
  const Layout& layout;
  Transport& transport;
  const Arithmetic& arithmetic;
  ScratchPool& scratch;
  BlockHeader header;    ///< of all its blocks, but for part and bytes
  double divisor = 1.0;  ///< applied by the addition that completes a sum
};

/// Where a crossing works: `count` elements at `data`, on behalf of `fragment`'s owners. `first_part` numbers
/// its blocks. `residual` (or null) has as many floats.
struct CrossingPlace {
  std::byte* data = nullptr;
  std::size_t count = 0;
  int fragment = 0;
  std::uint32_t first_part = 0;
  float* residual = nullptr;
};

/// One piece of a collective on its way between the owners of its fragment on all nodes. Nothing blocks:
/// begin(), then advance() after each progress of the transport, until done(). Each element of a sum is added
/// up along one path and then copied, so all nodes get the same bits.
class Crossing {
 public:
  Crossing(const CrossingContext& context, const CrossingPlace& place)
      : context_(context), place_(place), submitted_(context.header.submitted) {}
  Crossing(const Crossing&) = delete;
  Crossing& operator=(const Crossing&) = delete;
  virtual ~Crossing() = default;

  virtual void begin() = 0;
  virtual void advance() = 0;
  [[nodiscard]] bool done() const noexcept { return done_; }
  /// Least number of collectives begun among the nodes heard of: all of them, when a sum is done.
  [[nodiscard]] std::uint64_t submitted() const noexcept { return submitted_; }
  /// A rank that something is still awaited from, or -1.
  [[nodiscard]] virtual int awaited_rank() const = 0;

 protected:
  [[nodiscard]] int owner_on(int node) const { return context_.layout.owner(node, place_.fragment); }
  [[nodiscard]] std::byte* at(std::size_t element) const {
    return place_.data + element * context_.arithmetic.unit();
  }
  [[nodiscard]] float* residual_at(std::size_t element) const {
    return place_.residual == nullptr ? nullptr : place_.residual + element;
  }
  void post(Transfer& transfer, bool sending, int peer, std::uint32_t part, std::byte* bytes,
            std::size_t size);
  void hear(const Transfer& received) {
    if (received.received.submitted < submitted_) submitted_ = received.received.submitted;
  }

  const CrossingContext& context_;
  CrossingPlace place_;
  std::uint64_t submitted_;
  bool done_ = false;
};

/// Blocks that one crossing may number, per pair of ranks.
[[nodiscard]] std::uint32_t parts_per_crossing(int nodes);

/// The sum over all nodes of what they have at `place`, on all of them.
[[nodiscard]] std::unique_ptr<Crossing> make_sum(Algorithm algorithm, const CrossingContext& context,
                                                 const CrossingPlace& place);
/// `chunks` cuts the place into one range per node. Sum: each node's chunk is summed up on that node (the
/// other chunks are spoiled). Gather: each node's chunk is copied to all nodes.
using Chunks = std::vector<ElementRange>;
[[nodiscard]] std::unique_ptr<Crossing> make_scattered_sum(const CrossingContext& context,
                                                           const CrossingPlace& place, Chunks chunks);
[[nodiscard]] std::unique_ptr<Crossing> make_gather(const CrossingContext& context,
                                                    const CrossingPlace& place, Chunks chunks);
/// The root node's data, along the chain of nodes that begins there.
[[nodiscard]] std::unique_ptr<Crossing> make_chain(const CrossingContext& context, const CrossingPlace& place,
                                                   int root_node);

}  // namespace paceline
