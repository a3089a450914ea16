#pragma once

#include <torch/torch.h>

#include <cstddef>
#include <memory>

#include "paceline/allreduce.hpp"
#include "paceline/base/clock.hpp"
#include "paceline/base/result.hpp"
#include "paceline/train/device.hpp"
#include "updates.hpp"

namespace paceline {

/// Sums over ranks, in the memory of their devices, by a communicator of their own. One thread at a time:
/// those that run backward's hooks, and the one that waits for them. Sums end when the ranks' communicator
/// that they were made with fails; when they fail themselves, that one is the caller's affair
/// (shared_failure.hpp).
class DeviceSummer {
 public:
  DeviceSummer() = default;
  DeviceSummer(const DeviceSummer&) = delete;
  DeviceSummer& operator=(const DeviceSummer&) = delete;
  virtual ~DeviceSummer() = default;

  /// Begins to sum `count` values in place, once the calling thread's stream has come here. `squared`: what
  /// this rank alone has there is squared before, and added to squares().
  [[nodiscard]] virtual Status sum(float* values, std::size_t count, bool squared) = 0;
  /// Until this rank has computed what it gave to the sums.
  [[nodiscard]] virtual Status wait_for_inputs() = 0;
  /// After wait_for_inputs(): of those given since it was last asked.
  [[nodiscard]] virtual double squares() = 0;
  /// Until all sums have ended. A failure ends them on every rank, and more must not be begun.
  [[nodiscard]] virtual Status wait() = 0;
  /// How long sums were under way, those together that wait() has waited for; that ranks waited for each
  /// other is in it.
  [[nodiscard]] virtual Duration busy() const = 0;
  /// Ends them on every rank, and waits for their end on this one.
  virtual void abort(const std::string& reason) = 0;
};

/// What the training step does in the memory of the device that the model computes with, beside LibTorch: a
/// GPU, by Paceline's own kernels and collectives; or the CPU that takes a GPU's place in tests, by those of
/// the host. Any thread.
class Accelerator {
 public:
  Accelerator() = default;
  Accelerator(const Accelerator&) = delete;
  Accelerator& operator=(const Accelerator&) = delete;
  virtual ~Accelerator() = default;

  /// Collective over the ranks of `communicator`, which outlives what is made.
  [[nodiscard]] virtual Result<std::unique_ptr<DeviceSummer>> meet(Communicator& communicator) const = 0;
  [[nodiscard]] virtual Result<std::unique_ptr<Updates>> make_updates(UpdateRules rules) const = 0;
};

/// For a device that is apart. unsupported: it is a GPU, and Paceline was built without the CUDA toolkit.
[[nodiscard]] Result<std::unique_ptr<Accelerator>> make_accelerator(const ComputeDevice& device);
[[nodiscard]] Result<std::unique_ptr<Accelerator>> make_cuda_accelerator(const ComputeDevice& device);

}  // namespace paceline
