#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <vector>

#include "paceline/base/fd.hpp"
#include "paceline/base/result.hpp"

namespace paceline {

/// The one error that ends a communicator, and the means to wake everyone who waits. Thread-safe.
class AbortSignal {
 public:
  [[nodiscard]] Status open();

  /// Keeps the first error and wakes all waiters; later ones are ignored. True for the first.
  bool raise(Error error);
  [[nodiscard]] bool raised() const noexcept { return raised_.load(std::memory_order_acquire); }
  /// The error raised, or success.
  [[nodiscard]] Status status() const;
  /// Readable from the moment an error was raised, for poll(2).
  [[nodiscard]] int fd() const noexcept { return event_.get(); }
  /// `wake` is called once, when an error is raised; at once if one has been. It must not call this signal.
  void on_raise(std::function<void()> wake);

 private:
  std::atomic<bool> raised_ = false;
  mutable std::mutex mutex_;
  Error error_;
  UniqueFd event_;
  std::vector<std::function<void()>> wakes_;
};

}  // namespace paceline
