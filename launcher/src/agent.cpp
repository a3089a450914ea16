#include "agent.hpp"

#include <poll.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "paceline/base/text.hpp"
#include "spawn.hpp"

namespace paceline {
namespace {

// Nothing hangs on it; a loop that looks up now and then is easier to trust.
constexpr Duration longest_sleep = std::chrono::seconds(1);

}  // namespace

Result<std::unique_ptr<StopSignals>> StopSignals::catch_all() {
  std::unique_ptr<StopSignals> signals(new StopSignals());
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t stop;
  ::sigemptyset(&stop);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaddset(&stop, signal);
  if (::sigprocmask(SIG_BLOCK, &stop, &signals->before_) != 0) return system_error("cannot block signals");
  signals->fd_.reset(::signalfd(-1, &stop, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals->fd_.valid()) return system_error("cannot make a descriptor for signals");
  return signals;
}

StopSignals::~StopSignals() {
  // What came too late to be obeyed must not strike while the results are being written.
  while (fd_.valid() && take() != 0) continue;
  ::sigprocmask(SIG_SETMASK, &before_, nullptr);
}

int StopSignals::take() {
  signalfd_siginfo info{};
  if (::read(fd_.get(), &info, sizeof info) != static_cast<ssize_t>(sizeof info)) return 0;
  const int signal = static_cast<int>(info.ssi_signo);
  if (first_ == 0) first_ = signal;
  return signal;
}

Agent::Agent(StopSignals& signals, Display& display, std::function<void()> on_first_step)
    : signals_(signals), display_(display), on_first_step_(std::move(on_first_step)) {
}

Agent::~Agent() {
  kill_and_reap_all();
}

Outcome Agent::run(const std::vector<WorkerSpec>& specs) {
  for (const WorkerSpec& spec : specs) {
    const Status started = start(spec);
    if (started.ok()) continue;
    const std::string node = spec.start.members[static_cast<std::size_t>(spec.start.rank)].node;
    outcome_.failure = {.rank = spec.start.rank,
                        .node = node,
                        .sentence = concat("rank ", spec.start.rank, " on node ", node,
                                           " could not be started: ", started.error().message),
                        .explained = true};
    kill_and_reap_all();
    return outcome_;
  }
  std::vector<std::int64_t> ranks;
  for (const Worker& worker : workers_) ranks.push_back(worker.rank);
  watch_.emplace(std::move(ranks), clock_.now());
  loop();
  outcome_.status = watch_->status();
  outcome_.stop_signal = watch_->stop_signal();
  if (const auto cause = watch_->cause()) outcome_.failure = report(*cause);
  return outcome_;
}

Status Agent::start(const WorkerSpec& spec) {
  PACELINE_ASSIGN(auto channel, WorkerChannel::make_pair());
  PACELINE_ASSIGN(WorkerOutput output, WorkerOutput::open(spec.log_path));
  SpawnRequest request;
  request.program = spec.program;
  request.rank = spec.start.rank;
  request.threads = spec.start.threads;
  request.cpus = spec.cpus;
  request.channel_fd = channel.second.get();
  request.listener_fd = spec.listener_fd;
  request.output_fd = output.writing_end().get();
  request.signal_mask = &signals_.mask_before();
  PACELINE_ASSIGN(const pid_t pid, spawn(request));
  output.writing_end().reset();
  channel.second.reset();

  Worker& worker = workers_.emplace_back();
  worker.rank = spec.start.rank;
  worker.node = spec.start.members[static_cast<std::size_t>(spec.start.rank)].node;
  worker.pid = worker.named_pid = pid;
  worker.channel = std::move(channel.first);
  worker.output = std::move(output);
  // By number: glibc 2.36 declares pidfd_open without C linkage.
  worker.pid_fd.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!worker.pid_fd.valid()) return system_error("cannot watch its process (Linux 5.3 or newer is needed)");
  worker.start = spec.start;
  return {};
}

void Agent::loop() {
  while (true) {
    const WatchOrders orders = watch_->next(clock_.now());
    obey(orders);
    if (orders.done) return;
    poll_once(orders.wake);
  }
}

void Agent::poll_once(const std::optional<Instant>& wake) {
  // poll(2) passes over negative descriptors, so that each worker keeps its three places.
  std::vector<pollfd> entries = {{signals_.fd(), POLLIN, 0}};
  for (const Worker& worker : workers_) {
    entries.push_back({worker.pid >= 0 ? worker.pid_fd.get() : -1, POLLIN, 0});
    entries.push_back({worker.channel ? worker.channel->fd() : -1, POLLIN, 0});
    entries.push_back({worker.output ? worker.output->fd() : -1, POLLIN, 0});
  }
  const Duration left = wake ? std::min<Duration>(*wake - clock_.now(), longest_sleep) : longest_sleep;
  const Deadline deadline(clock_, std::max(left, Duration::zero()));
  if (::poll(entries.data(), entries.size(), deadline.left_ms()) <= 0) return;
  while (const int signal = entries[0].revents != 0 ? signals_.take() : 0)
    watch_->on_stop_signal(signal, clock_.now());
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    const pollfd* entry = &entries[1 + 3 * i];
    if (entry[2].revents != 0) workers_[i].output->copy();
    if (entry[1].revents != 0) receive(i);
    if (entry[0].revents != 0) reap(i);
  }
}

