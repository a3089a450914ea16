#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>

#include "device.hpp"

// Owners of what CUDA gives. Each belongs to the device that was current when it was made, which must be
// current again at its end only where that is said.

namespace paceline::cuda {

struct StreamEnd {
  void operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
};
using UniqueStream = std::unique_ptr<CUstream_st, StreamEnd>;
/// Does not wait for the default stream.
[[nodiscard]] Result<UniqueStream> make_stream();

struct EventEnd {
  void operator()(cudaEvent_t event) const { cudaEventDestroy(event); }
};
using UniqueEvent = std::unique_ptr<CUevent_st, EventEnd>;
/// Without times; a thread that waits for it sleeps.
[[nodiscard]] Result<UniqueEvent> make_event();

struct DeviceMemoryEnd {
  void operator()(std::byte* memory) const { cudaFree(memory); }
};
using DeviceMemory = std::unique_ptr<std::byte, DeviceMemoryEnd>;
/// Zeroed.
[[nodiscard]] Result<DeviceMemory> allocate_device(std::size_t bytes);

struct PinnedMemoryEnd {
  void operator()(std::byte* memory) const { cudaFreeHost(memory); }
};
using PinnedMemory = std::unique_ptr<std::byte, PinnedMemoryEnd>;
/// Host memory that the device reads and writes at the same address. Zeroed.
[[nodiscard]] Result<PinnedMemory> allocate_pinned(std::size_t bytes);

struct RegistrationEnd {
  void operator()(std::byte* memory) const { cudaHostUnregister(memory); }
};
using Registration = std::unique_ptr<std::byte, RegistrationEnd>;
/// Pins memory that is there already; it must outlive this.
[[nodiscard]] Result<Registration> pin(std::byte* memory, std::size_t bytes);

}  // namespace paceline::cuda
