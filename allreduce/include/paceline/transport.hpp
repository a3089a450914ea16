#pragma once

/// The role between nodes: messages on links. For those who add a transport; `docs/allreduce.md` says how.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "paceline/allreduce.hpp"

namespace paceline {

/// Precedes every block of data between nodes: says what the block is, so that the receiver, who knows what
/// must come, can compare. Plain bytes without padding, little-endian.
struct BlockHeader {
  std::uint32_t magic = 0x4e4c4350;  ///< "PCLN"
  std::uint32_t part = 0;            ///< which block of the collective
  std::uint64_t generation = 0;
  std::uint64_t bytes = 0;      ///< of the block that follows
  std::uint64_t submitted = 0;  ///< least number of collectives begun, among the ranks behind this block
  unsigned char descriptor[32] = {};  ///< of the collective; equal on all ranks
};
static_assert(sizeof(BlockHeader) == 64);

/// A block on its way. Stays where it is, with its memory, until it is complete or progress() has failed: a
/// transport touches it only within send(), receive() and progress().
struct Transfer {
  int peer = 0;
  std::byte* bytes = nullptr;  ///< a transport only reads what it sends
  BlockHeader header;          ///< to send, or what must come; its `bytes` is the size
  BlockHeader received;        ///< receiving: what came; equal to `header` but for `submitted`
  bool complete = false;
};

/// What a transport is made of.
struct TransportContext {
  int rank = 0;
  int size = 0;
  std::vector<int> peers;  ///< ranks that blocks will go to and come from, ascending
  std::uint64_t generation = 0;
  int wake_fd = -1;  ///< readable when the communicator was aborted: progress() must return then
  /// Of a communicator that Communicator::split made: its number among those, from 1; 0 for any other. What
  /// it sends must not be taken for what another sends.
  int channel = 0;
  std::vector<int>
      outer_ranks;  ///< by rank: its rank in the communicator that was split; empty for any other
};

/// Carries blocks in order per pair of ranks and direction. Used by one thread at a time. Blocks may be sent
/// before the receiver expects them; the transport waits then.
class Transport {
 public:
  Transport() = default;
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;
  /// Ends with transfers in flight, too: touches their memory no more.
  virtual ~Transport() = default;

  /// Begin, and return at once.
  virtual void send(Transfer& transfer) = 0;
  virtual void receive(Transfer& transfer) = 0;
  /// Moves what can be moved. If that is nothing, waits up to `at_most` for something, or for wake_fd.
  /// Errors: peer_lost, mismatch or corrupt (the block that came is not the one that must come: use
  /// check_block), each with the rank.
  [[nodiscard]] virtual Status progress(Duration at_most) = 0;
  /// A collective has ended, and all that was posted has come: an error if a peer has sent something else
  /// before it, which only a transport can tell that keeps several streams.
  [[nodiscard]] virtual Status end_collective() { return {}; }
  /// See Communicator::wire_statistics(). Any thread, beside everything else but the transport's end. Empty:
  /// it does not know.
  [[nodiscard]] virtual std::vector<WireStatistics> wire_statistics() const { return {}; }
  /// For people: "tcp".
  [[nodiscard]] virtual std::string name() const = 0;
  /// True if only the threads that call the communicator may drive the transport.
  [[nodiscard]] virtual bool belongs_to_callers() const { return false; }
  /// How many connections per peer exist, and how many of them to use from now on (the same on both sides).
  [[nodiscard]] virtual int streams() const { return 1; }
  virtual void use_streams(int) {}
};

/// Success if `transfer.received` is what `transfer.header` expects; else an error that says what differs.
[[nodiscard]] Status check_block(int rank, const Transfer& transfer);

}  // namespace paceline
