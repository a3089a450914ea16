#pragma once

#include <vector>

#include "../memory.hpp"
#include "../plan/staged.hpp"

namespace paceline::cuda {

/// The staged way's copies on the GPU's copy engines: a stream for each direction, an event for each slot of
/// each.
class DeviceCopies {
 public:
  [[nodiscard]] static Result<DeviceCopies> make(int slots);

  /// What is copied from now on waits for `event` first: the caller's input is there then.
  [[nodiscard]] Status after(cudaEvent_t event);
  /// Refers to this.
  [[nodiscard]] CopyOperations operations();

 private:
  struct Direction {
    UniqueStream stream;
    std::vector<UniqueEvent> copied;  // by slot
  };
  [[nodiscard]] static Result<Direction> make_direction(int slots);
  [[nodiscard]] static Status wait(const Direction& direction, int slot);

  Direction to_host_;
  Direction to_device_;
};

}  // namespace paceline::cuda
