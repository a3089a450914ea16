#include "abort_signal.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>

namespace paceline {

Status AbortSignal::open() {
  event_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event_.valid()) return system_error("cannot make an eventfd");
  return {};
}

void AbortSignal::on_raise(std::function<void()> wake) {
  const std::lock_guard lock(mutex_);
  if (raised_.load(std::memory_order_relaxed)) return wake();
  wakes_.push_back(std::move(wake));
}

bool AbortSignal::raise(Error error) {
  const std::lock_guard lock(mutex_);
  if (raised_.load(std::memory_order_relaxed)) return false;
  error_ = std::move(error);
  raised_.store(true, std::memory_order_release);
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t ignored = ::write(event_.get(), &one, sizeof one);
  for (const auto& wake : wakes_) wake();
  return true;
}

Status AbortSignal::status() const {
  if (!raised()) return {};
  const std::lock_guard lock(mutex_);
  return error_;
}

}  // namespace paceline
