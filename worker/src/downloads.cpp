#include "downloads.hpp"

#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "device_events.hpp"

namespace paceline {

Downloads::Downloads(const ComputeDevice& device) : device_(device.device) {
  if (!device_.is_cpu()) stream_ = transfer_streams(device_).down;
}

void Downloads::begin(std::size_t parameter, const torch::Tensor& gradient, bool last) {
  if (!stream_) {
    copies_.push_back({{parameter, gradient.clone(), last}, {}, {}});
    return;
  }
  const c10::DeviceType type = device_.type();
  c10::Event computed(type);
  computed.record(c10::impl::VirtualGuardImpl(type).getStream(device_));
  computed.block(*stream_);
  const torch::Tensor host =
      torch::empty_like(gradient, gradient.options().device(torch::kCPU).pinned_memory(true));
  const c10::StreamGuard on_own_stream(*stream_);
  host.copy_(gradient, /*non_blocking=*/true);
  Copy& copy = copies_.emplace_back(Copy{{parameter, host, last}, gradient, c10::Event(type)});
  copy.copied->record(*stream_);
}

std::optional<Downloads::Arrived> Downloads::next() {
  if (copies_.empty()) return std::nullopt;
  if (copies_.front().copied) wait_for(*copies_.front().copied);
  Arrived arrived = std::move(copies_.front().arrived);
  copies_.pop_front();
  return arrived;
}

void Downloads::clear() noexcept {
  try {
    while (next()) continue;
  } catch (const std::exception&) {  // the device is broken, and writes no more
  }
  copies_.clear();
}

}  // namespace paceline
