#include "elastic/elastic_agent.hpp"

#include <poll.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstring>

#include "paceline/base/log.hpp"
#include "paceline/base/text.hpp"
#include "paceline/control/version.hpp"
#include "paceline/job/journal.hpp"
#include "summary.hpp"

namespace paceline {
namespace {

constexpr Duration longest_sleep = std::chrono::milliseconds(50);
constexpr Duration beat_interval = std::chrono::milliseconds(100);
// From a worker's last message, or its socket's end, to its exit.
constexpr Duration leave_limit = std::chrono::seconds(10);
constexpr Duration reap_limit = std::chrono::seconds(5);
// From the end of all other agents of the launch to that of this one.
constexpr Duration abandoned_limit = std::chrono::seconds(10);
constexpr int most_last_receipts = 64;

/// A number of milliseconds that polls often where there is nothing to wake it.
int sleep_ms() {
  return static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(longest_sleep).count());
}

template <class Message>
std::optional<Message> decoded(const std::string& text) {
  if (text.empty()) return std::nullopt;
  const Result<WorkerMessage> message = decode(text);
  if (!message.ok() || !std::holds_alternative<Message>(*message)) return std::nullopt;
  return std::get<Message>(*message);
}

}  // namespace

ElasticAgent::ElasticAgent(const LaunchRequest& request, const Team& team, const AgentName& name,
                           StopSignals& signals, Display& display, AgentHooks hooks)
    : request_(request),
      team_(team),
      signals_(signals),
      display_(display),
      hooks_(std::move(hooks)),
      link_(request.run_dir, name, request.first_term, [this] { return introduce(); }),
      merged_log_(request.run_dir, name.index),
      may_leave_(name.joined) {
}

ElasticAgent::~ElasticAgent() {
  forget_all_workers();
}

void ElasticAgent::forget_all_workers() {
  for (auto& [id, worker] : workers_) worker.process.kill();
  const Deadline deadline(clock_, reap_limit);
  for (auto& [id, worker] : workers_) worker.process.await_end(deadline);
  workers_.clear();
  to_start_.clear();
}

Outcome ElasticAgent::run() {
  while (!ended_) {
    poll_once();
    obey_signals();
    end_loiterers();
    start_those_who_wait();
    beat();
    look_after_launch();
    leave_if_orphaned();
    if (ended_) break;
    Result<std::vector<control::ToAgent>> orders = link_.attend();
    if (!orders.ok()) {
      end_without_coordinator(orders.error());
      break;
    }
    for (const control::ToAgent& order : *orders)
      if (!ended_) obey(order);
  }
  return outcome_;
}

void ElasticAgent::end_without_coordinator(const Error& why) {
  outcome_.status = "failed";
  outcome_.failure = FailureReport{.sentence = why.message};
  if (why.code != ErrorCode::aborted) return;
  // Its coordinator was lost between writing down how the job ended, and saying so.
  const Result<Journal> journal = read_lineage(request_.run_dir);
  if (!journal.ok() || !journal->end) return;
  outcome_.status = journal->end->status;
  if (outcome_.status == "failed")
    outcome_.failure->sentence = journal->end->error;
  else
    outcome_.failure.reset();
  for (const control::WorkerReport& report : finished_)
    for (const control::WorkerSaid& said : report.said())
      if (const auto finished = decoded<FinishedMessage>(said.message()); finished && !outcome_.finished)
        outcome_.finished = finished;
}

/// Its workers go where that can be done in good order; whoever started it ends them soon after.
void ElasticAgent::leave_if_orphaned() {
  if (ended_ || orphaned_ || !hooks_.is_orphaned || !hooks_.is_orphaned()) return;
  orphaned_ = true;
  if (outcome_.stop_signal == 0) outcome_.stop_signal = SIGTERM;
  control::FromAgent message;
  message.mutable_leave()->set_orphaned(true);
  link_.say(std::move(message));
}

