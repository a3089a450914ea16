#pragma once

#include <torch/torch.h>

#include "paceline/base/result.hpp"

namespace paceline {

/// Where a rank's model computes. Weights, sums and the optimizer are in the host's memory wherever that is,
/// and so are the state, checkpoints and what ranks send each other: ranks on GPUs and on CPUs can train
/// together, and a run can go on on the other kind.
struct ComputeDevice {
  torch::Device device = torch::kCPU;
  /// It computes with copies in memory of its own. Always so of a GPU. Of the CPU it is for tests, where that
  /// takes a GPU's place: all that is done for a GPU is done then, but streams.
  bool apart = false;

  friend bool operator==(const ComputeDevice&, const ComputeDevice&) = default;
};

/// The first GPU that this process may use (CUDA_VISIBLE_DEVICES). Starts its driver, which takes a moment.
/// unsupported: LibTorch was built without CUDA; not_found: there is no GPU, or no driver; io: it does not
/// work, with the driver's words.
[[nodiscard]] Result<ComputeDevice> find_gpu();

/// From now on operations on GPUs give the same bits when they are done again, or say that they can't: for
/// reproducible training. false: whatever is fastest for the shapes that come. For the whole process, and
/// before anything is computed.
void compute_deterministically(bool wanted);

}  // namespace paceline
