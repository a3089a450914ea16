#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "paceline/base/clock.hpp"
#include "paceline/job/protocol.hpp"

namespace paceline {

/// How long an agent waits for what. Every one of its waits is here.
struct WatchLimits {
  Duration hello = std::chrono::seconds(60);             ///< from the start to a worker's first message
  Duration last_words = std::chrono::milliseconds(300);  ///< from the first failure to killing the others
  Duration stop = std::chrono::seconds(5);  ///< from StopMessage to killing those who have not finished
  Duration stragglers = std::chrono::minutes(10);  ///< from the first Finished to the last; models are big
  Duration leave = std::chrono::seconds(10);       ///< from its Finished, or its socket's end, to its exit
  Duration reap = std::chrono::seconds(5);         ///< from SIGKILL to giving up on a process in the kernel
};

/// What went wrong with one worker.
struct WorkerFault {
  enum class Kind {
    killed,  ///< by signal `number`, and not by us
    exited,  ///< with status `number`, without having said why
    failed,  ///< it said so: `failed`
    broken,  ///< it does not follow the protocol, as `detail` says
  };
  Kind kind = Kind::exited;
  std::size_t worker = 0;  ///< index among the agent's workers
  std::int64_t rank = 0;
  int number = 0;
  FailedMessage failed{};
  std::string detail{};
  Instant at{};
};

/// Whether the worker only suffers from what happened to another rank.
[[nodiscard]] bool is_consequence(const WorkerFault& fault);

/// The fault that explains the others: the first that is not a consequence, else the first.
/// Nothing where `faults` is empty.
[[nodiscard]] std::optional<WorkerFault> root_cause(const std::vector<WorkerFault>& faults);

/// What to do now. Each order is given once.
struct WatchOrders {
  bool send_stop = false;         ///< StopMessage to all
  std::vector<std::size_t> kill;  ///< SIGKILL these workers
  std::string note;               ///< for the user; empty: nothing
  std::optional<Instant> wake;    ///< ask again then, if nothing happens before
  bool done = false;              ///< no worker is left, or none that could be ended
};

/// An agent's decisions, without processes, sockets or a clock of its own: it is told what happened and says
/// what to do.
///
///   running --stop signal--> stopping --all left--> done
///      |                         | limit, or a second signal
///      +--a worker's fault--> failing --all gone, or last_words--> killing --all reaped--> done
class Watch {
 public:
  Watch(std::vector<std::int64_t> ranks, Instant start, WatchLimits limits = {});

  void on_hello(std::size_t worker);
  void on_finished(std::size_t worker, const FinishedMessage& message, Instant now);
  void on_failed(std::size_t worker, const FailedMessage& message, Instant now);
  void on_broken(std::size_t worker, const std::string& detail, Instant now);
  /// It closed its socket, which it does only when it ends.
  void on_closed(std::size_t worker, Instant now);
  void on_killed(std::size_t worker, int signal, Instant now);
  void on_exited(std::size_t worker, int status, Instant now);
  void on_stop_signal(int signal, Instant now);

  [[nodiscard]] WatchOrders next(Instant now);

  /// "completed", "stopped" or "failed"; final once done.
  [[nodiscard]] std::string status() const;
  /// Why it failed; nothing where it did not.
  [[nodiscard]] std::optional<WorkerFault> cause() const;
  /// The first stop signal; 0 where there was none.
  [[nodiscard]] int stop_signal() const noexcept { return stop_signal_; }

 private:
  struct Worker {
    std::int64_t rank = 0;
    bool greeted = false;
    bool gone = false;
    bool ordered_dead = false;
    std::optional<FinishedMessage> finished{};
    std::optional<Instant> finished_at{};
    std::optional<Instant> closed_at{};
    bool faulty = false;
  };
  void fault(WorkerFault fault);
  void leave(std::size_t worker, WorkerFault fault);
  void find_overdue(Instant now);
  void kill_all(WatchOrders& orders, Instant now);
  void kill_loiterers(WatchOrders& orders, Instant now);
  [[nodiscard]] bool all_gone() const;
  [[nodiscard]] std::optional<Instant> next_deadline() const;

  WatchLimits limits_;
  Instant start_;
  std::vector<Worker> workers_;
  std::vector<WorkerFault> faults_;
  std::optional<Instant> first_finished_;
  std::optional<Instant> stop_at_;
  std::optional<Instant> kill_at_;
  int stop_signal_ = 0;
  bool stop_sent_ = false;
  bool stop_overdue_ = false;
  bool stop_now_ = false;
};

}  // namespace paceline
