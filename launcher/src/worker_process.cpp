#include "worker_process.hpp"

#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "paceline/base/text.hpp"
#include "spawn.hpp"

namespace paceline {

Result<WorkerProcess> WorkerProcess::start(const WorkerSpec& spec, const sigset_t& mask) {
  PACELINE_ASSIGN(auto channel, WorkerChannel::make_pair());
  std::optional<MergedLines> merged;
  if (spec.merged_log != nullptr) merged.emplace(*spec.merged_log, spec.start.worker);
  PACELINE_ASSIGN(WorkerOutput output, WorkerOutput::open(spec.log_path, std::move(merged)));
  SpawnRequest request;
  request.program = spec.program;
  request.rank = spec.start.worker;
  request.threads = spec.start.threads;
  request.cpus = spec.cpus;
  request.gpu = spec.gpu;
  request.channel_fd = channel.second.get();
  request.listener_fd = spec.listener_fd;
  request.output_fd = output.writing_end().get();
  request.signal_mask = &mask;
  PACELINE_ASSIGN(const pid_t pid, spawn(request));
  output.writing_end().reset();
  // By number: glibc 2.36 declares pidfd_open without C linkage.
  UniqueFd pid_fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!pid_fd.valid()) {
    const Error error = system_error("cannot watch its process (Linux 5.3 or newer is needed)");
    ::kill(-pid, SIGKILL);
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    return error;
  }
  return WorkerProcess(pid, std::move(pid_fd), std::move(channel.first), std::move(output));
}

WorkerProcess::~WorkerProcess() {
  if (gone()) return;
  kill();
  const SteadyClock clock;
  await_end(Deadline(clock, std::chrono::seconds(5)));
}

Status WorkerProcess::send(const WorkerMessage& message) {
  if (!channel_) return Error{ErrorCode::peer_lost, "it has closed its socket"};
  return channel_->send(message, Duration::zero());
}

Status WorkerProcess::receive(const std::function<void(const WorkerMessage&)>& handle) {
  // A bound, so that a worker that floods its agent cannot keep it from the others.
  constexpr int most_messages = 64;
  for (int i = 0; i < most_messages && channel_; ++i) {
    const Result<std::optional<WorkerMessage>> message = channel_->receive(Duration::zero());
    if (message.ok() && !message.value()) return {};
    if (!message.ok()) {
      channel_.reset();
      return message.error();
    }
    handle(**message);
  }
  return {};
}

void WorkerProcess::kill() const {
  if (gone()) return;
  ::kill(-pid_, SIGKILL);  // its group, in case it has children of its own
  ::kill(pid_, SIGKILL);
}

std::optional<int> WorkerProcess::reap() {
  if (gone()) return std::nullopt;
  int status = 0;
  ::kill(-pid_, SIGKILL);  // what it left behind; its group's number is its own until it is reaped
  if (::waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
  pid_fd_.reset();
  output_.copy();
  output_.end();
  return status;
}

void WorkerProcess::await_end(const Deadline& deadline) {
  if (gone()) return;
  pollfd entry{pid_fd_.get(), POLLIN, 0};
  ::poll(&entry, 1, deadline.left_ms());
  if (::waitpid(pid_, nullptr, WNOHANG) != pid_) return;
  pid_fd_.reset();
  output_.copy();
  output_.end();
}

std::string describe_signal(int signal) {
  const char* description = ::sigdescr_np(signal);
  return concat("was killed by signal ", signal, " (", description != nullptr ? description : "unknown", ")");
}

std::string describe_end(int wait_status) {
  if (WIFSIGNALED(wait_status)) return describe_signal(WTERMSIG(wait_status));
  return concat("exited with status ", WEXITSTATUS(wait_status));
}

}  // namespace paceline
