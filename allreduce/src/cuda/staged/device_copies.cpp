#include "device_copies.hpp"

namespace paceline::cuda {
namespace {

Status record(cudaEvent_t event, cudaStream_t stream) {
  return check(cudaEventRecord(event, stream), "an event cannot be recorded");
}

}  // namespace

Result<DeviceCopies::Direction> DeviceCopies::make_direction(int slots) {
  Direction direction;
  PACELINE_ASSIGN(direction.stream, make_stream());
  for (int slot = 0; slot < slots; ++slot) {
    PACELINE_ASSIGN(UniqueEvent event, make_event());
    direction.copied.push_back(std::move(event));
  }
  return direction;
}

Result<DeviceCopies> DeviceCopies::make(int slots) {
  DeviceCopies copies;
  PACELINE_ASSIGN(copies.to_host_, make_direction(slots));
  PACELINE_ASSIGN(copies.to_device_, make_direction(slots));
  return copies;
}

Status DeviceCopies::after(cudaEvent_t event) {
  for (const Direction* direction : {&to_host_, &to_device_})
    PACELINE_TRY(check(cudaStreamWaitEvent(direction->stream.get(), event, 0), "a stream cannot wait"));
  return {};
}

/// An event that was never recorded counts as passed.
Status DeviceCopies::wait(const Direction& direction, int slot) {
  return check(cudaEventSynchronize(direction.copied[static_cast<std::size_t>(slot)].get()),
               "a copy between GPU and host failed");
}

CopyOperations DeviceCopies::operations() {
  const auto begin = [](const Direction& direction, int slot, const Rows& rows, bool to_host) -> Status {
    for (std::size_t row = 0; row < rows.count; ++row) {
      std::byte* host = rows.host + row * rows.host_pitch;
      std::byte* device = rows.device + row * rows.device_pitch;
      const cudaError_t begun =
          to_host ? cudaMemcpyAsync(host, device, rows.bytes, cudaMemcpyDeviceToHost, direction.stream.get())
                  : cudaMemcpyAsync(device, host, rows.bytes, cudaMemcpyHostToDevice, direction.stream.get());
      PACELINE_TRY(check(begun, "a copy between GPU and host cannot begin"));
    }
    return record(direction.copied[static_cast<std::size_t>(slot)].get(), direction.stream.get());
  };
  return {[this, begin](int slot, const Rows& rows) { return begin(to_host_, slot, rows, true); },
          [this](int slot) { return wait(to_host_, slot); },
          [this, begin](int slot, const Rows& rows) { return begin(to_device_, slot, rows, false); },
          [this](int slot) { return wait(to_device_, slot); }};
}

}  // namespace paceline::cuda
