#pragma once

#include <c10/core/Stream.h>
#include <torch/torch.h>

#include <exception>
#include <functional>
#include <string>
#include <string_view>

#include "paceline/base/result.hpp"

namespace paceline {

/// Where a rank's model computes, and keeps weights and the optimizer's state. Gradients are summed there if
/// all ranks have such a device; of some that have and some that have not they are in the host's memory. The
/// state as others see it, in checkpoints and between ranks, is the same bytes for every kind of device:
/// ranks on GPUs and on CPUs can train together, and a run can go on on the other kind.
struct ComputeDevice {
  torch::Device device = torch::kCPU;
  /// It has memory of its own. Always so of a GPU. Of the CPU it is for tests, where that takes a GPU's
  /// place: all that is done for a GPU is done then, but streams.
  bool apart = false;
  /// Other ranks may have the same GPU. Otherwise that is an error, since it is nearly always a mistake.
  bool shared = false;
};

/// The first GPU that this process may use (CUDA_VISIBLE_DEVICES). Starts its driver, which takes a moment.
/// unsupported: LibTorch was built without CUDA; not_found: there is no GPU, or no driver; io: it does not
/// work, with the driver's words.
[[nodiscard]] Result<ComputeDevice> find_gpu();

/// How the GPUs of this process compute, before they do. Products and convolutions of f32 are f32 (LibTorch
/// would let convolutions have TF32's 10 bits): who wants less says so by the type.
struct GpuArithmetic {
  /// The same bits when it is done again, or an exception from what can't: for reproducible training.
  bool deterministic = false;
  /// Convolutions are timed for each shape that comes, which pays where there are few of them.
  bool tries_ways = false;
};
void set_gpu_arithmetic(const GpuArithmetic& arithmetic);

/// Streams for what goes on beside what is computed, the same for all of this process.
struct TransferStreams {
  c10::Stream up;    ///< copies to the device
  c10::Stream down;  ///< copies to the host
  c10::Stream sums;  ///< sums over the ranks
};
[[nodiscard]] const TransferStreams& transfer_streams(torch::Device device);

/// The words of an exception of LibTorch's, without its stack; of one that there was no memory, what to do.
[[nodiscard]] std::string words_of(const std::exception& exception);
/// Whether an error of CUDA's in these words says that the device will not compute again in this process, and
/// the model is not to blame: uncorrectable memory or link errors, or a GPU that has gone.
[[nodiscard]] bool is_broken_device(std::string_view words);
/// Told with a sentence when the device has broken, as is_broken_device() says: whoever can be replaced ends
/// its process here, without another word to the device. Where it returns, what failed gives the error.
using OnBrokenDevice = std::function<void(const std::string&)>;

}  // namespace paceline
