#pragma once

/// Gradient aggregation to embed: collectives over the ranks of a job, through shared memory within a node
/// and TCP (or a transport of one's own) between nodes. Needs nothing but this library and a C++20 compiler.
/// `docs/allreduce.md` explains how it moves data; `examples/` has consumers in C, C++, MPI and Python.
///
/// Four lines in a program of one's own:
///
///     auto communicator = paceline::Communicator::from_environment();           // RANK, WORLD_SIZE, ...
///     auto buffer = communicator->allocate(bytes);                              // shared, so never copied
///     auto work = communicator->all_reduce_async(buffer->data(), count, paceline::DataType::f32);
///     auto status = work.wait();                                                // an error names the rank

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "paceline/base/clock.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/result.hpp"

namespace paceline {

enum class DataType : std::uint8_t { f32, f64, i32, i64, f16, bf16, u8 };

/// average: the sum over the number of ranks (integers: towards zero). f16 and bf16 are added up in f32
/// within a node and rounded once. Integers wrap around. Which of two NaNs comes out of a sum is not defined.
enum class ReduceOp : std::uint8_t { sum, min, max, average };

/// How the elements of an all_reduce travel between nodes.
enum class Codec : std::uint8_t {
  none,
  f16,   ///< f32 data as f16 on the wire: half the bytes, range +-65504
  bf16,  ///< f32 data as bf16: half the bytes, 8 bits of precision
  int8,  ///< f32 data as blocks of 256 int8 with one f32 scale each: about a quarter of the bytes
  /// Sums of f32 or f64 as 64-bit fixed point, in the node and between nodes: the same bits for every number
  /// of ranks, topology and order. See ReduceOptions::fixed_point_exponent.
  fixed_point,
};

[[nodiscard]] std::size_t element_bytes(DataType type) noexcept;
[[nodiscard]] std::string_view to_string(DataType type) noexcept;
[[nodiscard]] std::string_view to_string(ReduceOp op) noexcept;
[[nodiscard]] std::string_view to_string(Codec codec) noexcept;

struct ReduceOptions {
  ReduceOp op = ReduceOp::sum;
  /// What this rank's data is multiplied by before it is added: ranks may differ. Floating types, sum and
  /// average only.
  double weight = 1.0;
  Codec codec = Codec::none;
  /// Error feedback for the lossy codecs, or null: `count` floats of the caller's, zero before the first
  /// call, kept between calls on the same data. What rounding takes from one call's sum is added to the next.
  /// Which elements a rank keeps errors for depends on the topology: after it changed, start from zero.
  float* residual = nullptr;
  /// Codec::fixed_point: an element x is added as round(x * 2^exponent). Elements of 2^(42 - exponent) and
  /// more, and NaN, make the sum NaN on every rank.
  int fixed_point_exponent = 24;
  /// Among asynchronous collectives that all ranks have begun, the highest goes first. Equal on all ranks.
  int priority = 0;
};

/// How sums go between nodes.
enum class Algorithm : std::uint8_t {
  automatic,  ///< by the cost model, from latency and bandwidth measured when the communicator was made
  exchange,   ///< every node sends everything to every other: one hop, for small sums
  direct,     ///< every node adds up a part, all send their parts to it: two hops
  ring,       ///< 2(nodes - 1) hops, each to a neighbour: for large sums
};
[[nodiscard]] std::string_view to_string(Algorithm algorithm) noexcept;

/// How sums of memory that was not allocated here go within a node.
enum class PlainMemory : std::uint8_t {
  automatic,  ///< by trying both, per size: which is faster depends on the memory's pages
  staged,     ///< copied through a segment that all ranks have mapped
  pulled,     ///< read from the other's memory by the kernel, where it allows that (process_vm_readv)
};
[[nodiscard]] std::string_view to_string(PlainMemory plain_memory) noexcept;

/// What is normally chosen by measurement. Zero: chosen. Equal on all ranks: rank 0's word counts, and within
/// a node that of its first rank.
struct Tuning {
  Algorithm algorithm = Algorithm::automatic;
  std::size_t piece_bytes = 0;  ///< unit of pipelining between nodes
  int streams = 0;              ///< TCP connections per pair of ranks
  PlainMemory plain_memory = PlainMemory::automatic;
};

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

class Transport;
struct TransportContext;
using TransportFactory = std::function<Result<std::unique_ptr<Transport>>(const TransportContext&)>;

/// Ends a connect() that another thread is in. Copies stand for the same.
class ConnectCancel {
 public:
  ConnectCancel();
  /// Every connect() that was given this, now or later, gives up: `aborted`, with this reason. Any thread.
  void cancel(const std::string& reason);

