#pragma once

/// Gradient aggregation to embed: collectives over the ranks of a job, through shared memory within a node
/// and TCP between nodes. Needs nothing but this library and a C++20 compiler. `docs/allreduce.md` explains
/// how it moves data; `examples/` has consumers.
///
/// Four lines in a program of one's own:
///
///     auto communicator = paceline::Communicator::from_environment();           // RANK, WORLD_SIZE, ...
///     auto buffer = communicator->allocate(bytes);                              // shared, so never copied
///     auto work = communicator->all_reduce_async(buffer->data(), count, paceline::DataType::f32);
///     auto status = work.wait();                                                // an error names the rank

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "paceline/base/clock.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/result.hpp"

namespace paceline {

enum class DataType : std::uint8_t { f32, f64, i32, i64 };
enum class ReduceOp : std::uint8_t { sum, min, max };

[[nodiscard]] std::size_t element_bytes(DataType type) noexcept;
[[nodiscard]] std::string_view to_string(DataType type) noexcept;
[[nodiscard]] std::string_view to_string(ReduceOp op) noexcept;

/// Where one rank lives.
struct Member {
  /// Identity of its node: ranks of one node share memory. Empty: found out by the rank itself, from
  /// PACELINE_NODE or the host. Names may be invented, so that one machine stands for several nodes.
  std::string node;
  /// Address or name at which the other ranks reach it. Used of rank 0, whose word is needed to begin.
  std::string host;
  /// Port at which rank 0 listens until all ranks have met. Ignored of the others.
  std::uint16_t port = 0;
};

struct CommunicatorOptions {
  /// Messages of another generation are refused: raise it for every communicator of the same job.
  std::uint64_t generation = 1;
  /// Known to the ranks of the job alone; whoever connects without it is refused. At most 256 bytes.
  std::string secret;
  /// Until all ranks have met and mapped each other's memory.
  Duration connect_timeout = std::chrono::seconds(60);
  /// For each collective, from its start: a rank that has not come by then is named in the error. Long,
  /// because a slow step is no failure, and a rank that dies is noticed at once by other means.
  Duration operation_timeout = std::chrono::minutes(5);
  /// How long a blocking call spins before it sleeps. Ignored where the node has more ranks than cores.
  Duration spin = std::chrono::microseconds(50);
  /// Rank 0: a socket that already listens at its host and port; otherwise one is made.
  UniqueFd listener;
};

/// What the ranks found out about each other.
struct Topology {
  std::vector<std::string> nodes;  ///< names, in the order of their first rank
  std::vector<int> node_of_rank;   ///< index into `nodes`
  std::vector<int> local_ranks;    ///< ranks on this rank's node, ascending
  /// For people, one line per node.
  [[nodiscard]] std::string describe() const;
};

/// Memory that the ranks of a node share: collectives on it make no copy. Owns it; may outlive the
/// communicator. Contents are undefined after a collective on it failed: peers may still have been writing.
class SharedBuffer {
 public:
  SharedBuffer() = default;
  SharedBuffer(SharedBuffer&&) noexcept = default;
  SharedBuffer& operator=(SharedBuffer&&) noexcept = default;
  ~SharedBuffer() = default;

  [[nodiscard]] std::byte* data() const noexcept;
  [[nodiscard]] std::size_t bytes() const noexcept;

 private:
  friend class Communicator;
  struct Holder;
  std::shared_ptr<Holder> holder_;
};

/// A collective in flight. Dropping it does not cancel anything, but the memory must stay until it is done.
class Work {
 public:
  Work() = default;
  /// Blocks until the collective has ended on this rank. Any thread, any number of times.
  [[nodiscard]] Status wait();
  [[nodiscard]] bool done() const noexcept;

 private:
  friend class Communicator;
  struct State;
  std::shared_ptr<State> state_;
};

/// A fixed set of ranks that call the same collectives in the same order.
///
/// Threads: collectives and allocate() are called by one thread at a time, in the same order on every rank,
/// since that order is how calls find each other; abort(), Work::wait() and the const members by any.
/// Errors: the first one kills the communicator on every rank: from then on every call gives that error,
/// which names the rank to blame where one is known. Make a new communicator of a higher generation.
/// Alignment: data must be aligned to its element type. Zero elements are allowed and still synchronise.
class Communicator {
 public:
  /// Meets the other ranks of an explicit member list. Collective: all ranks give the same list.
  /// invalid_argument, already_exists (port taken), timeout (names the ranks that did not come), mismatch.
  [[nodiscard]] static Result<Communicator> connect(int rank, std::span<const Member> members,
                                                    CommunicatorOptions options = {});

  /// Rank and size from RANK and WORLD_SIZE, Open MPI's or Slurm's variables; rank 0's place from
  /// MASTER_ADDR and PACELINE_PORT, with defaults where all ranks are on one node. PACELINE_NODE names this
  /// rank's node, PACELINE_SECRET is the secret.
  [[nodiscard]] static Result<Communicator> from_environment(CommunicatorOptions options = {});

  Communicator(Communicator&&) noexcept;
  Communicator& operator=(Communicator&&) noexcept;
  /// Says goodbye; collectives that have not ended are aborted on every rank.
  ~Communicator();

  [[nodiscard]] int rank() const noexcept;
  [[nodiscard]] int size() const noexcept;
  [[nodiscard]] const Topology& topology() const noexcept;

  /// Memory for collectives without copies. Collective over the ranks of a node, which ask for equal sizes.
  /// Zeroed, page-aligned, present (a machine short of memory fails here, not later).
  [[nodiscard]] Result<SharedBuffer> allocate(std::size_t bytes);

  /// data[i] = op over all ranks of data[i], for `count` elements, in place; the same bits on every rank.
  [[nodiscard]] Status all_reduce(void* data, std::size_t count, DataType type, ReduceOp op = ReduceOp::sum);
  /// Every rank's `data` becomes root's.
  [[nodiscard]] Status broadcast(void* data, std::size_t count, DataType type, int root);
  /// `data` holds size() blocks of `count` elements. Each rank fills block rank() before; all are there
  /// after.
  [[nodiscard]] Status all_gather(void* data, std::size_t count, DataType type);
  /// Returns when every rank has called it.
  [[nodiscard]] Status barrier();

  /// The same, begun here and carried out by the communicator's own thread, in the order of the calls.
  [[nodiscard]] Work all_reduce_async(void* data, std::size_t count, DataType type,
                                      ReduceOp op = ReduceOp::sum);
  [[nodiscard]] Work broadcast_async(void* data, std::size_t count, DataType type, int root);
  [[nodiscard]] Work all_gather_async(void* data, std::size_t count, DataType type);

  /// Gives up: every waiter on every rank returns with `reason`.
  void abort(const std::string& reason);
  /// Success, or the error that killed the communicator.
  [[nodiscard]] Status health() const;

  /// Time spent inside collectives so far, waiting for peers included.
  [[nodiscard]] Duration busy() const noexcept;

 private:
  class Impl;
  explicit Communicator(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace paceline
