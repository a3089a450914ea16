#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "../../operation.hpp"
#include "fragments.hpp"
#include "paceline/allreduce.hpp"

namespace paceline::cuda {

/// Rows of equal length between a slot and device memory; a pitch is the distance from one row to the next.
struct Rows {
  std::byte* host = nullptr;
  std::size_t host_pitch = 0;
  std::byte* device = nullptr;
  std::size_t device_pitch = 0;
  std::size_t bytes = 0;  ///< of a row
  std::size_t count = 0;
};

/// How a fragment gets to pinned memory and back. On a GPU: asynchronous copies on two streams. A wait ends
/// when all copies of that slot and direction, begun before it, have ended; after an error of any other
/// function it must still do so. Called by one thread at a time.
struct CopyOperations {
  std::function<Status(int slot, const Rows&)> begin_to_host;
  std::function<Status(int slot)> wait_to_host;
  std::function<Status(int slot, const Rows&)> begin_to_device;
  std::function<Status(int slot)> wait_to_device;
};

/// One host communicator and its pinned memory. Slots of all lanes together are those of the pipeline.
struct StagedLane {
  std::shared_ptr<Communicator> communicator;
  SharedBuffer memory;
  std::vector<int> ranks;  ///< by rank of the lane, that of the whole
};

struct StagedTuning {
  int slots = 4;
  /// Of one slot; twice that with a residual beside the data.
  std::size_t slot_bytes = std::size_t{4} << 20;
};

/// Slots for `communicator`, which all ranks of the lane ask for. Errors: those of Communicator::allocate.
[[nodiscard]] Result<StagedLane> make_lane(std::shared_ptr<Communicator> communicator, std::vector<int> ranks,
                                           const StagedTuning& tuning);

/// Carries out `request`, whose input, output and residual are device memory, over the host. `lanes` are by
/// number; those that this rank is not in are null. `pieces` says which lane carries what; for everything but
/// an all_reduce that is all of it, by one lane. Blocks; one thread at a time. An error names the rank where
/// it is known, and then the lanes are dead, and no copy is under way any more.
[[nodiscard]] Status run_staged(const Request& request, const std::vector<Piece>& pieces,
                                const std::vector<StagedLane>& lanes, const CopyOperations& copies,
                                const StagedTuning& tuning);

}  // namespace paceline::cuda
