#pragma once

#include <sys/types.h>

#include <csignal>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "display.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/job/protocol.hpp"
#include "watch.hpp"
#include "worker_process.hpp"

namespace paceline {

/// Catches SIGINT, SIGTERM and SIGHUP in a descriptor from its making to its end, and ignores SIGPIPE.
/// One that came early is still there when the agent looks.
class StopSignals {
 public:
  [[nodiscard]] static Result<std::unique_ptr<StopSignals>> catch_all();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  [[nodiscard]] const sigset_t& mask_before() const noexcept { return before_; }
  /// The next signal, without waiting; 0 where there is none.
  [[nodiscard]] int take();
  /// The first signal that was taken; 0 where there was none.
  [[nodiscard]] int first() const noexcept { return first_; }

 private:
  StopSignals() = default;
  UniqueFd fd_;
  sigset_t before_{};
  int first_ = 0;
};

/// Why a job failed, for people and for summary.json.
struct FailureReport {
  std::int64_t rank = -1;  ///< -1: no rank's fault
  std::string node{};
  std::string sentence{};
  std::deque<std::string> last_words{};
  bool explained = false;    ///< by itself: silence is then no news
  bool elsewhere = false;    ///< another agent's worker was first, and that agent tells the story
  std::int64_t worker = -1;  ///< whose log has more; -1: that of the worker with the rank's number
};

/// What became of an agent's workers.
struct Outcome {
  std::string status = "failed";  ///< completed, stopped, failed
  int stop_signal = 0;
  std::optional<FinishedMessage> finished;  ///< rank 0's
  std::optional<EvalMessage> eval;          ///< the last
  std::optional<ProgressMessage> progress;  ///< the last
  std::optional<FailureReport> failure;
  std::int64_t generation = 1;          ///< the last
  std::optional<std::int64_t> ranks{};  ///< at the end, where that is known
  std::int64_t repairs = 0;
  std::int64_t resizes = 0;
  bool is_known = false;  ///< to the coordinator, and so to all agents
};

/// " at step 28 of 6000", for the end of a sentence; empty where it isn't known.
[[nodiscard]] std::string describe_place(const std::optional<ProgressMessage>& progress);

/// Starts workers, tells them what to do, and watches them until none is left. One thread, one poll loop;
/// what it decides is in Watch. No worker outlives it.
class Agent {
 public:
  /// Neither is owned; both outlive the agent.
  Agent(StopSignals& signals, Display& display);
  ~Agent();
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  /// Starts the workers and waits for their end.
  [[nodiscard]] Outcome run(const std::vector<WorkerSpec>& specs);

 private:
  struct Worker {
    std::int64_t rank = 0;
    std::string node;
    StartMessage start;  ///< sent in answer to its hello
    FormMessage form;    ///< and this after it
    bool greeted = false;
    WorkerProcess process;
  };

  [[nodiscard]] Status start(const WorkerSpec& spec);
  void loop();
  void poll_once(const std::optional<Instant>& wake);
  void obey(const WatchOrders& orders);
  void receive(std::size_t index);
  void handle(std::size_t index, const WorkerMessage& message);
  void greet(std::size_t index);
  void reap(std::size_t index);
  void kill_and_reap_all();
  [[nodiscard]] FailureReport report(const WorkerFault& fault) const;

  StopSignals& signals_;
  Display& display_;
  SteadyClock clock_;
  std::vector<Worker> workers_;
  std::optional<Watch> watch_;
  Outcome outcome_;
};

}  // namespace paceline
