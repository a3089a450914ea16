#include "elastic.hpp"

#include <poll.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstring>

#include "generation_file.hpp"
#include "paceline/base/text.hpp"
#include "summary.hpp"

namespace paceline {
namespace {

// Nothing hangs on it; a loop that looks up now and then is easier to trust.
constexpr Duration longest_sleep = std::chrono::milliseconds(500);
constexpr Duration acknowledge_interval = std::chrono::milliseconds(500);
// From a worker's last message, or its socket's end, to its exit.
constexpr Duration leave_limit = std::chrono::seconds(10);
constexpr Duration reap_limit = std::chrono::seconds(5);

CoordinatorOptions coordinator_options(const LaunchRequest& request) {
  CoordinatorOptions options;
  options.wish = request.ranks;
  options.max_ranks = std::max(request.ranks, request.job.ranks.max);
  options.min_ranks = std::min(request.ranks, request.job.ranks.min);
  options.term = request.position.term;
  options.base_step = request.position.base_step;
  options.last_generation = request.position.last_generation;
  options.last_worker = request.position.last_worker;
  return options;
}

}  // namespace

ElasticJob::ElasticJob(const LaunchRequest& request, const Team& team, RunRecord& record,
                       StopSignals& signals, Display& display)
    : request_(request),
      team_(team),
      record_(record),
      signals_(signals),
      display_(display),
      coordinator_(coordinator_options(request)),
      keeper_(request.run_dir, request.job, record,
              [&display](const std::string& sentence) { display.warning(sentence); }) {
}

ElasticJob::~ElasticJob() {
  for (auto& [id, worker] : workers_) worker.process.kill();
  const Deadline deadline(clock_, reap_limit);
  for (auto& [id, worker] : workers_) worker.process.await_end(deadline);
}

Outcome ElasticJob::run() {
  carry_out(coordinator_.begin(clock_.now()));
  while (!ended_) {
    poll_once();
    obey_signals();
    acknowledge_steps();
    end_loiterers();
    if (const auto wake = coordinator_.wake(); !ended_ && wake && clock_.now() >= *wake) feed(Tick{});
  }
  keeper_.on_end();
  outcome_.repairs = coordinator_.repairs();
  outcome_.resizes = coordinator_.resizes();
  if (coordinator_.generation() != nullptr) outcome_.generation = coordinator_.generation()->generation;
  return outcome_;
}

void ElasticJob::poll_once() {
  std::vector<pollfd> entries = {{signals_.fd(), POLLIN, 0}};
  std::vector<WorkerId> ids;
  for (const auto& [id, worker] : workers_) {
    ids.push_back(id);
    entries.push_back({worker.process.pid_fd(), POLLIN, 0});
    entries.push_back({worker.process.channel_fd(), POLLIN, 0});
    entries.push_back({worker.process.output_fd(), POLLIN, 0});
  }
  const std::optional<Instant> wake = coordinator_.wake();
  const Duration left = wake ? std::min<Duration>(*wake - clock_.now(), longest_sleep) : longest_sleep;
  const Deadline deadline(clock_, std::max(left, Duration::zero()));
  if (::poll(entries.data(), entries.size(), deadline.left_ms()) <= 0) return;
  for (std::size_t i = 0; i < ids.size() && !ended_; ++i) {
    const pollfd* entry = &entries[1 + 3 * i];
    if (entry[2].revents != 0) workers_.at(ids[i]).process.copy_output();
    if (entry[1].revents != 0) receive(ids[i]);
    if (entry[0].revents != 0 && !ended_) reap(ids[i]);
  }
}

void ElasticJob::obey_signals() {
  while (const int signal = ended_ ? 0 : signals_.take()) {
    if (outcome_.stop_signal != 0) {
      outcome_.status = "stopped";
      outcome_.failure.reset();
      ended_ = true;
      return;
    }
    outcome_.stop_signal = signal;
    display_.warning(concat("stopping after the step in progress (", ::sigdescr_np(signal),
                            "); once more kills the ranks at once"));
    feed(StopWanted{});
  }
}

/// What the journal has, workers need not keep.
void ElasticJob::acknowledge_steps() {
  const Instant now = clock_.now();
  if (now - acknowledged_at_ < acknowledge_interval) return;
  acknowledged_at_ = now;
  write_down(record_.flush());
  if (acknowledged_ == record_.steps()) return;
  acknowledged_ = record_.steps();
  for (const auto& [id, worker] : workers_) tell(id, AckMessage{acknowledged_});
}

void ElasticJob::end_loiterers() {
  for (auto& [id, worker] : workers_) {
    if (!worker.closed_at || clock_.now() < *worker.closed_at + leave_limit) continue;
    worker.closed_at.reset();
    display_.warning(
        concat(name_of(id, worker), worker.finished ? " had finished but did not exit, and was killed"
                                                    : " closed its socket but did not exit, and was killed"));
    worker.process.kill();
  }
}

// ---- what workers say -------------------------------------------------------------------------------

void ElasticJob::receive(WorkerId id) {
  Worker& worker = workers_.at(id);
  const Status heard = worker.process.receive([&](const WorkerMessage& message) {
    if (!ended_) handle(id, message);
  });
  if (heard.ok() || ended_) return;
  if (heard.error().code == ErrorCode::peer_lost)
    worker.closed_at = clock_.now();
  else
    distrust(id, concat("does not speak as a worker should: ", heard.error().message));
}

void ElasticJob::handle(WorkerId id, const WorkerMessage& message) {
  Worker& worker = workers_.at(id);
  const bool is_hello = std::holds_alternative<HelloMessage>(message);
  if (is_hello == worker.greeted)
    return distrust(id, is_hello ? "said hello twice" : "spoke before it said hello");
  if (is_hello) {
    worker.greeted = true;
    return tell(id, worker.start);
  }
  if (std::holds_alternative<ReadyMessage>(message)) {
    feed(WorkerReady{{id, node_of(worker.slot), team_.listener->host, team_.listener->port}});
  } else if (const auto* entered = std::get_if<EnteredMessage>(&message)) {
    feed(WorkerEntered{id, entered->generation});
  } else if (const auto* unprepared = std::get_if<UnpreparedMessage>(&message)) {
    feed(PreparationFailed{id, unprepared->generation, unprepared->message});
  } else if (const auto* left = std::get_if<LeftMessage>(&message)) {
    feed(WorkerLeft{id, left->generation, {left->applied, left->reduced, left->complete}, left->message});
  } else if (const auto* steps = std::get_if<StepsMessage>(&message)) {
    write_down(record_.add(*steps));
    feed(StepsCommitted{record_.steps()});
  } else if (const auto* progress = std::get_if<ProgressMessage>(&message)) {
    outcome_.progress = *progress;
    display_.progress(*progress, clock_.now());
  } else if (const auto* eval = std::get_if<EvalMessage>(&message)) {
    const bool known = outcome_.eval && outcome_.eval->epoch >= eval->epoch;
    write_down(record_.add(*eval));
    if (!known) display_.eval(*eval);
    outcome_.eval = *eval;
  } else if (const auto* part = std::get_if<CheckpointMessage>(&message)) {
    write_down(keeper_.on_part(id, *part));
  } else if (const auto* finished = std::get_if<FinishedMessage>(&message)) {
    worker.finished = *finished;
    worker.closed_at = clock_.now();
    if (!finished_rank_ || rank_of(id) < *finished_rank_) {
      finished_rank_ = rank_of(id);
      outcome_.finished = *finished;
    }
    feed(WorkerFinished{id});
  } else if (const auto* failed = std::get_if<FailedMessage>(&message)) {
    worker.closed_at = clock_.now();
    feed(WorkerFailed{id, failed->message});
  } else {
    distrust(id, "does not speak as a worker should: it sent what only an agent sends");
  }
}

void ElasticJob::distrust(WorkerId id, const std::string& why) {
  display_.warning(concat(name_of(id, workers_.at(id)), " ", why, "; it is killed"));
  end_with(id, why);
}

/// Its process tells the coordinator when it is gone.
void ElasticJob::end_with(WorkerId id, const std::string& why) {
  Worker& worker = workers_.at(id);
  if (worker.ended_because.empty()) worker.ended_because = why;
  worker.process.kill();
}

void ElasticJob::reap(WorkerId id) {
  receive(id);
  if (ended_) return;
  Worker& worker = workers_.at(id);
  worker.process.copy_output();
  const std::optional<int> status = worker.process.reap();
  if (!status) return;
  const std::string how =
      worker.ended_because.empty() ? describe_end(*status) : concat(worker.ended_because, ", and was killed");
  const std::string named =
      concat("(pid ", worker.process.pid(), " on node ", node_of(worker.slot), ") ", how);
  const bool expected = worker.finished.has_value() || (WIFEXITED(*status) && WEXITSTATUS(*status) == 0) ||
                        !worker.ended_because.empty();
  if (!expected) {
    const FailureReport report{.rank = rank_of(id),
                               .node = node_of(worker.slot),
                               .sentence = concat(name_of(id, worker), " ", how, where_in_job()),
                               .last_words = worker.process.output().last_words()};
    outcome_.failure = report;  // should it be the end of the job
    display_.warning(failure_text(report, log_of(id)));
  }
  workers_.erase(id);
  keeper_.on_lost(id);
  feed(WorkerLost{id, named});
}

void ElasticJob::write_down(const Status& written) {
  if (!written.ok()) fail(written.error().message);
}

/// Something of this agent's own that the job cannot go on without.
void ElasticJob::fail(const std::string& why) {
  if (ended_) return;
  outcome_.status = "failed";
  outcome_.failure = FailureReport{.sentence = why};
  ended_ = true;
}

// ---- what the coordinator wants ---------------------------------------------------------------------

void ElasticJob::feed(const CoordinatorEvent& event) {
  carry_out(coordinator_.on(event, clock_.now()));
}

void ElasticJob::carry_out(CoordinatorEffects effects) {
  while (!effects.empty()) {
    for (const CoordinatorEffect& effect : effects)
      if (!ended_) std::visit([this](const auto& one) { carry_out(one); }, effect);
    effects.clear();
    // What could be done, or not, is news to the coordinator.
    for (const CoordinatorEvent& event : std::exchange(events_, {}))
      for (CoordinatorEffect& effect : coordinator_.on(event, clock_.now()))
        effects.push_back(std::move(effect));
  }
}

void ElasticJob::carry_out(const StartWorker& effect) {
  Result<Worker> worker = start_worker(effect.worker);
  if (worker.ok())
    workers_.emplace(effect.worker, std::move(*worker));
  else
    events_.emplace_back(WorkerLost{effect.worker, concat("could not be started: ", worker.error().message)});
}

Result<ElasticJob::Worker> ElasticJob::start_worker(WorkerId id) {
  const std::size_t slot = free_slot();
  WorkerSpec spec;
  spec.start.action = request_.action;
  spec.start.job = request_.job;
  spec.start.run_dir = request_.run_dir;
  spec.start.worker = id;
  spec.start.secret = team_.secret;
  spec.start.has_listener = true;
  spec.start.consumed_key = request_.consumed_key;
  // Beyond those that were allocated a worker has no cores of its own.
  const RankPlace place = slot < team_.places.size() ? team_.places[slot] : RankPlace{};
  spec.start.threads = place.threads;
  spec.cpus = place.cpus;
  spec.program = request_.worker_program;
  spec.log_path = log_of(id);
  // All share it: whoever is rank 0 accepts the others there.
  spec.listener_fd = team_.listener->fd.get();
  PACELINE_ASSIGN(WorkerProcess process, WorkerProcess::start(spec, signals_.mask_before()));
  return Worker{slot, std::move(process), std::move(spec.start)};
}

std::size_t ElasticJob::free_slot() const {
  std::size_t slot = 0;
  while (std::ranges::any_of(workers_, [slot](const auto& each) { return each.second.slot == slot; })) ++slot;
  return slot;
}

const std::string& ElasticJob::node_of(std::size_t slot) const {
  return team_.members[slot % team_.members.size()].node;
}

void ElasticJob::carry_out(const RecordGeneration& effect) {
  events_.emplace_back(write_generation(request_.run_dir, *effect.record));
}

void ElasticJob::tell(WorkerId id, const WorkerMessage& message) {
  const auto found = workers_.find(id);
  if (found == workers_.end() || !found->second.greeted) return;
  const Status sent = found->second.process.send(message);
  // One that is gone is noticed by its process. One that does not read is of no use.
  if (!sent.ok() && sent.error().code != ErrorCode::peer_lost)
    distrust(id, concat("could not be told what to do: ", sent.error().message));
}

void ElasticJob::tell_form(WorkerId id, const Generation& record, bool background) {
  FormMessage form;
  form.generation = record->generation;
  form.term = record->term;
  form.rank = -1;
  form.base_step = record->base_step;
  form.donors = static_cast<std::int64_t>(record->donors.size());
  form.background = background;
  if (record->donors.empty()) form.checkpoint = request_.position.checkpoint;
  for (std::size_t rank = 0; rank < record->members.size(); ++rank) {
    const GenerationMember& member = record->members[rank];
    if (member.worker == id) form.rank = static_cast<std::int64_t>(rank);
    form.members.push_back({member.node, member.host, member.port});
  }
  tell(id, form);
}

void ElasticJob::carry_out(const FormGeneration& effect) {
  tell_form(effect.worker, effect.record, false);
}
void ElasticJob::carry_out(const PrepareGeneration& effect) {
  tell_form(effect.worker, effect.record, true);
}
void ElasticJob::carry_out(const AbandonGeneration& effect) {
  tell(effect.worker, AbandonMessage{effect.generation});
}
void ElasticJob::carry_out(const LeaveGeneration& effect) {
  tell(effect.worker, LeaveMessage{effect.generation});
}
void ElasticJob::carry_out(const StopTraining& effect) {
  tell(effect.worker, StopMessage{});
}
void ElasticJob::carry_out(const DismissWorker& effect) {
  tell(effect.worker, DismissMessage{});
}

void ElasticJob::carry_out(const EndWorker& effect) {
  if (workers_.contains(effect.worker)) end_with(effect.worker, effect.why);
}

void ElasticJob::carry_out(const Announce& effect) {
  if (effect.kind == Announce::Kind::generation) {
    const GenerationRecord& record = *coordinator_.generation();
    keeper_.on_generation(record);
    write_down(record_.add(JournalGeneration{record.generation, record.term, record.base_step,
                                             static_cast<std::int64_t>(record.members.size()), record.planned,
                                             record.reason}));
    if (record.generation > request_.position.last_generation + 1) display_.line(effect.text);
  } else if (effect.kind == Announce::Kind::warning) {
    display_.warning(effect.text);
  } else if (effect.kind == Announce::Kind::resize) {
    display_.line(effect.text);
  }
}

void ElasticJob::carry_out(const EndJob& effect) {
  ended_ = true;
  outcome_.status = effect.status;
  if (effect.status != "failed") {
    outcome_.failure.reset();
    if (!effect.why.empty()) display_.warning(concat(effect.why, ", and were killed"));
    return;
  }
  const auto found = effect.by ? workers_.find(*effect.by) : workers_.end();
  if (found != workers_.end())
    outcome_.failure = FailureReport{
        .rank = rank_of(found->first),
        .node = node_of(found->second.slot),
        .sentence = concat(name_of(found->first, found->second), " failed", where_in_job(), ": ", effect.why),
        .last_words = found->second.process.output().last_words(),
        .explained = true};
  else
    outcome_.failure = FailureReport{.sentence = effect.why};
}

// ---- names ------------------------------------------------------------------------------------------

std::int64_t ElasticJob::rank_of(WorkerId id) const {
  const Generation& generation = coordinator_.generation();
  if (generation == nullptr) return id;
  const auto member = std::ranges::find(generation->members, id, &GenerationMember::worker);
  return member == generation->members.end() ? id : member - generation->members.begin();
}

std::string ElasticJob::name_of(WorkerId id, const Worker& worker) const {
  return concat("rank ", rank_of(id), " on node ", node_of(worker.slot), " (pid ", worker.process.pid(), ")");
}

std::string ElasticJob::log_of(WorkerId id) const {
  return log_path(request_, id);
}

std::string ElasticJob::where_in_job() const {
  return describe_place(outcome_.progress);
}

}  // namespace paceline