/// Agents end when the job does, perhaps before this one hears of it; else nothing can be trained any more
/// but by those who have joined.
void ElasticAgent::look_after_launch() {
  if (ended_ || !hooks_.on_each_turn) return;
  const Status status = hooks_.on_each_turn();
  if (status.ok()) return;
  if (!abandoned_) abandoned_at_ = clock_.now();
  abandoned_ = status.error();
  if (clock_.now() - abandoned_at_ < abandoned_limit) return;
  outcome_.status = "failed";
  outcome_.failure = FailureReport{.sentence = abandoned_->message};
  control::FromAgent message;
  message.mutable_stop();
  link_.say(std::move(message));
  ended_ = true;
}

void ElasticAgent::poll_once() {
  std::vector<pollfd> entries = {{signals_.fd(), POLLIN, 0}, {link_.fd(), POLLIN, 0}};
  std::vector<std::int64_t> ids;
  for (const auto& [id, worker] : workers_) {
    ids.push_back(id);
    entries.push_back({worker.process.pid_fd(), POLLIN, 0});
    entries.push_back({worker.process.channel_fd(), POLLIN, 0});
    entries.push_back({worker.process.output_fd(), POLLIN, 0});
  }
  if (::poll(entries.data(), entries.size(), sleep_ms()) <= 0) return;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const pollfd* entry = &entries[2 + 3 * i];
    if (entry[2].revents != 0) workers_.at(ids[i]).process.copy_output();
    if (entry[1].revents != 0) receive(ids[i]);
    if (entry[0].revents != 0) reap(ids[i]);
  }
}

void ElasticAgent::obey_signals() {
  while (const int signal = ended_ ? 0 : signals_.take()) {
    if (outcome_.stop_signal != 0) {
      outcome_.status = "stopped";
      ended_ = true;
      return;
    }
    outcome_.stop_signal = signal;
    display_.warning(concat(may_leave_ ? "leaving the job at its next change of ranks ("
                                       : "stopping after the step in progress (",
                            ::sigdescr_np(signal), "); once more kills the ranks at once"));
    control::FromAgent message;
    if (may_leave_)
      message.mutable_leave();
    else
      message.mutable_stop();
    link_.say(std::move(message));
  }
}

void ElasticAgent::end_loiterers() {
  for (auto& [id, worker] : workers_) {
    if (!worker.closed_at || clock_.now() < *worker.closed_at + leave_limit) continue;
    worker.closed_at.reset();
    display_.warning(concat(name_of(worker), worker.last.empty()
                                                 ? " closed its socket but did not exit, and was killed"
                                                 : " had finished but did not exit, and was killed"));
    worker.process.kill();
  }
}

void ElasticAgent::beat() {
  if (clock_.now() - beat_at_ < beat_interval) return;
  beat_at_ = clock_.now();
  control::FromAgent message;
  control::Heartbeat& heartbeat = *message.mutable_heartbeat();
  for (auto& [id, worker] : workers_) {
    if (std::exchange(worker.heartbeat_is_told, true)) continue;
    control::WorkerSaid& said = *heartbeat.add_workers();
    said.set_worker(id);
    said.set_message(worker.heartbeat);
  }
  link_.mention(message);
}

// ---- what the coordinator says ----------------------------------------------------------------------

control::Register ElasticAgent::introduce() const {
  control::Register self;
  self.set_version(control::version);
  self.set_program_version(PACELINE_VERSION);
  self.set_host(team_.listener->host);
  self.set_port(team_.listener->port);
  for (const std::string& node : team_.slots) self.add_slots(node);
  self.set_places_with_cores(std::ssize(team_.places));
  for (const std::string& gpu : team_.gpus) self.add_gpus(gpu);
  const bool leaves = may_leave_ || orphaned_;
  self.set_stop(outcome_.stop_signal != 0 && !leaves);
  self.set_leave(outcome_.stop_signal != 0 && leaves);
  for (const auto& [id, worker] : workers_) *self.add_workers() = report_of(id, worker);
  for (const control::WorkerReport& report : finished_) *self.add_workers() = report;
  for (const control::StartWorker& order : to_start_) {
    control::WorkerReport& report = *self.add_workers();
    report.set_worker(order.worker());
    report.set_slot(order.slot());
  }
  return self;
}

