#include "agent.hpp"

#include <poll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "paceline/base/text.hpp"

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

std::string describe_place(const std::optional<ProgressMessage>& progress) {
  if (!progress || progress->steps == 0) return "";
  if (progress->step == 0) return " before the first step";
  return concat(" at step ", progress->step, " of ", progress->steps);
}

Agent::Agent(StopSignals& signals, Display& display) : signals_(signals), display_(display) {
}

Agent::~Agent() {
  kill_and_reap_all();
}

Outcome Agent::run(const std::vector<WorkerSpec>& specs) {
  for (const WorkerSpec& spec : specs) {
    const Status started = start(spec);
    if (started.ok()) continue;
    const std::int64_t rank = spec.form->rank;
    const std::string node = spec.form->members[static_cast<std::size_t>(rank)].node;
    outcome_.failure = {.rank = rank,
                        .node = node,
                        .sentence = concat("rank ", rank, " on node ", node,
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
  PACELINE_ASSIGN(WorkerProcess process, WorkerProcess::start(spec, signals_.mask_before()));
  const std::string& node = spec.form->members[static_cast<std::size_t>(spec.form->rank)].node;
  workers_.push_back({spec.form->rank, node, spec.start, *spec.form, false, std::move(process)});
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
    entries.push_back({worker.process.pid_fd(), POLLIN, 0});
    entries.push_back({worker.process.channel_fd(), POLLIN, 0});
    entries.push_back({worker.process.output_fd(), POLLIN, 0});
  }
  const Duration left = wake ? std::min<Duration>(*wake - clock_.now(), longest_sleep) : longest_sleep;
  const Deadline deadline(clock_, std::max(left, Duration::zero()));
  if (::poll(entries.data(), entries.size(), deadline.left_ms()) <= 0) return;
  while (const int signal = entries[0].revents != 0 ? signals_.take() : 0)
    watch_->on_stop_signal(signal, clock_.now());
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    const pollfd* entry = &entries[1 + 3 * i];
    if (entry[2].revents != 0) workers_[i].process.copy_output();
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
      [[maybe_unused]] const Status ignored = worker.process.send(StopMessage{});
  }
  for (const std::size_t worker : orders.kill) workers_[worker].process.kill();
}

void Agent::receive(std::size_t index) {
  const Status heard =
      workers_[index].process.receive([&](const WorkerMessage& message) { handle(index, message); });
  if (heard.ok()) return;
  if (heard.error().code == ErrorCode::peer_lost)
    watch_->on_closed(index, clock_.now());
  else
    watch_->on_broken(index, concat("does not speak as a worker should: ", heard.error().message),
                      clock_.now());
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
  } else if (const auto* eval = std::get_if<EvalMessage>(&message)) {
    if (!is_rank_0) return;
    outcome_.eval = *eval;
    display_.eval(*eval);
  } else if (const auto* left = std::get_if<LeftMessage>(&message)) {
    // Here nobody makes a next generation, so to lose a rank is to fail.
    watch_->on_failed(index, {left->code, left->message, left->lost_rank}, now);
  } else if (std::holds_alternative<ReadyMessage>(message) ||
             std::holds_alternative<EnteredMessage>(message) ||
             std::holds_alternative<HeartbeatMessage>(message)) {
    return;  // its generation was known from the beginning, and here nobody could take its place
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
  // They are the first messages, and the socket has room for them.
  Status sent = worker.process.send(worker.start);
  if (sent.ok()) sent = worker.process.send(worker.form);
  // Should the worker be gone already, its process tells the story.
  if (!sent.ok() && sent.error().code != ErrorCode::peer_lost)
    watch_->on_broken(index, concat("could not be told what to do: ", sent.error().message), clock_.now());
}

void Agent::reap(std::size_t index) {
  Worker& worker = workers_[index];
  receive(index);
  worker.process.copy_output();
  const std::optional<int> status = worker.process.reap();
  if (!status) return;
  const Instant now = clock_.now();
  if (WIFSIGNALED(*status))
    watch_->on_killed(index, WTERMSIG(*status), now);
  else
    watch_->on_exited(index, WEXITSTATUS(*status), now);
}

void Agent::kill_and_reap_all() {
  for (Worker& worker : workers_) worker.process.kill();
  const Deadline deadline(clock_, WatchLimits{}.reap);
  for (Worker& worker : workers_) worker.process.await_end(deadline);
}

FailureReport Agent::report(const WorkerFault& fault) const {
  const auto name = [](const Worker& worker) {
    return concat("rank ", worker.rank, " on node ", worker.node, " (pid ", worker.process.pid(), ")");
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
    report.sentence = report.elsewhere
                          ? concat(name(worker), " ended because rank ", report.rank, " was lost",
                                   describe_place(outcome_.progress), ": ", fault.failed.message)
                          : concat(name(*lost), " was lost", describe_place(outcome_.progress),
                                   ", says rank ", worker.rank, ": ", fault.failed.message);
    if (!report.elsewhere) report.last_words = lost->process.output().last_words();
    return report;
  }
  report.last_words = worker.process.output().last_words();
  report.explained = fault.kind == WorkerFault::Kind::failed || fault.kind == WorkerFault::Kind::broken;
  switch (fault.kind) {
    case WorkerFault::Kind::killed:
      report.sentence =
          concat(name(worker), " ", describe_signal(fault.number), describe_place(outcome_.progress));
      break;
    case WorkerFault::Kind::exited:
      report.sentence =
          concat(name(worker), " exited with status ", fault.number, describe_place(outcome_.progress));
      break;
    case WorkerFault::Kind::failed:
      report.sentence =
          concat(name(worker), " failed", describe_place(outcome_.progress), ": ", fault.failed.message);
      break;
    case WorkerFault::Kind::broken: report.sentence = concat(name(worker), " ", fault.detail); break;
  }
  return report;
}

}  // namespace paceline