void Agent::obey(const WatchOrders& orders) {
  if (!orders.note.empty()) display_.warning(orders.note);
  if (orders.send_stop) {
    display_.warning(concat("stopping after the step in progress (", ::sigdescr_np(watch_->stop_signal()),
                            "); once more kills the ranks at once"));
    for (Worker& worker : workers_)
      // A worker that does not read is killed when its time to stop is over.
      if (worker.channel) [[maybe_unused]]
        const Status ignored = worker.channel->send(StopMessage{}, Duration::zero());
  }
  for (const std::size_t worker : orders.kill) kill(workers_[worker]);
}

void Agent::receive(std::size_t index) {
  // A bound, so that a worker that floods its agent cannot keep it from the others.
  constexpr int most_messages = 64;
  Worker& worker = workers_[index];
  for (int i = 0; i < most_messages && worker.channel; ++i) {
    const Result<std::optional<WorkerMessage>> message = worker.channel->receive(Duration::zero());
    if (message.ok() && !message.value()) return;
    if (message.ok()) {
      handle(index, **message);
    } else {
      if (message.error().code == ErrorCode::peer_lost)
        watch_->on_closed(index, clock_.now());
      else
        watch_->on_broken(index, concat("does not speak as a worker should: ", message.error().message),
                          clock_.now());
      worker.channel.reset();
    }
  }
}

void Agent::handle(std::size_t index, const WorkerMessage& message) {
  const bool is_rank_0 = workers_[index].rank == 0;
  const Instant now = clock_.now();
  const bool is_hello = std::holds_alternative<HelloMessage>(message);
  if (is_hello == workers_[index].greeted) {
    watch_->on_broken(index, is_hello ? "said hello twice" : "spoke before it said hello", now);
  } else if (is_hello) {
    greet(index);
  } else if (const auto* progress = std::get_if<ProgressMessage>(&message)) {
    if (!is_rank_0) return;
    outcome_.progress = *progress;
    display_.progress(*progress, now);
    if (progress->step > 0 && on_first_step_) std::exchange(on_first_step_, nullptr)();
  } else if (const auto* eval = std::get_if<EvalMessage>(&message)) {
    if (!is_rank_0) return;
    outcome_.eval = *eval;
    display_.eval(*eval);
  } else if (const auto* finished = std::get_if<FinishedMessage>(&message)) {
    watch_->on_finished(index, *finished, now);
    if (is_rank_0) outcome_.finished = *finished;
  } else if (const auto* failed = std::get_if<FailedMessage>(&message)) {
    watch_->on_failed(index, *failed, now);
  } else {
    watch_->on_broken(index, "does not speak as a worker should: it sent what only an agent sends", now);
  }
}