control::WorkerReport ElasticAgent::report_of(std::int64_t id, const Worker& worker) const {
  control::WorkerReport report;
  report.set_worker(id);
  report.set_pid(worker.process.pid());
  report.set_slot(static_cast<std::int64_t>(worker.slot));
  report.set_told_generation(worker.told_since);
  report.set_told_stop(worker.told_stop);
  report.set_dismissed(worker.dismissed);
  report.set_ended(!worker.ended_because.empty());
  const auto add = [&](const std::string& message) {
    if (message.empty()) return;
    report.add_said()->set_worker(id);
    report.mutable_said()->rbegin()->set_message(message);
  };
  add(worker.heartbeat);
  add(worker.ready);
  add(worker.standing);
  for (const auto& [last_step, message] : worker.steps) add(message);
  add(worker.eval);
  add(worker.last);
  return report;
}

void ElasticAgent::obey(const control::ToAgent& message) {
  switch (message.what_case()) {
    case control::ToAgent::kRegistered:
      consumed_key_ = message.registered().consumed_key();
      if (message.registered().again()) return;
      display_.warning("the coordinator had given this agent up; its workers are ended");
      return forget_all_workers();
    case control::ToAgent::kStart: return start(message.start());
    case control::ToAgent::kTell: return tell(message.tell());
    case control::ToAgent::kEnd: return end_with(message.end().worker(), message.end().why());
    case control::ToAgent::kAcknowledge: return acknowledge(message.acknowledge().step());
    case control::ToAgent::kNotice:
      if (message.notice().warning()) return display_.warning(message.notice().text());
      return display_.line(message.notice().text());
    case control::ToAgent::kShow:
      if (const auto progress = decoded<ProgressMessage>(message.show())) {
        outcome_.progress = *progress;
        abandoned_at_ = clock_.now();  // by whom ever
        display_.progress(*progress, clock_.now());
        if (progress->step > 0 && hooks_.on_first_step) std::exchange(hooks_.on_first_step, nullptr)();
      } else if (const auto eval = decoded<EvalMessage>(message.show())) {
        outcome_.eval = *eval;
        display_.eval(*eval);
      }
      return;
    case control::ToAgent::kEnded: return finish(message.ended());
    case control::ToAgent::kReleased:
      outcome_.status = "completed";
      ended_ = true;
      return;
    case control::ToAgent::kHeartbeat:
    case control::ToAgent::WHAT_NOT_SET: return;
  }
}

bool ElasticAgent::gpu_is_held(std::size_t slot) const {
  return slot < team_.gpus.size() &&
         std::ranges::any_of(workers_, [&](const auto& each) { return each.second.slot == slot; });
}

/// The process that held the GPU may be gone now.
void ElasticAgent::start_those_who_wait() {
  for (std::size_t i = 0; i < to_start_.size();) {
    if (gpu_is_held(static_cast<std::size_t>(to_start_[i].slot()))) {
      ++i;
      continue;
    }
    const control::StartWorker order = to_start_[i];
    to_start_.erase(to_start_.begin() + static_cast<std::ptrdiff_t>(i));
    start(order);
  }
}

void ElasticAgent::start(const control::StartWorker& order) {
  if (gpu_is_held(static_cast<std::size_t>(order.slot()))) {
    to_start_.push_back(order);
    return;
  }
  Result<Worker> worker = start_worker(order.worker(), static_cast<std::size_t>(order.slot()));
  control::FromAgent message;
  if (worker.ok()) {
    message.mutable_started()->set_worker(order.worker());
    message.mutable_started()->set_pid(worker->process.pid());
    workers_.emplace(order.worker(), std::move(*worker));
  } else {
    message.mutable_gone()->set_worker(order.worker());
    message.mutable_gone()->set_how(concat("could not be started: ", worker.error().message));
    message.mutable_gone()->set_expected(true);
  }
  link_.say(std::move(message));
}

