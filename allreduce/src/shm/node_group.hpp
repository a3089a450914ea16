#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "../abort_signal.hpp"
#include "../operation.hpp"
#include "../topology.hpp"
#include "handshake.hpp"
#include "memory.hpp"
#include "paceline/base/clock.hpp"

namespace paceline::shm {

/// Largest payload that travels inside the control block instead of the callers' buffers.
inline constexpr std::size_t inline_bytes = 4096;

/// A place in memory that all ranks of the node have mapped.
struct Location {
  std::uint32_t allocation = 0;  ///< counts allocations of this group; all ranks count alike
  std::uint32_t shared = 0;      ///< 0: the data is in memory of the caller's own
  std::uint64_t offset = 0;
};

/// What a rank tells the others of its node when it begins a turn.
struct Offer {
  Descriptor descriptor;
  double weight = 1.0;
  std::uint64_t submitted = 0;  ///< collectives that it has begun
  Location input = {};
  Location output = {};
  std::uint64_t input_address = 0;  ///< of the same in the rank's own memory, for others to pull
  std::uint64_t output_address = 0;
  std::uint32_t way = 0;  ///< the first rank's word counts: how data of the callers' own is to go
};

/// How long to wait, and how.
struct Patience {
  const Deadline& deadline;
  bool may_spin;  ///< the thread has nothing better to do with its core
  /// When this rank's own work began, for a collective of some size: the others need about as long, so that
  /// they are soon through when it is. Zero: not said.
  Instant began{};
};

/// How far a rank is in the rounds of collectives that go through staging; counted over all of them.
enum class Stage { staged, reduced, drained };

/// The role within a node: ranks that can see each other's memory and tell each other when it is ready.
///
/// Everything happens in turns, which all ranks of the node count alike. In each turn a rank *offers* what it
/// is about to do and where its data is; when all have offered, everyone may read and write everyone's data
/// as the collective's rules say; a rank that has done its part *finishes* the turn. Offers are kept for two
/// turns, so a turn whose outcome every rank computes from the offers alone needs no finish: nobody can
/// begin turn t+2 before all have offered t+1, which they do when they are through with t.
///
/// Data in memory of the callers' own goes through *staging*: each rank has some slots that the others read,
/// and counts for each Stage how many rounds it is through with.
class NodeGroup {
 public:
  /// `staging_bytes`: of staging memory per rank.
  [[nodiscard]] static Result<std::shared_ptr<NodeGroup>> make(const Layout& layout, Handshake handshake,
                                                               std::size_t staging_bytes, Duration spin,
                                                               AbortSignal& abort, const Deadline& deadline);
  ~NodeGroup();

  [[nodiscard]] int size() const noexcept { return layout_.local_size(); }
  [[nodiscard]] int index() const noexcept { return layout_.local_index(); }

  /// Begins the next turn. `payload` (at most inline_bytes) is copied for the peers to read.
  void offer(const Offer& offer, std::span<const std::byte> payload);
  /// Until all have offered this turn; then checks that all offered the same collective.
  [[nodiscard]] Status await_offers(const Patience& patience);
  [[nodiscard]] const std::byte* offered_payload(int peer) const;
  [[nodiscard]] double offered_weight(int peer) const;
  [[nodiscard]] std::uint64_t offered_submitted(int peer) const;
  [[nodiscard]] const Location& offered_input(int peer) const;
  [[nodiscard]] const Location& offered_output(int peer) const;
  [[nodiscard]] std::uint64_t offered_input_address(int peer) const;
  [[nodiscard]] std::uint64_t offered_output_address(int peer) const;
  [[nodiscard]] std::uint32_t offered_way(int peer) const;
  /// Whether every rank of the node can read every other's memory through the kernel (process_vm_readv).
  /// Known when all have offered something.
  [[nodiscard]] bool can_pull() const;
  /// Copies from `peer`'s own memory. Errors: peer_lost, io.
  [[nodiscard]] Status pull(int peer, std::uint64_t address, void* into, std::size_t bytes) const;
  /// This rank's part of the turn is done.
  void finish();
  [[nodiscard]] Status await_finished_by_all(const Patience& patience);
  /// For turns in which one rank does the work: it writes the outcome (room for inline_bytes and a number)
  /// and finishes; the others await it.
  [[nodiscard]] std::byte* own_outcome();
  [[nodiscard]] Result<const std::byte*> await_outcome(int peer, const Patience& patience);

  /// This rank is through with `rounds` rounds at `stage`.
  void advance(Stage stage, std::uint64_t rounds);
  [[nodiscard]] std::uint64_t progress_of(int peer, Stage stage) const;
  /// The local index of a rank that is not through with `rounds` yet, or -1.
  [[nodiscard]] int behind(Stage stage, std::uint64_t rounds) const;
  /// Until `late` gives -1; otherwise it gives the local index of the rank to blame for the wait.
  [[nodiscard]] Status wait_until(const std::function<int()>& late, const Patience& patience,
                                  const char* what);

  /// Time spent in waits so far, but for those that ended at once.
  [[nodiscard]] Duration waited() const noexcept { return waited_; }

  /// Memory that all ranks of the node map. Collective over the node.
  [[nodiscard]] Result<std::uint32_t> allocate(std::size_t bytes, const Deadline& deadline);
  void release(std::uint32_t allocation);
  /// Where `data` lies, if all of it lies in one allocation.
  [[nodiscard]] Location locate(const void* data, std::size_t bytes) const;
  /// `peer`'s memory at a place; null for a place that does not exist, which a broken peer could claim.
  [[nodiscard]] std::byte* at(int peer, const Location& location, std::size_t bytes) const;
  [[nodiscard]] std::byte* staging_of(int peer) const;
  /// Before this rank first writes to the first `bytes` of its staging.
  [[nodiscard]] Status make_staging_present(std::size_t bytes);

  /// This rank will touch the others' memory no more.
  void stop();
  /// Until all others have stopped or their processes have ended.
  [[nodiscard]] Status quiesce(const Deadline& deadline);

 private:
  struct Slot;
  struct RankBlock;
  struct Allocation {
    std::uint32_t id = 0;
    std::vector<Memory> memory;  // by local index
  };

  NodeGroup(const Layout& layout, Handshake handshake, Duration spin, AbortSignal& abort);
  [[nodiscard]] RankBlock& block(int peer) const { return *blocks_[static_cast<std::size_t>(peer)]; }
  [[nodiscard]] Slot& slot(int peer) const;
  void find_out_about_pulling();
  [[nodiscard]] Error late_error(int late, const char* what) const;
  [[nodiscard]] bool look_awhile(const std::function<int()>& late) const;
  [[nodiscard]] bool spin_until(const std::function<int()>& late, Instant end) const;
  [[nodiscard]] Status sleep_until(const std::function<int()>& late, const Patience& patience,
                                   const char* what);
  void ring_doorbells();
  [[nodiscard]] Result<std::vector<Memory>> exchange(std::size_t bytes, Memory own,
                                                     const UniqueFd& descriptor, const Deadline& deadline);
  [[nodiscard]] const Allocation* find(std::uint32_t id) const;

  const Layout& layout_;
  Handshake handshake_;
  Duration spin_;
  bool crowded_;  // more ranks than cores
  AbortSignal& abort_;
  std::vector<Memory> control_;     // by local index
  std::vector<RankBlock*> blocks_;  // in control_
  std::vector<Memory> staging_;
  std::vector<Allocation> allocations_;
  mutable std::mutex allocations_mutex_;
  std::uint32_t next_allocation_ = 0;
  std::uint64_t turn_ = 0;
  Duration waited_{};
};

}  // namespace paceline::shm
