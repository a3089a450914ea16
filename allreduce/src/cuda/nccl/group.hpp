#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <memory>
#include <string>

#include "../../operation.hpp"
#include "../plan/devices.hpp"
#include "paceline/allreduce.hpp"

// NCCL over all ranks. group.cpp where it was built in, group_none.cpp where not.

namespace paceline::cuda::nccl {

/// Versions of the header and of the library that was loaded; both stay 0 without NCCL.
void look(DeviceFacts& facts);

/// A non-blocking communicator of NCCL's. Collectives by one thread at a time; abort() and health() by any.
class Group {
 public:
  /// Collective over `control`. The same on all ranks, but for the words: a group, or an error where one has
  /// none. timeout: ranks did not come. Ends early, too, when `control` dies.
  [[nodiscard]] static Result<std::unique_ptr<Group>> make(Communicator& control, Duration timeout);
  virtual ~Group() = default;

  /// Puts it into `stream`. Waits, bounded, while NCCL still connects.
  [[nodiscard]] virtual Status run(const Request& request, cudaStream_t stream) = 0;
  /// Ends what is in flight, on this rank. Safe to call again.
  virtual void abort() = 0;
  /// NCCL's own asynchronous error, if there is one.
  [[nodiscard]] virtual Status health() = 0;
};

}  // namespace paceline::cuda::nccl