Result<ElasticAgent::Worker> ElasticAgent::start_worker(std::int64_t id, std::size_t slot) {
  WorkerSpec spec;
  spec.start.action = request_.action;
  spec.start.job = request_.job;
  spec.start.run_dir = request_.run_dir;
  spec.start.worker = id;
  spec.start.secret = team_.secret;
  spec.start.has_listener = true;
  spec.start.consumed_key = consumed_key_;
  // Beyond those that were allocated a worker has no cores of its own.
  const RankPlace place = slot < team_.places.size() ? team_.places[slot] : RankPlace{};
  spec.start.threads = place.threads;
  spec.cpus = place.cpus;
  if (slot < team_.gpus.size()) spec.gpu = team_.gpus[slot];
  spec.program = request_.worker_program;
  spec.log_path = worker_log_path(request_.run_dir, id);
  merged_log_.begin();
  spec.merged_log = &merged_log_;
  // All share it: whoever is rank 0 accepts the others there.
  spec.listener_fd = team_.listener->fd.get();
  PACELINE_ASSIGN(WorkerProcess process, WorkerProcess::start(spec, signals_.mask_before()));
  return Worker{.slot = slot, .rank = id, .process = std::move(process), .start = std::move(spec.start)};
}

void ElasticAgent::tell(const control::TellWorker& order) {
  const auto found = workers_.find(order.worker());
  if (found == workers_.end()) return;
  auto& [id, worker] = *found;
  const Result<WorkerMessage> message = decode(order.message());
  if (!message.ok())
    return log(LogLevel::error, "the coordinator sent what is no message: ", message.error().message);
  if (const auto* form = std::get_if<FormMessage>(&*message)) {
    // A successor may say again what its predecessor had said.
    if (form->generation <= worker.told_generation) return;
    worker.told_generation = worker.told_since = form->generation;
    if (form->rank >= 0) {
      worker.rank = form->rank;
      worker.process.set_rank(form->rank);
    }
  }
  worker.told_stop = worker.told_stop || std::holds_alternative<StopMessage>(*message);
  worker.dismissed = worker.dismissed || std::holds_alternative<DismissMessage>(*message);
  worker.expected_to_go = worker.expected_to_go || worker.dismissed;
  const Status sent = worker.process.send(*message);
  // One that is gone is noticed by its process. One that does not read is of no use.
  if (!sent.ok() && sent.error().code != ErrorCode::peer_lost)
    distrust(id, concat("could not be told what to do: ", sent.error().message));
}

void ElasticAgent::end_with(std::int64_t id, const std::string& why) {
  const auto waiting = std::ranges::find(to_start_, id, &control::StartWorker::worker);
  if (waiting != to_start_.end()) {
    to_start_.erase(waiting);
    control::FromAgent message;
    message.mutable_gone()->set_worker(id);
    message.mutable_gone()->set_how(concat("was never started: ", why));
    message.mutable_gone()->set_expected(true);
    return link_.say(std::move(message));
  }
  const auto found = workers_.find(id);
  if (found == workers_.end()) return;
  Worker& worker = found->second;
  if (worker.ended_because.empty()) worker.ended_because = why;
  worker.expected_to_go = true;
  worker.process.kill();
}

void ElasticAgent::distrust(std::int64_t id, const std::string& why) {
  display_.warning(concat(name_of(workers_.at(id)), " ", why, "; it is killed"));
  end_with(id, why);
}

/// What the journal has, need not be kept.
void ElasticAgent::acknowledge(std::int64_t step) {
  for (auto& [id, worker] : workers_) {
    while (!worker.steps.empty() && worker.steps.front().first <= step) worker.steps.pop_front();
    if (worker.greeted) [[maybe_unused]]
      const Status ignored = worker.process.send(AckMessage{step});
  }
}

void ElasticAgent::finish(const control::JobEnded& ended) {
  ended_ = true;
  outcome_.is_known = true;
  outcome_.status = ended.status();
  outcome_.generation = ended.generation();
  if (ended.ranks() > 0) outcome_.ranks = ended.ranks();
  outcome_.repairs = ended.repairs();
  outcome_.resizes = ended.resizes();
  outcome_.finished = decoded<FinishedMessage>(ended.finished());
  outcome_.eval = decoded<EvalMessage>(ended.eval());
  outcome_.progress = decoded<ProgressMessage>(ended.progress());
  if (!ended.warning().empty()) display_.warning(ended.warning());
  if (!ended.has_failure()) return;
  const control::Failure& failure = ended.failure();
  outcome_.failure = FailureReport{.rank = failure.rank(),
                                   .node = failure.node(),
                                   .sentence = failure.sentence(),
                                   .last_words = {failure.last_words().begin(), failure.last_words().end()},
                                   .explained = failure.explained(),
                                   .worker = failure.worker()};
}