 private:
  friend class Communicator;
  struct State;
  std::shared_ptr<State> state_;
};

struct CommunicatorOptions {
  /// Messages of another generation are refused: raise it for every communicator of the same job.
  std::uint64_t generation = 1;
  /// Known to the ranks of the job alone: both ends of every connection prove that they know it, without
  /// sending it. At most 256 bytes.
  std::string secret;
  /// Until all ranks have met and mapped each other's memory.
  Duration connect_timeout = std::chrono::seconds(60);
  /// Who may end connect() before that, if anybody.
  std::optional<ConnectCancel> cancel;
  /// For each collective, from its start: a rank that has not come by then is named in the error. Long,
  /// because a slow step is no failure, and a rank that dies is noticed at once by other means.
  Duration operation_timeout = std::chrono::minutes(5);
  /// How long a blocking call spins before it sleeps. Ignored where the node has more ranks than cores.
  Duration spin = std::chrono::microseconds(50);
  /// Rank 0: a socket that already listens at its host and port; otherwise one is made.
  UniqueFd listener;
  /// Encrypts what goes over TCP between nodes (AES-256-GCM, keys from the secret, which must not be empty).
  /// unsupported where the library was built without OpenSSL. Equal on all ranks.
  bool encrypt = false;
  /// Network interface whose address other nodes are told, e.g. "ib0"; else PACELINE_INTERFACE, else the one
  /// by which rank 0 is reached.
  std::string interface;
  /// Ports to listen on, e.g. "20000-20100", for firewalls; else PACELINE_PORTS, else any. Rank 0's first
  /// port is in the member list.
  std::string ports;
  /// Rank 0's choices instead of measured ones; PACELINE_ALGORITHM, PACELINE_PIECE_BYTES, PACELINE_STREAMS
  /// and PACELINE_PLAIN_MEMORY fill in what is left open.
  Tuning tuning;
  /// Carries messages between nodes instead of TCP, e.g. over MPI; see transport.hpp. Equal on all ranks.
  TransportFactory transport;
};

/// What the ranks found out about each other.
struct Topology {
  std::vector<std::string> nodes;  ///< names, in the order of their first rank
  std::vector<int> node_of_rank;   ///< index into `nodes`
  std::vector<int> local_ranks;    ///< ranks on this rank's node, ascending
  /// For people, one line per node.
  [[nodiscard]] std::string describe() const;
};

/// What this rank has sent to one on another node since the communicator was made, as the kernel counts it:
/// nothing is added to the way of the data. `bytes` over `busy` is how fast the wire to it is, whatever the
/// ranks do meanwhile: while there is nothing to send, or the peer has no room because it is somewhere else,
/// the wire is not busy.
struct WireStatistics {
  int rank = 0;
  std::int64_t bytes = 0;  ///< that have arrived, with all that goes along with data
  /// Of the connection that was so longest, since those to a rank are used at once. Right to a tick of the
  /// kernel (1 to 10 ms) each time.
  Duration busy{};
};

/// Memory that the ranks of a node share: collectives on it make no copy. Owns it; may outlive the
/// communicator. After a collective on it failed its contents are undefined, and peers may still be writing
/// to it until Communicator::quiesce says that they have stopped.
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
  /// Blocks until the collective has ended on this rank, and helps to carry it out. Any thread, any number of
  /// times.
  [[nodiscard]] Status wait();
  [[nodiscard]] bool done() const noexcept;

 private:
  friend class Communicator;
  struct State;
  std::shared_ptr<State> state_;
};

/// Until all of them have ended, whatever became of any, so that their memory is free afterwards. Gives the
/// first error.
[[nodiscard]] Status wait_all(std::span<Work> works);

