#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "../../operation.hpp"
#include "../../topology.hpp"
#include "../memory.hpp"
#include "../plan/devices.hpp"
#include "kernels.hpp"
#include "paceline/allreduce.hpp"

namespace paceline::cuda::ipc {

/// The ranks of a node that have mapped each other's staging. One thread at a time, but for abort() and
/// outcome().
class Group {
 public:
  /// Collective over all ranks of `control`, whose nodes each become a group. `facts` are by rank. On every
  /// rank the same: a group, or why there is none (`unsupported`: some cannot map each other, with the rank;
  /// or another error).
  [[nodiscard]] static Result<std::unique_ptr<Group>> make(Communicator& control,
                                                           std::span<const DeviceFacts> facts,
                                                           std::size_t bytes, Duration timeout);
  /// The peers must have ended their kernels.
  ~Group();
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  [[nodiscard]] int size() const { return static_cast<int>(local_ranks_.size()); }
  [[nodiscard]] int index() const { return index_; }

  /// A whole collective within the node, in as many kernels as its length needs. `ranges`, for the two below,
  /// are by local index, elements of the caller's data.
  [[nodiscard]] Status run(const Request& request, bool in_one_shot, cudaStream_t stream);
  /// output, at its own range, becomes the sum of that range of all inputs, divided by `divisor`.
  [[nodiscard]] Status reduce(const Request& request, const std::vector<ElementRange>& ranges, double divisor,
                              cudaStream_t stream);
  /// Every rank's `data`, where its range is, comes to all.
  [[nodiscard]] Status gather(std::byte* data, DataType type, const std::vector<ElementRange>& ranges,
                              cudaStream_t stream);

  /// Every kernel that waits, now or later, ends soon. Any thread.
  void abort();
  /// What a kernel found that did not end well: aborted, or timeout with the rank that did not come. Any
  /// thread.
  [[nodiscard]] Status outcome() const;

 private:
  Group() = default;
  [[nodiscard]] Status map_peers(Communicator& control, std::span<const DeviceFacts> facts);
  [[nodiscard]] Peers next_peers();
  [[nodiscard]] std::size_t most_elements(DataType type) const;
  [[nodiscard]] Status run_one_shot(const Request& request, const Arithmetic& arithmetic, double divisor,
                                    cudaStream_t stream);
  /// As many kernels as the longest row needs.
  [[nodiscard]] Status run_rows(ByRows<std::byte> call, const Arithmetic& arithmetic, cudaStream_t stream);

  int index_ = 0;
  std::vector<int> local_ranks_;  // by local index, the rank
  std::size_t half_bytes_ = 0;
  std::uint64_t timeout_ns_ = 0;
  DeviceMemory own_;                // flags, then two halves
  std::vector<std::byte*> mapped_;  // by local index; of others, opened here and closed at the end
  std::vector<bool> opened_;
  PinnedMemory words_memory_;
  std::uint32_t turn_ = 0;
  std::uint64_t kernels_ = 0;
};

}  // namespace paceline::cuda::ipc
