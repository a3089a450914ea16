#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "logs/end.hpp"
#include "paceline/base/clock.hpp"
#include "paceline/base/fd.hpp"
#include "seeing/run_events.hpp"
#include "seeing/top_view.hpp"

namespace paceline {

/// Where `paceline top` gets what it shows: a run's coordinator, whichever it is, its journal and its
/// metrics.
class TopSource {
 public:
  explicit TopSource(std::string run_dir)
      : run_dir_(std::move(run_dir)), events_(run_dir_), end_(run_dir_, clock_) {}
  /// Asks and reads. Waits some seconds where a coordinator doesn't answer.
  [[nodiscard]] TopLook look();

 private:
  void ask(TopLook& look) const;
  void read_metrics(TopLook& look) const;

  std::string run_dir_;
  SteadyClock clock_;
  EventFollower events_;
  RunEnd end_;
};

/// A thread that looks again and again, so that nobody at the keys waits for a coordinator.
class TopWatch {
 public:
  TopWatch(std::string run_dir, Duration interval);
  /// Waits for the look in progress.
  ~TopWatch();
  TopWatch(const TopWatch&) = delete;
  TopWatch& operator=(const TopWatch&) = delete;

  /// Readable when there is a new look.
  [[nodiscard]] int fd() const noexcept { return news_.get(); }
  [[nodiscard]] std::optional<TopLook> take();

 private:
  void run();

  TopSource source_;
  Duration interval_;
  UniqueFd news_;
  std::mutex mutex_;
  std::condition_variable ending_;
  bool ends_ = false;            // guarded by mutex_
  std::optional<TopLook> look_;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace paceline
