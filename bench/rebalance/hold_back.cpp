#include "rebalance/hold_back.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <csignal>
#include <memory>
#include <mutex>

#include "paceline/base/assert.hpp"

namespace paceline::bench {
namespace {

const SteadyClock steady_clock;
/// In periods: what is owed beyond is forgotten, so that no stop takes long, and neither does what makes it
/// good.
constexpr double most_owed = 2, most_overpaid = 20;

Status send(int process, int signal) {
  if (::syscall(SYS_pidfd_send_signal, process, signal, nullptr, 0) == 0) return {};
  return system_error("cannot stop the rank for a moment");
}

/// Times of one kind, which are to come to a part of all.
class Account {
 public:
  Account(double part, Duration period) : part_(part), period_(period) {}
  /// What is still owed of this period.
  [[nodiscard]] Duration owed() {
    owed_ = std::clamp(owed_ + part_ * period_, -most_overpaid * period_, most_owed * period_);
    return std::chrono::duration_cast<Duration>(std::max(owed_, Exact::zero()));
  }
  void paid(Duration time) { owed_ -= time; }

 private:
  using Exact = std::chrono::duration<double, std::nano>;
  double part_;
  Exact period_, owed_{};
};

Status hold_back(const std::stop_token& stop, int process, double factor, Duration period) {
  std::mutex mutex;
  std::condition_variable_any end;
  std::unique_lock lock(mutex);
  const auto spend = [&](Account& account) {
    const Instant began = steady_clock.now();
    const Duration owed = account.owed();
    if (owed > Duration::zero()) end.wait_for(lock, stop, owed, [] { return false; });
    account.paid(steady_clock.now() - began);
  };
  Account stopped(1 - 1 / factor, period), running(1 / factor, period);
  while (!stop.stop_requested()) {
    PACELINE_TRY(send(process, SIGSTOP));
    spend(stopped);
    PACELINE_TRY(send(process, SIGCONT));
    spend(running);
  }
  return {};
}

}  // namespace

Result<HeldBack> HeldBack::start(pid_t pid, double factor, Duration period) {
  PACELINE_ASSERT(factor >= 1 && period > Duration::zero(), "a part of the time");
  HeldBack held;
  held.shared_ = std::make_unique<Shared>();
  held.shared_->process.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!held.shared_->process.valid()) return system_error("cannot find the rank's process");
  held.thread_ = std::jthread([shared = held.shared_.get(), factor, period](const std::stop_token& stop) {
    shared->status = hold_back(stop, shared->process.get(), factor, period);
  });
  return held;
}

Status HeldBack::end() {
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
  return shared_->status;
}

}  // namespace paceline::bench
