#pragma once

/// Collectives on device memory. Target paceline::cuda; it is there where Paceline was built with the CUDA
/// toolkit. `docs/gpu.md` says how data moves. Three lines beside a communicator of `allreduce.hpp`:
///
///     auto device = paceline::cuda::DeviceCommunicator::make(*communicator);
///     auto begun = device->all_reduce(gradients, gradients, count, paceline::DataType::f32, {}, stream);
///     auto status = device->wait();                                             // an error names the rank

#include <memory>
#include <string>
#include <string_view>

#include "paceline/allreduce.hpp"
#include "paceline/base/result.hpp"

struct CUstream_st;

namespace paceline::cuda {

/// A cudaStream_t; null is the default stream of the thread's device.
using Stream = CUstream_st*;

/// GPUs that this process can use, as CUDA numbers them. Errors: unavailable where there is no driver, or one
/// that is too old for the toolkit this was built with, and which.
[[nodiscard]] Result<int> device_count();

/// How a collective goes.
enum class Way : std::uint8_t {
  automatic,  ///< the fastest by the cost model, from latency and bandwidth measured when it was made
  one_shot,   ///< one node: each rank reads all others' memory (CUDA IPC), in one exchange; for small ones
  two_shot,   ///< one node: a reduce-scatter and an all-gather over CUDA IPC in one kernel; for larger sums
  nccl,       ///< NCCL, within a node and between nodes
  staged,     ///< through pinned host memory and the host communicator, in fragments that overlap
  hierarchical,  ///< sums: CUDA IPC in the node, and between nodes each rank's piece staged, all at once
};
[[nodiscard]] std::string_view to_string(Way way) noexcept;

/// What is normally chosen by measurement. Rank 0's word counts.
struct DeviceTuning {
  Way way = Way::automatic;  ///< or PACELINE_DEVICE_WAY; collectives that it can't do are `unsupported`
  std::size_t fragment_bytes =
      0;  ///< greatest of the staged way; or PACELINE_DEVICE_FRAGMENT_BYTES; 0: 4 MiB
};

struct DeviceOptions {
  int device = -1;  ///< as CUDA numbers it; -1: the calling thread's current one
  /// Several ranks may have one GPU. Otherwise that is an error, since it is nearly always a mistake.
  bool share_device = false;
  bool use_nccl = true;  ///< if it was built with it and the versions fit
  bool use_ipc = true;   ///< where the ranks of every node can map each other's memory
  /// Device memory per rank for CUDA IPC. Longer sums go in several kernels.
  std::size_t ipc_bytes = std::size_t{32} << 20;
  /// For meeting, and for the wait of a collective for any one rank, which is named then.
  Duration operation_timeout = std::chrono::minutes(5);
  DeviceTuning tuning;
};

/// Collectives of a fixed set of ranks, each with one GPU, on memory of that GPU.
///
/// They are ordered by streams, as copies and kernels are: a call returns when it has been put into the
/// stream, input is read when the stream comes to it, and output is there for what follows in that stream.
/// All ranks call the same collectives in the same order; those of one communicator run one after the other,
/// on whatever streams. A call returns an error for what can be seen at once. What goes wrong later ends the
/// collective (the stream goes on, output undefined), kills the communicator on every rank, and is told by
/// wait(), health() and every later call, with the rank to blame where one is known. Neither the process nor
/// the CUDA context suffers, unless the GPU itself failed: make a new host communicator of the survivors and
/// from it a new one of these.
///
/// Memory stays until the stream has passed the call. Types, operations, weights and codecs are those of
/// `allreduce.hpp`, with ReduceOptions::residual in device memory, and priority without meaning. Lossy codecs
/// act between nodes and on the host. Calls cannot be captured into a graph.
///
/// Threads: collectives by one thread at a time; wait(), abort(), health() and the const members by any.
class DeviceCommunicator {
 public:
  /// Collective over the ranks of `host`, which is used for meeting only and stays the caller's. Takes a
  /// second or two: kernels are loaded and ways are measured; ends when `host` is aborted or loses a rank.
  /// Errors, each with rank, GPU and what to do:
  /// unsupported (no driver, or one older than the toolkit; NCCL asked for and its header and library differ;
  /// a way asked for that is not available here), invalid_argument (no such device; two ranks with one GPU),
  /// io (the GPU failed or has no memory), and those of Communicator::split. The staged ways call the host
  /// communicator's transport from a thread of their own: over MPI that needs MPI_THREAD_MULTIPLE.
  [[nodiscard]] static Result<DeviceCommunicator> make(Communicator& host, DeviceOptions options = {});

  DeviceCommunicator(DeviceCommunicator&&) noexcept;
  DeviceCommunicator& operator=(DeviceCommunicator&&) noexcept;
  /// Waits for what was begun, and unless it was released up to 10 s for the other ranks to end theirs: they
  /// read this rank's memory.
  ~DeviceCommunicator();

  [[nodiscard]] int rank() const noexcept;
  [[nodiscard]] int size() const noexcept;
  [[nodiscard]] int device() const noexcept;  ///< as CUDA numbers it

  /// As the functions of the same names of Communicator, in stream order.
  [[nodiscard]] Status all_reduce(const void* input, void* output, std::size_t count, DataType type,
                                  const ReduceOptions& options, Stream stream);
  [[nodiscard]] Status reduce_scatter(const void* input, void* output, std::size_t count, DataType type,
                                      const ReduceOptions& options, Stream stream);
  [[nodiscard]] Status all_gather(const void* input, void* output, std::size_t count, DataType type,
                                  Stream stream);
  [[nodiscard]] Status broadcast(void* data, std::size_t count, DataType type, int root, Stream stream);
  /// What follows in the stream begins when every rank's stream has come to it.
  [[nodiscard]] Status barrier(Stream stream);

  /// Until everything that was begun on this rank has ended. The error that killed the communicator, if one
  /// did.
  [[nodiscard]] Status wait();
  /// Success, or the error that killed it. Does not wait.
  [[nodiscard]] Status health() const;
  /// Gives up: everything in flight ends on every rank with `reason`.
  void abort(const std::string& reason);
  /// Says that all ranks have ended every collective, which the caller knows since they have agreed on
  /// something after it: the destructor waits for no rank then. Nothing else may be called any more.
  void release();

  /// The way that an all_reduce of so many bytes takes.
  [[nodiscard]] Way way_of(std::size_t bytes) const;
  /// For people: GPUs, what was measured of each way, which is used for which size, and why others are not.
  [[nodiscard]] std::string describe() const;

 private:
  class Impl;
  explicit DeviceCommunicator(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace paceline::cuda
