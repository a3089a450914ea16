#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../abort_signal.hpp"
#include "../operation.hpp"
#include "../plan.hpp"
#include "../shm/node_group.hpp"
#include "../topology.hpp"
#include "paceline/transport.hpp"
#include "rounds.hpp"
#include "scratch.hpp"

namespace paceline {

/// Staging memory that a rank of a job on so many nodes needs; it is only made present when it is used.
[[nodiscard]] std::size_t staging_bytes(int nodes);

/// Carries out collectives one after the other, on whatever thread calls it (one at a time). Small ones
/// travel in the control block of the node and, between nodes, among the nodes' first ranks; all others go in
/// rounds (see rounds.hpp).
class Collectives {
 public:
  Collectives(const Layout& layout, shm::NodeGroup& group, Transport* transport, std::uint64_t generation,
              const AbortSignal& abort)
      : layout_(layout),
        group_(group),
        transport_(transport),
        generation_(generation),
        abort_(abort),
        plan_(Wire{}, layout.nodes()) {}

  void use(const Plan& plan) { plan_ = plan; }
  void use(PlainMemory plain_memory) { ways_.force(plain_memory); }
  [[nodiscard]] const Plan& plan() const noexcept { return plan_; }

  /// Carries one out. `submitted`: how many collectives this rank has begun; becomes the least of all ranks
  /// where the collective has told, and 0 where not (the same on all ranks). Whether it travels in the
  /// control block.
  [[nodiscard]] bool is_small(const Request& request) const;
  [[nodiscard]] Status run(const Request& request, std::uint64_t& submitted, const shm::Patience& patience);

 private:
  [[nodiscard]] Status run_small(const Request& request, const Arithmetic& arithmetic,
                                 std::uint64_t& submitted, const shm::Patience& patience);
  void finish_small(const Request& request, const Arithmetic& arithmetic);
  [[nodiscard]] Status sum_small_between_nodes(const Request& request, const Arithmetic& arithmetic,
                                               std::uint64_t& submitted, const shm::Patience& patience);
  [[nodiscard]] Status exchange_small(const Request& request, std::byte* partials, std::size_t bytes,
                                      std::uint64_t& submitted, const shm::Patience& patience);
  [[nodiscard]] Status run_in_rounds(const Request& request, const Arithmetic& arithmetic,
                                     std::uint64_t& submitted, const shm::Patience& patience);
  [[nodiscard]] Status map_memory(Course& course) const;
  [[nodiscard]] Status pull_from_root(const Course& course);
  [[nodiscard]] Status cut(Course& course);
  [[nodiscard]] std::vector<double> offered_weights() const;
  [[nodiscard]] double divisor_of(const Request& request) const;
  [[nodiscard]] BlockHeader header_of(const Request& request, std::uint64_t submitted) const;

  const Layout& layout_;
  shm::NodeGroup& group_;
  Transport* transport_;  // null on one node; does not own
  std::uint64_t generation_;
  const AbortSignal& abort_;
  Plan plan_;
  WayChooser ways_;
  ScratchPool scratch_;
  std::vector<const void*> ins_;
  std::uint64_t staged_rounds_ = 0;  // through staging, of all collectives so far
  std::size_t staging_present_ = 0;  // bytes
};

}  // namespace paceline
