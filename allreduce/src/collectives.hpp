#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "between_nodes.hpp"
#include "kernels/kernels.hpp"
#include "operation.hpp"
#include "shm/node_group.hpp"
#include "topology.hpp"

namespace paceline {

// A collective is carried out in *segments*. A segment is cut into *fragments*, and every node gives each
// fragment to one of its ranks, the *owner*. For a sum the owner of a fragment
//   1. adds up the fragment of its node's ranks, reading their memory,
//   2. runs a ring with the owners of the same fragment on the other nodes, *chunk* by chunk,
//   3. writes the sum into the memory of its node's ranks.
// The ranks of a node begin and end together (see NodeGroup's turns). Owners take their fragments in
// ascending order, so the lowest unfinished fragment can always go on: there is no deadlock.
// On one node there is one segment and no ring; memory that is not shared goes through staging, a segment
// at a time. Sums of up to inline_bytes take a shorter way: everyone reads everyone's offer.

/// Carries out collectives one after the other, on whatever thread calls it (one at a time).
class Collectives {
 public:
  Collectives(const Layout& layout, shm::NodeGroup& group, BetweenNodes* between)
      : layout_(layout), group_(group), between_(between) {}

  /// `data` as Communicator's functions say. `may_spin`: the caller's thread has nothing better to do.
  [[nodiscard]] Status run(const Descriptor& descriptor, std::byte* data, const Deadline& deadline,
                           bool may_spin);

 private:
  /// The collective in progress.
  struct Call {
    const Descriptor& descriptor;
    const Deadline& deadline;
    bool may_spin;
    std::size_t element_bytes;
    ReduceKernel reduce;
    std::uint32_t part = 0;  ///< numbers the blocks between nodes, over all fragments
  };
  /// Where the node's ranks have the data of a segment; by local index. Element `base` is at the pointer.
  struct Buffers {
    std::vector<std::byte*> data;
    std::size_t base = 0;
  };
  using Segment = std::function<Status(const Buffers&, ElementRange)>;

  [[nodiscard]] Status small_all_reduce(Call& call, std::byte* data);
  [[nodiscard]] Status exchange_small(Call& call, std::byte* sum, std::size_t bytes);
  [[nodiscard]] Status all_reduce(Call& call, std::byte* data);
  [[nodiscard]] Status broadcast(Call& call, std::byte* data);
  [[nodiscard]] Status all_gather(Call& call, std::byte* data);

  /// Runs `work` on all segments of `total` elements, with the node's buffers in view of everyone.
  [[nodiscard]] Status over_segments(Call& call, std::byte* data, std::size_t total, const Segment& work);
  [[nodiscard]] Status over_staging(Call& call, std::byte* data, std::size_t total, const Segment& work);
  [[nodiscard]] Result<bool> map_buffers(std::size_t bytes, Buffers& buffers) const;

  [[nodiscard]] Status reduce_segment(Call& call, const Buffers& buffers, ElementRange segment);
  void reduce_on_node(const Call& call, const Buffers& buffers, ElementRange range, bool spread);
  void spread_on_node(const Call& call, const Buffers& buffers, ElementRange range, int source);
  [[nodiscard]] Status ring(const Call& call, std::byte* own, std::size_t count, int fragment,
                            std::uint32_t first_part);
  [[nodiscard]] Status broadcast_segment(Call& call, const Buffers& buffers, ElementRange segment, int root);

  [[nodiscard]] std::byte* place(const Call& call, const Buffers& buffers, int peer,
                                 std::size_t element) const {
    return buffers.data[static_cast<std::size_t>(peer)] + (element - buffers.base) * call.element_bytes;
  }

  const Layout& layout_;
  shm::NodeGroup& group_;
  BetweenNodes* between_;  // null on one node; does not own
  std::vector<std::byte> scratch_;
};

}  // namespace paceline
