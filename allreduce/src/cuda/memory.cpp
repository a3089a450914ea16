#include "memory.hpp"

#include <cstring>

#include "paceline/base/text.hpp"

namespace paceline::cuda {

Result<UniqueStream> make_stream() {
  cudaStream_t stream = nullptr;
  PACELINE_TRY(check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a stream cannot be made"));
  return UniqueStream(stream);
}

Result<UniqueEvent> make_event() {
  cudaEvent_t event = nullptr;
  PACELINE_TRY(check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming | cudaEventBlockingSync),
                     "an event cannot be made"));
  return UniqueEvent(event);
}

Result<DeviceMemory> allocate_device(std::size_t bytes) {
  void* memory = nullptr;
  PACELINE_TRY(check(cudaMalloc(&memory, bytes), concat("no ", human_bytes(bytes), " of the GPU's memory")));
  DeviceMemory owner(static_cast<std::byte*>(memory));
  PACELINE_TRY(check(cudaMemset(memory, 0, bytes), "the GPU's memory cannot be set"));
  PACELINE_TRY(check(cudaDeviceSynchronize(), "the GPU's memory cannot be set"));
  return owner;
}

Result<PinnedMemory> allocate_pinned(std::size_t bytes) {
  void* memory = nullptr;
  PACELINE_TRY(check(cudaHostAlloc(&memory, bytes, cudaHostAllocPortable | cudaHostAllocMapped),
                     concat("no ", human_bytes(bytes), " of pinned memory")));
  std::memset(memory, 0, bytes);
  return PinnedMemory(static_cast<std::byte*>(memory));
}

Result<Registration> pin(std::byte* memory, std::size_t bytes) {
  PACELINE_TRY(check(cudaHostRegister(memory, bytes, cudaHostRegisterPortable | cudaHostRegisterMapped),
                     concat(human_bytes(bytes), " cannot be pinned; look at ulimit -l")));
  return Registration(memory);
}

}  // namespace paceline::cuda