/// A fixed set of ranks that call the same collectives in the same order.
///
/// Threads: collectives and allocate() are called by one thread at a time, in the same order on every rank,
/// since that order is how calls find each other; abort(), Work::wait() and the const members by any.
/// Memory: `input` and `output` stay untouched by the caller until the call returned or its Work is done.
/// They are the same memory or do not overlap, but for what reduce_scatter and all_gather say. Errors: what
/// can be seen without the other ranks (null, misaligned or overlapping data, a root that does not exist,
/// options that make no sense) is invalid_argument or unsupported, and nothing has happened. Any other error
/// kills the communicator on every rank: from then on every call gives that error, which names the rank to
/// blame where one is known. Make a new communicator of a higher generation. Sizes: in elements, aligned to
/// their type, up to the size of the address space; none at all is allowed and still synchronises.
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

  /// output[i] = op over all ranks of input[i], for `count` elements; the same bits on every rank.
  [[nodiscard]] Status all_reduce(const void* input, void* output, std::size_t count, DataType type,
                                  const ReduceOptions& options = {});
  /// In place.
  [[nodiscard]] Status all_reduce(void* data, std::size_t count, DataType type, ReduceOp op = ReduceOp::sum);
  /// `input` holds size() blocks of `count` elements; `output` is block rank() of their sum. `output` may be
  /// block rank() of `input` itself. Codec::none only.
  [[nodiscard]] Status reduce_scatter(const void* input, void* output, std::size_t count, DataType type,
                                      const ReduceOptions& options = {});
  /// Block r of `output` becomes rank r's `input` of `count` elements; `output` has room for size() blocks.
  /// `input` may be block rank() of `output` itself.
  [[nodiscard]] Status all_gather(const void* input, void* output, std::size_t count, DataType type);
  /// In place: block rank() of `data` is what this rank contributes.
  [[nodiscard]] Status all_gather(void* data, std::size_t count, DataType type);
  /// Every rank's `data` becomes root's.
  [[nodiscard]] Status broadcast(void* data, std::size_t count, DataType type, int root);
  /// Returns when every rank has called it.
  [[nodiscard]] Status barrier();

  /// The same, begun here and carried out in the background by the communicator's own thread, or by whoever
  /// waits first; one after the other, by priority and then in the order of the calls. With a transport that
  /// belongs to one thread (see transport.hpp) nothing is carried out until someone waits.
  [[nodiscard]] Work all_reduce_async(const void* input, void* output, std::size_t count, DataType type,
                                      const ReduceOptions& options = {});
  [[nodiscard]] Work all_reduce_async(void* data, std::size_t count, DataType type,
                                      ReduceOp op = ReduceOp::sum);
  [[nodiscard]] Work reduce_scatter_async(const void* input, void* output, std::size_t count, DataType type,
                                          const ReduceOptions& options = {});
  [[nodiscard]] Work all_gather_async(const void* input, void* output, std::size_t count, DataType type,
                                      int priority = 0);
  /// `has_it`: this rank's `data` is root's already, so that the rank need only take part. Said by each rank
  /// for itself.
  [[nodiscard]] Work broadcast_async(void* data, std::size_t count, DataType type, int root, int priority = 0,
                                     bool has_it = false);

  /// Communicators over some of these ranks: one for each group that this rank is in, in the order of
  /// `groups`. Collective over all ranks, which give the same groups, each a list of ranks; a rank's place in
  /// the list becomes its rank. They have this one's options and generation, its transport included, and
  /// neither they nor this one need the other to go on. invalid_argument: a group is empty or has a rank
  /// twice or one that does not exist; unsupported: a part of a communicator that brings a transport is split
  /// again; else as connect(), naming ranks as they are numbered here or in the group, which the message
  /// says.
  /// `operation_timeout`: instead of this one's.
  [[nodiscard]] Result<std::vector<Communicator>> split(std::span<const std::vector<int>> groups,
                                                        std::optional<Duration> operation_timeout = {});

  /// Gives up: every waiter on every rank returns with `reason`.
  void abort(const std::string& reason);
  /// Success, or the error that killed the communicator.
  [[nodiscard]] Status health() const;
  /// After an error: waits until no other rank can write to this rank's SharedBuffers any more, because it
  /// has stopped or its process has ended. timeout (names the rank): it may still write, so give the buffers
  /// up and allocate others.
  [[nodiscard]] Status quiesce(Duration timeout);

  /// Time spent inside collectives so far, waiting for peers included. What fits the control block (4 KiB)
  /// counts only as far as it waited for more than a microsecond or so.
  [[nodiscard]] Duration busy() const noexcept;
  /// Of every rank on another node that this one sends to, ascending. Zeros where the kernel doesn't say
  /// (Linux before 4.9), and none where the transport doesn't know. A system call per connection.
  [[nodiscard]] std::vector<WireStatistics> wire_statistics() const;
  /// For people: what was measured between nodes, and which algorithm is used up to which size.
  [[nodiscard]] std::string describe_plan() const;

 private:
  class Impl;
  explicit Communicator(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace paceline
