#pragma once

#include <torch/torch.h>

#include <string>
#include <vector>

#include "paceline/train/device.hpp"
#include "paceline/train/trainer.hpp"

namespace paceline {

/// Tensors that last from step to step, named, and where they are on a device their copies in the host's
/// memory, which is page-locked and there from the first time that they are asked for. One thread.
class HostCopies {
 public:
  explicit HostCopies(const ComputeDevice& device) : device_(device) {}

  /// `tensor` is dense and stays where it is.
  void add(std::string name, torch::Tensor tensor);
  /// The copies, or the tensors themselves where those are in the host's memory; in the order of add(). What
  /// tensors hold by now, if they have changed since the last time that copies were made or used. Throws what
  /// the device says.
  [[nodiscard]] std::vector<StatePart> parts();
  [[nodiscard]] std::int64_t bytes() const;
  /// Tensors have changed.
  void outdate() noexcept { current_ = false; }
  /// What the copies hold is what tensors hold from now on. Throws what the device says.
  void use();

 private:
  struct Entry {
    std::string name;
    torch::Tensor tensor;
    torch::Tensor host;  // undefined until it is asked for
  };
  void make();

  ComputeDevice device_;
  std::vector<Entry> entries_;
  bool current_ = false;  // copies hold what tensors do
};

}  // namespace paceline
