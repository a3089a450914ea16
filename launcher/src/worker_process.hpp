#pragma once

#include <sys/types.h>

#include <csignal>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "paceline/base/fd.hpp"
#include "paceline/job/protocol.hpp"
#include "worker_output.hpp"

namespace paceline {

/// One worker to start.
struct WorkerSpec {
  StartMessage start;
  std::optional<FormMessage> form;  ///< sent right after `start`, where it is known from the beginning
  std::vector<int> cpus;            ///< empty: not pinned
  std::string gpu = {};  ///< the UUID of the only one that it sees; empty: whichever this process sees
  std::string program;
  std::string log_path;
  MergedLog* merged_log = nullptr;  ///< a view; null: none
  int listener_fd = -1;             ///< a view; -1: none
};

/// A worker as its agent has it: the process, its socket and its output. Killed when this ends.
class WorkerProcess {
 public:
  /// `mask`: the signals that it is to be started with.
  [[nodiscard]] static Result<WorkerProcess> start(const WorkerSpec& spec, const sigset_t& mask);
  WorkerProcess(WorkerProcess&&) noexcept = default;
  WorkerProcess& operator=(WorkerProcess&&) = delete;
  ~WorkerProcess();

  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  [[nodiscard]] bool gone() const noexcept { return !pid_fd_.valid(); }
  /// -1 where there is nothing to poll any more.
  [[nodiscard]] int pid_fd() const noexcept { return pid_fd_.get(); }
  [[nodiscard]] int channel_fd() const noexcept { return channel_ ? channel_->fd() : -1; }
  [[nodiscard]] int output_fd() const noexcept { return output_.fd(); }
  [[nodiscard]] const WorkerOutput& output() const noexcept { return output_; }

  /// Without waiting. One that does not read is told nothing; its process tells the story.
  [[nodiscard]] Status send(const WorkerMessage& message);
  /// What it has said, message by message, as long as `handle` and the bound allow. An error: it has closed
  /// its end (peer_lost) or does not follow the protocol; there is no channel any more.
  [[nodiscard]] Status receive(const std::function<void(const WorkerMessage&)>& handle);
  void copy_output() { output_.copy(); }
  /// For what it writes from now on.
  void set_rank(std::int64_t rank) { output_.set_rank(rank); }
  /// SIGKILL, to its children too.
  void kill() const;
  /// What waitpid gives, if it has ended. Its children end with it.
  [[nodiscard]] std::optional<int> reap();
  /// Waits for the end of a process that was killed.
  void await_end(const Deadline& deadline);

 private:
  WorkerProcess(pid_t pid, UniqueFd pid_fd, WorkerChannel channel, WorkerOutput output)
      : pid_(pid), pid_fd_(std::move(pid_fd)), channel_(std::move(channel)), output_(std::move(output)) {}

  pid_t pid_;
  UniqueFd pid_fd_;                       // nothing once it is reaped, or was moved from
  std::optional<WorkerChannel> channel_;  // nothing once the worker has closed it
  WorkerOutput output_;
};

/// "was killed by signal 9 (Killed)".
[[nodiscard]] std::string describe_signal(int signal);
/// That, or "exited with status 3".
[[nodiscard]] std::string describe_end(int wait_status);

}  // namespace paceline
