#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "../abort_signal.hpp"
#include "../operation.hpp"
#include "../topology.hpp"
#include "handshake.hpp"
#include "memory.hpp"
#include "paceline/base/clock.hpp"

namespace paceline::shm {

/// Largest sum that travels inside the control block instead of the callers' buffers.
inline constexpr std::size_t inline_bytes = 2048;
/// Memory through which data goes that was not allocated here. A segment is carried at a time.
inline constexpr std::size_t staging_bytes = std::size_t{4} << 20;

/// A place in memory that all ranks of the node have mapped.
struct Location {
  std::uint32_t allocation = 0;  ///< counts allocations of this group; all ranks count alike
  std::uint64_t offset = 0;
  bool shared = false;  ///< false: the data is in memory of the caller's own
};

/// The role within a node: ranks that can see each other's memory and tell each other when it is ready.
///
/// Everything happens in turns, which all ranks of the node count alike. In each turn a rank *offers* what it
/// is about to do and where its data is; when all have offered, everyone may read and write everyone's data
/// as the collective's rules say; a rank that has done its part *finishes* the turn. Offers are kept for two
/// turns, so a turn whose outcome every rank computes from the offers alone needs no finish: nobody can
/// begin turn t+2 before all have offered t+1, which they do when they are through with t.
class NodeGroup {
 public:
  [[nodiscard]] static Result<std::shared_ptr<NodeGroup>> make(const Layout& layout, Handshake handshake,
                                                               Duration spin, AbortSignal& abort,
                                                               const Deadline& deadline);
  ~NodeGroup();

  [[nodiscard]] int size() const noexcept { return layout_.local_size(); }
  [[nodiscard]] int index() const noexcept { return layout_.local_index(); }

  /// Begins the next turn. `payload` (at most inline_bytes) is copied for the peers to read.
  void offer(const Descriptor& descriptor, const Location& location, std::span<const std::byte> payload);
  /// Until all have offered this turn; then checks that all offered the same collective.
  [[nodiscard]] Status await_offers(const Deadline& deadline, bool may_spin);
  [[nodiscard]] const Location& offered_location(int peer) const;
  [[nodiscard]] std::span<const std::byte> offered_payload(int peer, std::size_t bytes) const;
  /// This rank's part of the turn is done.
  void finish();
  [[nodiscard]] Status await_finished_by_all(const Deadline& deadline, bool may_spin);
  /// For turns in which one rank does the work: it writes the outcome and finishes; the others await it.
  [[nodiscard]] std::byte* own_outcome();
  [[nodiscard]] Result<const std::byte*> await_outcome(int peer, const Deadline& deadline, bool may_spin);

  /// Memory that all ranks of the node map. Collective over the node.
  [[nodiscard]] Result<std::uint32_t> allocate(std::size_t bytes, const Deadline& deadline);
  void release(std::uint32_t allocation);
  /// Where `data` lies, if all of it lies in one allocation.
  [[nodiscard]] Location locate(const void* data, std::size_t bytes) const;
  /// `peer`'s memory at a place; null for a place that does not exist, which a broken peer could claim.
  [[nodiscard]] std::byte* at(int peer, const Location& location, std::size_t bytes) const;
  [[nodiscard]] Location staging() const noexcept { return {0, 0, true}; }

 private:
  struct Slot;
  struct RankBlock;
  struct Allocation {
    std::uint32_t id = 0;
    std::vector<Memory> memory;  // by local index
  };

  NodeGroup(const Layout& layout, Handshake handshake, Duration spin, AbortSignal& abort);
  [[nodiscard]] RankBlock& block(int peer) const;
  [[nodiscard]] Status wait_until(const std::function<int()>& laggard, const Deadline& deadline,
                                  bool may_spin, const char* what);
  void ring_doorbells();
  [[nodiscard]] const Allocation* find(std::uint32_t id) const;

  const Layout& layout_;
  Handshake handshake_;
  Duration spin_;
  AbortSignal& abort_;
  Allocation control_;
  std::vector<Allocation> allocations_;
  mutable std::mutex allocations_mutex_;
  std::uint32_t next_allocation_ = 0;
  std::uint64_t turn_ = 0;
};

}  // namespace paceline::shm
