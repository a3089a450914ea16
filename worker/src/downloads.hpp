#pragma once

#include <c10/core/Event.h>
#include <c10/core/Stream.h>
#include <torch/torch.h>

#include <cstddef>
#include <deque>
#include <optional>

#include "paceline/train/device.hpp"

namespace paceline {

/// Gradients on their way from a device to the host. Copies go on a stream of their own, beside what backward
/// still computes, into page-locked memory; they arrive in the order in which they were begun.
class Downloads {
 public:
  explicit Downloads(const ComputeDevice& device);
  ~Downloads() { clear(); }
  Downloads(const Downloads&) = delete;
  Downloads& operator=(const Downloads&) = delete;

  /// In the thread, and so after what is on the stream, in which `gradient` is computed.
  void begin(std::size_t parameter, const torch::Tensor& gradient, bool last);

  struct Arrived {
    std::size_t parameter = 0;
    torch::Tensor gradient;  ///< on the host, with the strides that it had
    bool last = false;       ///< as begin() was told
  };
  /// Waits for the next one; nothing: all have arrived. Not beside begin(). Throws what the device says.
  [[nodiscard]] std::optional<Arrived> next();
  /// Waits for those that are on the way, and forgets them.
  void clear() noexcept;

 private:
  struct Copy {
    Arrived arrived;
    torch::Tensor source;              // until it has been read
    std::optional<c10::Event> copied;  // nothing: already
  };
  torch::Device device_;
  std::optional<c10::Stream> stream_;  // nothing: the device has none, and copies are made at once
  std::deque<Copy> copies_;
};

}  // namespace paceline