// ---- what workers say -------------------------------------------------------------------------------

void ElasticAgent::receive(std::int64_t id) {
  Worker& worker = workers_.at(id);
  const Status heard = worker.process.receive([&](const WorkerMessage& message) { handle(id, message); });
  if (heard.ok()) return;
  if (heard.error().code == ErrorCode::peer_lost)
    worker.closed_at = clock_.now();
  else
    distrust(id, concat("does not speak as a worker should: ", heard.error().message));
}

void ElasticAgent::handle(std::int64_t id, const WorkerMessage& message) {
  Worker& worker = workers_.at(id);
  const bool is_hello = std::holds_alternative<HelloMessage>(message);
  if (is_hello == worker.greeted)
    return distrust(id, is_hello ? "said hello twice" : "spoke before it said hello");
  if (is_hello) {
    worker.greeted = true;
    const Status sent = worker.process.send(worker.start);
    if (!sent.ok() && sent.error().code != ErrorCode::peer_lost)
      distrust(id, concat("could not be told what to do: ", sent.error().message));
    return;
  }
  control::FromAgent report;
  control::WorkerSaid& said = *report.mutable_said();
  said.set_worker(id);
  said.set_message(encode(message));
  if (std::holds_alternative<ReadyMessage>(message)) {
    worker.ready = said.message();
  } else if (std::holds_alternative<HeartbeatMessage>(message)) {
    worker.heartbeat = said.message();
    worker.heartbeat_is_told = false;
    return;
  } else if (std::holds_alternative<EnteredMessage>(message)) {
    worker.standing = said.message();
  } else if (std::holds_alternative<LeftMessage>(message)) {
    worker.standing = said.message();
    worker.told_since = 0;
  } else if (const auto* steps = std::get_if<StepsMessage>(&message)) {
    if (!steps->steps.empty()) worker.steps.emplace_back(steps->steps.back().step, said.message());
  } else if (std::holds_alternative<EvalMessage>(message)) {
    worker.eval = said.message();
  } else if (std::holds_alternative<FinishedMessage>(message) ||
             std::holds_alternative<FailedMessage>(message)) {
    worker.last = said.message();
    worker.closed_at = clock_.now();
    worker.finished = std::holds_alternative<FinishedMessage>(message);
    worker.expected_to_go = worker.expected_to_go || worker.finished;
    worker.process.copy_output();
    const auto& words = worker.process.output().last_words();
    said.mutable_last_words()->Assign(words.begin(), words.end());
  } else if (std::holds_alternative<ProgressMessage>(message)) {
    return link_.mention(report);
  } else if (!std::holds_alternative<UnpreparedMessage>(message) &&
             !std::holds_alternative<SharesMessage>(message) &&
             !std::holds_alternative<CheckpointMessage>(message)) {
    return distrust(id, "does not speak as a worker should: it sent what only an agent sends");
  }
  link_.say(std::move(report));
}

void ElasticAgent::reap(std::int64_t id) {
  // All of its last words: there will be no more of them.
  for (int i = 0; i < most_last_receipts && workers_.at(id).process.channel_fd() >= 0; ++i) receive(id);
  Worker& worker = workers_.at(id);
  worker.process.copy_output();
  const std::optional<int> status = worker.process.reap();
  if (!status) return;
  control::FromAgent message;
  control::WorkerGone& gone = *message.mutable_gone();
  gone.set_worker(id);
  gone.set_pid(worker.process.pid());
  gone.set_how(worker.ended_because.empty() ? describe_end(*status)
                                            : concat(worker.ended_because, ", and was killed"));
  gone.set_expected(worker.expected_to_go || (WIFEXITED(*status) && WEXITSTATUS(*status) == 0));
  const auto& words = worker.process.output().last_words();
  gone.mutable_last_words()->Assign(words.begin(), words.end());
  if (worker.finished) {
    finished_.push_back(report_of(id, worker));
    finished_.back().set_gone(true);
  }
  workers_.erase(id);
  link_.say(std::move(message));
}

std::string ElasticAgent::name_of(const Worker& worker) const {
  return concat("rank ", worker.rank, " on node ", team_.slots[worker.slot % team_.slots.size()], " (pid ",
                worker.process.pid(), ")");
}

}  // namespace paceline