void Agent::greet(std::size_t index) {
  Worker& worker = workers_[index];
  worker.greeted = true;
  watch_->on_hello(index);
  // It is the first message, and the socket has room for it.
  const Status sent = worker.channel->send(worker.start, Duration::zero());
  // Should the worker be gone already, its process tells the story.
  if (!sent.ok() && sent.error().code != ErrorCode::peer_lost)
    watch_->on_broken(index, concat("could not be told what to do: ", sent.error().message), clock_.now());
}

void Agent::kill(Worker& worker) {
  if (worker.pid < 0) return;
  ::kill(-worker.pid, SIGKILL);  // its group, in case it has children of its own
  ::kill(worker.pid, SIGKILL);
}

void Agent::reap(std::size_t index) {
  Worker& worker = workers_[index];
  receive(index);
  worker.output->copy();
  ::kill(-worker.pid, SIGKILL);  // what it left behind; its group's number is its own until it is reaped
  int status = 0;
  if (::waitpid(worker.pid, &status, WNOHANG) != worker.pid) return;
  worker.pid = -1;
  worker.output->copy();
  const Instant now = clock_.now();
  if (WIFSIGNALED(status))
    watch_->on_killed(index, WTERMSIG(status), now);
  else
    watch_->on_exited(index, WEXITSTATUS(status), now);
}

void Agent::kill_and_reap_all() {
  for (Worker& worker : workers_) kill(worker);
  const Deadline deadline(clock_, WatchLimits{}.reap);
  for (Worker& worker : workers_) {
    if (worker.pid < 0) continue;
    pollfd entry{worker.pid_fd.get(), POLLIN, 0};
    // Without a pidfd there is nothing to wait on; SIGKILL has been sent, and the kernel does the rest.
    if (entry.fd >= 0) ::poll(&entry, 1, deadline.left_ms());
    if (::waitpid(worker.pid, nullptr, WNOHANG) == worker.pid) worker.pid = -1;
  }
}

std::string Agent::where_in_job() const {
  if (!outcome_.progress || outcome_.progress->steps == 0) return "";
  if (outcome_.progress->step == 0) return " before the first step";
  return concat(" at step ", outcome_.progress->step, " of ", outcome_.progress->steps);
}

FailureReport Agent::report(const WorkerFault& fault) const {
  const auto name = [](const Worker& worker) {
    return concat("rank ", worker.rank, " on node ", worker.node, " (pid ", worker.named_pid, ")");
  };
  const Worker& worker = workers_[fault.worker];
  FailureReport report{.rank = worker.rank, .node = worker.node};
  if (fault.kind == WorkerFault::Kind::failed && is_consequence(fault) && fault.failed.lost_rank >= 0) {
    const auto lost = std::find_if(workers_.begin(), workers_.end(), [&fault](const Worker& other) {
      return other.rank == fault.failed.lost_rank;
    });
    report.elsewhere = lost == workers_.end();
    report.rank = fault.failed.lost_rank;
    report.node = report.elsewhere ? "" : lost->node;
    report.sentence = report.elsewhere ? concat(name(worker), " ended because rank ", report.rank,
                                                " was lost", where_in_job(), ": ", fault.failed.message)
                                       : concat(name(*lost), " was lost", where_in_job(), ", says rank ",
                                                worker.rank, ": ", fault.failed.message);
    if (!report.elsewhere) report.last_words = lost->output->last_words();
    return report;
  }
  report.last_words = worker.output->last_words();
  report.explained = fault.kind == WorkerFault::Kind::failed || fault.kind == WorkerFault::Kind::broken;
  switch (fault.kind) {
    case WorkerFault::Kind::killed: {
      const char* description = ::sigdescr_np(fault.number);
      report.sentence = concat(name(worker), " was killed by signal ", fault.number, " (",
                               description != nullptr ? description : "unknown", ")", where_in_job());
      break;
    }
    case WorkerFault::Kind::exited:
      report.sentence = concat(name(worker), " exited with status ", fault.number, where_in_job());
      break;
    case WorkerFault::Kind::failed:
      report.sentence = concat(name(worker), " failed", where_in_job(), ": ", fault.failed.message);
      break;
    case WorkerFault::Kind::broken: report.sentence = concat(name(worker), " ", fault.detail); break;
  }
  return report;
}

}  // namespace paceline
