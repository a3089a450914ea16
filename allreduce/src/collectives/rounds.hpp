#pragma once

#include <memory>
#include <vector>

#include "../codec.hpp"
#include "../operation.hpp"
#include "../shm/node_group.hpp"
#include "../topology.hpp"
#include "crossing.hpp"
#include "ways.hpp"

namespace paceline {

/// How a collective's data is cut and where it lies: what all its rounds have in common.
///
/// A collective is carried out in *rounds*, each over a range of elements, cut into *fragments* of which
/// every node gives each to one of its ranks, the *owner*. Data that all ranks of the node can map is used
/// where it is
/// (*direct*); otherwise every rank copies what the owners need into its *staging* slot for the round, the
/// owners leave their results in theirs, and every rank copies them from there; or owners and ranks read each
/// other's memory through the kernel (*pulled*).
struct Course {
  const Request& request;
  const Layout& layout;
  shm::NodeGroup& group;
  Transport* transport;  ///< null on one node
  const Arithmetic& arithmetic;
  ScratchPool& scratch;
  const shm::Patience& patience;
  const AbortSignal& abort;

  Way way = Way::direct;
  std::vector<const std::byte*> inputs = {};  ///< direct: by local index
  std::vector<std::byte*> outputs = {};
  std::vector<double> weights = {};  ///< by local index; empty: all 1
  double divisor = 1.0;

  std::size_t per_round = 0;  ///< elements of `count`
  std::uint64_t rounds = 0;
  std::size_t slots = 1;  ///< in staging
  std::size_t slot_bytes = 0;
  std::uint64_t first_round = 0;  ///< counted over all collectives that went through staging
  int crossings_ahead = 1;        ///< rounds between nodes at a time
  Algorithm algorithm = Algorithm::ring;
  BlockHeader header = {};

  [[nodiscard]] std::size_t unit() const { return element_bytes(request.descriptor.type); }
  [[nodiscard]] std::size_t blocks() const { return layout.topology().node_of_rank.size(); }
  [[nodiscard]] std::size_t input_bytes() const {
    return bytes_of(request.descriptor.kind == CollectiveKind::reduce_scatter ? blocks() : 1);
  }
  [[nodiscard]] std::size_t output_bytes() const {
    return bytes_of(request.descriptor.kind == CollectiveKind::all_gather ? blocks() : 1);
  }
  [[nodiscard]] std::size_t bytes_of(std::size_t whole_blocks) const {
    return whole_blocks * request.descriptor.count * unit();
  }
  /// The number of a fragment's first block between nodes.
  [[nodiscard]] std::uint32_t first_part(std::uint64_t round_index, int fragment_index) const {
    const auto fragments = static_cast<std::uint32_t>(layout.fragments());
    const auto piece =
        static_cast<std::uint32_t>(round_index) * fragments + static_cast<std::uint32_t>(fragment_index);
    return piece * parts_per_crossing(layout.nodes());
  }
  [[nodiscard]] ElementRange round(std::uint64_t index) const;
  [[nodiscard]] ElementRange fragment(std::uint64_t round_index, int fragment_index) const {
    return part_of(round(round_index), fragment_index, layout.fragments());
  }
  [[nodiscard]] bool owns(int fragment_index) const {
    return layout.owner(layout.node(), fragment_index) == layout.rank();
  }

  // Staging: a slot has room for the contribution of a rank, then for the results of its fragments.
  [[nodiscard]] std::byte* contribution(int peer, std::uint64_t round_index) const;
  [[nodiscard]] std::byte* result(int peer, std::uint64_t round_index) const;

  /// Where this rank, as an owner, finds `range` of block `block` of a local rank's input; and everywhere
  /// that it must write it to: to the ranks' outputs, or to its own and to staging.
  [[nodiscard]] const std::byte* source(int peer, std::uint64_t round_index, std::size_t block,
                                        ElementRange range) const;
  void destinations(std::uint64_t round_index, std::size_t block, ElementRange range,
                    std::vector<void*>& into) const;
  /// The same, if only the local rank `peer` wants it.
  [[nodiscard]] std::byte* destination(int peer, std::uint64_t round_index, std::size_t block,
                                       ElementRange range) const;
  [[nodiscard]] const double* weights_or_null() const { return weights.empty() ? nullptr : weights.data(); }
};

/// What a kind of collective does in a round. Ranks call each part when what it needs is there.
class Kind {
 public:
  explicit Kind(const Course& course) : course_(course) {}
  Kind(const Kind&) = delete;
  Kind& operator=(const Kind&) = delete;
  virtual ~Kind() = default;

  /// Staging: copies what other owners need into this rank's slot.
  virtual void contribute(std::uint64_t round) = 0;
  /// The owner of `fragment` does what can be done within the node, and gives what must go between nodes (or
  /// null). `crossing` is the context for it, null on one node.
  [[nodiscard]] virtual Result<std::unique_ptr<Crossing>> begin(std::uint64_t round, int fragment,
                                                                const CrossingContext* crossing) = 0;
  /// What is left to the owner when that has arrived.
  virtual void deliver(std::uint64_t round, int fragment) = 0;
  /// Staged and pulled: copies what other owners have left for this rank.
  [[nodiscard]] virtual Status collect(std::uint64_t round) = 0;

 protected:
  const Course& course_;
};

[[nodiscard]] std::unique_ptr<Kind> make_all_reduce(const Course& course);
[[nodiscard]] std::unique_ptr<Kind> make_reduce_scatter(const Course& course);
[[nodiscard]] std::unique_ptr<Kind> make_all_gather(const Course& course);
[[nodiscard]] std::unique_ptr<Kind> make_broadcast(const Course& course);

/// Blocks of `per_round` elements that a rank contributes to a round, and that owners leave.
struct StagingNeeds {
  std::size_t contributed = 1;
  std::size_t results = 1;
};
[[nodiscard]] StagingNeeds staging_needs(CollectiveKind kind, std::size_t ranks);

/// Carries out all rounds; several are on their way at a time. `submitted` becomes the least number of
/// collectives begun on any rank, where the blocks between nodes have told it.
[[nodiscard]] Status run_rounds(const Course& course, Kind& kind, std::uint64_t& submitted);

}  // namespace paceline
