#include "host_copies.hpp"

#include <utility>

namespace paceline {

void HostCopies::add(std::string name, torch::Tensor tensor) {
  entries_.push_back({std::move(name), std::move(tensor), {}});
}

void HostCopies::make() {
  for (Entry& entry : entries_)
    if (!entry.host.defined())
      entry.host =
          device_.apart
              ? torch::empty_like(
                    entry.tensor,
                    entry.tensor.options().device(torch::kCPU).pinned_memory(!device_.device.is_cpu()))
              : entry.tensor;
}

std::vector<StatePart> HostCopies::parts() {
  const torch::NoGradGuard no_grad;
  make();
  std::vector<StatePart> parts;
  for (Entry& entry : entries_) {
    if (device_.apart && !current_) entry.host.copy_(entry.tensor);
    parts.push_back({entry.name, {static_cast<std::byte*>(entry.host.data_ptr()), entry.host.nbytes()}});
  }
  current_ = true;
  return parts;
}

std::int64_t HostCopies::bytes() const {
  std::int64_t bytes = 0;
  for (const Entry& entry : entries_) bytes += static_cast<std::int64_t>(entry.tensor.nbytes());
  return bytes;
}

void HostCopies::use() {
  if (!device_.apart || !current_) return;
  const torch::NoGradGuard no_grad;
  for (Entry& entry : entries_) entry.tensor.copy_(entry.host);
}

}  // namespace paceline
