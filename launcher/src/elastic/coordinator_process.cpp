#include "elastic/coordinator_process.hpp"

#include <poll.h>
#include <unistd.h>

#include <algorithm>

#include "elastic/heartbeat.hpp"
#include "generation_file.hpp"
#include "launch.hpp"
#include "paceline/base/log.hpp"
#include "paceline/base/text.hpp"
#include "paceline/control/address.hpp"
#include "paceline/control/version.hpp"
#include "paceline/data/dataset.hpp"
#include "resume.hpp"
#include "summary.hpp"

namespace paceline {
namespace {

constexpr Duration longest_sleep = std::chrono::milliseconds(100);
constexpr Duration longest_turn = std::chrono::milliseconds(50);
constexpr Duration beat_interval = std::chrono::milliseconds(200);
constexpr Duration acknowledge_interval = std::chrono::milliseconds(500);
// From an agent's last message to giving it and its workers up. It beats ten times a second.
constexpr Duration agent_silence = std::chrono::seconds(5);
// How long the agents of the launch are waited for, when it begins and when they need only look for a
// successor.
constexpr Duration gather_limit = std::chrono::seconds(60);
constexpr Duration gather_again_limit = std::chrono::seconds(5);
// Without any agent for so long there is no job any more.
constexpr Duration alone_limit = std::chrono::seconds(30);
constexpr Duration look_interval = std::chrono::seconds(1);
// A turn of the loop takes a small part of this.
constexpr Duration own_pause = std::chrono::seconds(1);
constexpr Duration part_limit = std::chrono::seconds(5);

Result<std::string> listening_host(const LaunchFacts& facts) {
  if (!facts.host.empty()) return facts.host;
  return outside_address(environment("PACELINE_INTERFACE"));
}

CoordinatorOptions coordinator_options(const LaunchFacts& facts, std::int64_t term) {
  CoordinatorOptions options;
  options.term = term;
  options.wish = facts.ranks;
  options.min_ranks = facts.min_ranks;
  options.max_ranks = facts.max_ranks;
  options.last_generation = facts.position.last_generation;
  return options;
}

/// Of the run's consumed hashes: the one that its journals have, or a new one.
struct JournalKey {
  std::uint64_t key = 0;
  bool begun = false;  ///< this launch has a journal: another coordinator had begun
};

Result<JournalKey> journal_key(const std::string& run_dir, const RunPosition& position, const Job& job,
                               const DatasetInfo& dataset) {
  const Result<Journal> journal = read_lineage(run_dir);
  if (!journal.ok() && journal.error().code != ErrorCode::not_found) return journal.error();
  if (journal.ok()) {
    const bool begun = journal->header.term >= position.term;
    if (begun && journal->end)
      return Error{ErrorCode::aborted, concat("the job has ended: ", journal->end->status)};
    return JournalKey{journal->header.key, begun};
  }
  PACELINE_ASSIGN(const JournalHeader header, new_journal_header(job, run_dir, dataset));
  return JournalKey{header.key, false};
}

}  // namespace

Status CoordinatorProcess::run(const Options& given) {
  Options options = given;
  PACELINE_ASSIGN(const LaunchFacts facts, read_launch_facts(options.run_dir));
  PACELINE_ASSIGN(const std::string job_text, read_file(options.run_dir + "/job.json"));
  PACELINE_ASSIGN(Job job, job_from_json(job_text));
  PACELINE_ASSIGN(const control::Credentials credentials, control::read_credentials(options.run_dir));
  PACELINE_ASSIGN(const Dataset dataset, Dataset::open(job.data.train, {.window = tokens_per_sample(job)}));
  PACELINE_ASSIGN(const JournalKey key, journal_key(options.run_dir, facts.position, job, dataset.info()));
  options.succeeds = key.begun;
  PACELINE_ASSIGN(options.host, listening_host(facts));
  PACELINE_ASSIGN(auto server,
                  control::Server::start({options.host, facts.ports.first, facts.ports.last}, credentials));
  PACELINE_TRY(control::take_term(options.run_dir, {.term = options.term,
                                                    .pid = ::getpid(),
                                                    .node = options.node,
                                                    .host = options.host,
                                                    .port = server->port()}));
  const StepPlan plan(dataset.info().samples, job.batch.global, job.epochs, job.steps);
  CoordinatorProcess process(options, facts, std::move(job), std::move(server), key.key, plan);
  process.dataset_ = dataset.info();
  return process.loop();
}

CoordinatorProcess::CoordinatorProcess(Options options, LaunchFacts facts, Job job,
                                       std::unique_ptr<control::Server> server, std::uint64_t key,
                                       const StepPlan& plan)
    : options_(std::move(options)),
      facts_(std::move(facts)),
      job_(std::move(job)),
      server_(std::move(server)),
      key_(key),
      plan_(plan),
      began_at_(clock_.now()) {
}

/// A new run's, that of a run which goes on from where it is resumed, or that of a job which goes on.
Status CoordinatorProcess::open_record() {
  const RunPosition& position = facts_.position;
  const bool continues = options_.succeeds || position.term > 1;
  if (continues) {
    PACELINE_ASSIGN(record_, RunRecord::succeed(options_.run_dir, clock_, options_.term,
                                                options_.succeeds ? std::optional<std::int64_t>()
                                                                  : std::optional(position.base_step),
                                                plan_));
  } else {
    PACELINE_ASSIGN(JournalHeader header, new_journal_header(job_, options_.run_dir, dataset_));
    header.key = key_;
    header.term = options_.term;
    PACELINE_ASSIGN(record_, RunRecord::create(options_.run_dir, clock_, header, plan_));
  }
  keeper_.emplace(options_.run_dir, job_, *record_, [this](const std::string& text) { notice(true, text); });
  return {};
}

Status CoordinatorProcess::loop() {
  while (!ended_) {
    poll_once();
    begin_turn();
    look_for_newer();
    if (ended_) break;
    begin_when_all_are_there();
    drop_silent_agents();
    beat();
    acknowledge_steps();
    note_attending();
    if (!coordinator_ || ended_) continue;
    if (const auto wake = coordinator_->wake(); wake && clock_.now() >= *wake) feed(Tick{});
  }
  part();
  if (fenced_) return Error{ErrorCode::already_exists, outcome_.failure->sentence};
  return {};
}

/// The agents close their streams when they have heard how it ended.
void CoordinatorProcess::part() {
  const Deadline deadline(clock_, part_limit);
  const auto is_there = [](const auto& agent) { return agent.second.stream.has_value(); };
  while (!fenced_ && std::ranges::any_of(roster_.agents(), is_there) && !deadline.passed()) poll_once();
}

/// A process that stood still must not blame others for a silence of its own, and may have been succeeded.
void CoordinatorProcess::begin_turn() {
  const Instant before = std::exchange(turn_at_, clock_.now());
  if (before == Instant{} || turn_at_ - before < own_pause) return;
  log(LogLevel::warning, concat("this coordinator stood still for ", to_seconds(turn_at_ - before), " s"));
  for (auto& [name, agent] : roster_.agents())
    if (!std::exchange(agent.spared, true))
      agent.heard_at = std::min(agent.heard_at + (turn_at_ - before), turn_at_);
  looked_at_ = {};
}

/// Whoever has a higher term is in charge.
void CoordinatorProcess::look_for_newer() {
  if (ended_ || clock_.now() - looked_at_ < look_interval) return;
  looked_at_ = clock_.now();
  const auto newest = control::newest_coordinator(options_.run_dir);
  if (!newest.ok() || !*newest || (*newest)->term <= options_.term) return;
  ended_ = fenced_ = true;
  outcome_.failure = FailureReport{.sentence = concat("a coordinator of term ", (*newest)->term,
                                                      " has taken over from that of term ", options_.term)};
}

void CoordinatorProcess::poll_once() {
  pollfd entry{server_->fd(), POLLIN, 0};
  Duration sleep = longest_sleep;
  if (coordinator_)
    if (const auto wake = coordinator_->wake()) sleep = std::min<Duration>(sleep, *wake - clock_.now());
  if (!backlog_.empty()) sleep = Duration::zero();
  const Deadline deadline(clock_, std::max(sleep, Duration::zero()));
  ::poll(&entry, 1, deadline.left_ms());
  for (control::ServerEvent& event : server_->take()) {
    // A question need not wait for what agents said before, and whoever waits to be heard is not silent.
    if (const auto* asked = std::get_if<control::Asked>(&event)) {
      answer(asked->question, asked->request);
      continue;
    }
    if (const auto* message = std::get_if<control::Heard>(&event))
      if (Roster::Agent* const agent = roster_.of_stream(message->stream)) agent->is_heard(clock_.now());
    backlog_.push_back(std::move(event));
  }
  work_off_backlog();
}

/// For a while only: disks may be slow, and everybody must hear meanwhile that this coordinator lives.
void CoordinatorProcess::work_off_backlog() {
  const Deadline turn(clock_, longest_turn);
  while (!backlog_.empty() && !turn.passed()) {
    const control::ServerEvent event = std::move(backlog_.front());
    backlog_.pop_front();
    if (const auto* message = std::get_if<control::Heard>(&event)) {
      heard(message->stream, message->message);
    } else if (const auto* closed = std::get_if<control::Closed>(&event)) {
      if (Roster::Agent* const agent = roster_.of_stream(closed->stream)) agent->stream.reset();
    }
  }
}

// ---- agents -----------------------------------------------------------------------------------------

void CoordinatorProcess::heard(control::StreamId stream, const control::FromAgent& message) {
  if (message.term() != options_.term)
    return refuse(stream, concat("a message for term ", message.term(), " came to the coordinator of term ",
                                 options_.term));
  if (message.has_register_()) return register_agent(stream, message);
  Roster::Agent* const agent = roster_.of_stream(stream);
  if (agent == nullptr) return refuse(stream, "an agent spoke before it registered");
  agent->is_heard(clock_.now());
  using Verdict = Roster::Session::Verdict;
  const Verdict verdict = agent->session.hear(message);
  if (verdict == Verdict::known || ended_) return;
  if (verdict == Verdict::gap) return server_->close(stream);  // it says again what has not come
  const std::string name = roster_.name_of(stream);
  switch (message.what_case()) {
    case control::FromAgent::kHeartbeat: return hear_heartbeats(name, message.heartbeat());
    case control::FromAgent::kStarted: return started(name, message.started());
    case control::FromAgent::kSaid: return said(name, message.said());
    case control::FromAgent::kGone: return gone(name, message.gone());
    case control::FromAgent::kStop: return feed(StopWanted{});
    case control::FromAgent::kLeave:
      if (message.leave().orphaned() && !has_launcher()) return feed(StopWanted{});
      return let_go(name);
    case control::FromAgent::kRegister:
    case control::FromAgent::WHAT_NOT_SET: break;
  }
}

void CoordinatorProcess::refuse(control::StreamId stream, const std::string& why) {
  log(LogLevel::warning, why);
  control::ToAgent refusal;
  refusal.set_term(options_.term);
  refusal.mutable_notice()->set_warning(true);
  refusal.mutable_notice()->set_text(why);
  server_->send(stream, refusal);
  server_->close(stream);
}

void CoordinatorProcess::register_agent(control::StreamId stream, const control::FromAgent& message) {
  const control::Register& self = message.register_();
  if (self.version() != control::version || self.program_version() != PACELINE_VERSION)
    return refuse(
        stream, concat(self.agent(), " is of version ", self.program_version(), " (protocol ", self.version(),
                       ") and the coordinator of version ", PACELINE_VERSION, " (protocol ", control::version,
                       "): all parts of a job must be of the same build"));
  Roster::Agent* agent = roster_.find(self.agent());
  const bool again = agent != nullptr && agent->session_number == self.session();
  if (agent != nullptr && agent->stream) server_->close(*agent->stream);
  const bool known_workers = again || !options_.succeeds;
  if (!again) {
    if (agent != nullptr) drop_agent(self.agent(), "began anew");
    agent = &roster_.add(self, options_.term, clock_.now());
    attending_changed_ = true;
    log(LogLevel::info, concat(self.agent(), " registered with ", agent->slots.size(), " slots"));
  }
  agent->stream = stream;
  agent->is_heard(clock_.now());
  std::ignore = agent->session.hear(message);
  control::ToAgent welcome;
  welcome.mutable_registered()->set_consumed_key(hex_word(key_));
  welcome.mutable_registered()->set_again(again);
  server_->send(stream, agent->session.seal(welcome));
  for (const control::ToAgent& kept : agent->session.kept()) server_->send(stream, agent->session.seal(kept));
  if (again) return;
  if (!known_workers) take_reports(self.agent(), self);
  if (self.stop()) feed(StopWanted{});
  if (self.leave()) feed(DrainWanted{roster_.workers_of_agent(self.agent()), roster_.room()});
  release(self.agent());
  room_changed();
}

void CoordinatorProcess::send(Roster::Agent& agent, control::ToAgent message) {
  const control::ToAgent sealed = agent.session.keep(std::move(message));
  if (agent.stream) server_->send(*agent.stream, sealed);
}

void CoordinatorProcess::send_all(const control::ToAgent& message) {
  for (auto& [name, agent] : roster_.agents()) send(agent, message);
}

void CoordinatorProcess::drop_silent_agents() {
  const auto silence = [this](const auto& agent) { return turn_at_ - agent.second.heard_at; };
  const auto is_silent = [&](const auto& agent) { return silence(agent) >= agent_silence; };
  // Where none is heard they may all be stopped for a while, or the machine has too much to do: those whose
  // streams are there are waited for, as there is nobody whom the job could go on with.
  // Those who are stopped together fall silent together, but not to the millisecond.
  const bool some_are_heard = std::ranges::any_of(
      roster_.agents(), [&](const auto& agent) { return silence(agent) < agent_silence / 2; });
  std::vector<std::string> silent;
  for (const auto& each : roster_.agents())
    if (is_silent(each) && (some_are_heard || !each.second.stream)) silent.push_back(each.first);
  for (const std::string& name : silent)
    drop_agent(name, concat("has not been heard of for ", to_seconds(agent_silence), " s"));
  if (!roster_.agents().empty()) alone_since_ = clock_.now();
  if (alone_since_ == Instant{}) alone_since_ = clock_.now();
  if (clock_.now() - alone_since_ >= alone_limit) fail("all agents of the job are gone");
}

void CoordinatorProcess::drop_agent(const std::string& name, const std::string& why) {
  Roster::Agent* const agent = roster_.find(name);
  const std::string node = agent->slots.empty() ? "?" : agent->slots.front();
  const std::vector<WorkerId> lost = roster_.workers_of_agent(name);
  if (agent->stream) server_->close(*agent->stream);
  roster_.remove(name);
  attending_changed_ = true;
  room_changed();
  if (!ended_) notice(true, concat("the agent on node ", node, " ", why, ": its workers count as lost"));
  for (const WorkerId id : lost) {
    roster_.forget(id);
    workers_.erase(id);
    if (keeper_) keeper_->on_lost(id);
    feed(WorkerLost{id, concat("is lost with its agent on node ", node, ", which ", why)});
  }
}

/// The launcher is the first agent, or beside it.
bool CoordinatorProcess::has_launcher() {
  return std::ranges::any_of(roster_.agents(), [](const auto& each) {
    return each.second.index == 0 && each.second.stream.has_value();
  });
}

/// An agent is to go: its workers are replaced elsewhere, or done without.
void CoordinatorProcess::let_go(const std::string& name) {
  roster_.find(name)->leaves = true;
  notice(true, concat(name, " is to go: ", roster_.workers_of_agent(name).size(),
                      " workers leave at the next change of ranks"));
  feed(DrainWanted{roster_.workers_of_agent(name), roster_.room()});
  release(name);
}

void CoordinatorProcess::release(const std::string& name) {
  Roster::Agent* const agent = roster_.find(name);
  if (agent == nullptr || !agent->leaves || !roster_.workers_of_agent(name).empty()) return;
  control::ToAgent message;
  message.mutable_released();
  send(*agent, std::move(message));
}

void CoordinatorProcess::beat() {
  if (clock_.now() - beat_at_ < beat_interval) return;
  beat_at_ = clock_.now();
  control::ToAgent message;
  message.mutable_heartbeat();
  for (auto& [name, agent] : roster_.agents())
    if (agent.stream) server_->send(*agent.stream, agent.session.seal(message));
}

void CoordinatorProcess::room_changed() {
  feed(RoomChanged{roster_.room()});
}

/// Those of the launch; and where it succeeds another, those that attended to that.
bool CoordinatorProcess::are_all_there() {
  if (!options_.succeeds || facts_.attending.empty()) return std::ssize(roster_.agents()) >= facts_.agents;
  return std::ranges::all_of(facts_.attending,
                             [this](const std::string& name) { return roster_.find(name) != nullptr; });
}

/// For a successor.
void CoordinatorProcess::note_attending() {
  if (!coordinator_ || ended_ || !std::exchange(attending_changed_, false)) return;
  facts_.attending.clear();
  for (const auto& [name, agent] : roster_.agents()) facts_.attending.push_back(name);
  // Without it a successor only waits for less, or for nobody.
  if (const Status noted = write_launch_facts(options_.run_dir, facts_); !noted.ok())
    log(LogLevel::warning, noted.error().message);
}

void CoordinatorProcess::begin_when_all_are_there() {
  if (coordinator_ || ended_) return;
  const bool all = are_all_there();
  const Duration limit = options_.succeeds ? gather_again_limit : gather_limit;
  if (!all && (roster_.agents().empty() || clock_.now() - began_at_ < limit)) return;
  if (const Status begun = begin(); !begun.ok()) fail(begun.error().message);
}

Status CoordinatorProcess::begin() {
  PACELINE_TRY(open_record());
  for (const std::string& node : facts_.closed) roster_.close_node(node);
  if (options_.succeeds) {
    PACELINE_TRY(succeed());
  } else {
    CoordinatorOptions options = coordinator_options(facts_, options_.term);
    options.room = roster_.room();
    options.base_step = record_->steps();
    options.last_worker = facts_.position.last_worker;
    coordinator_.emplace(options);
    carry_out(coordinator_->begin(clock_.now()));
  }
  for (const CoordinatorEvent& event : std::exchange(events_, {})) feed(event);
  return {};
}

Status CoordinatorProcess::succeed() {
  PACELINE_ASSIGN(const std::vector<Generation> records,
                  read_generations(options_.run_dir, facts_.position.last_generation));
  for (const WorkerMessage& told : std::exchange(told_before_, {})) {
    if (const auto* steps = std::get_if<StepsMessage>(&told)) PACELINE_TRY(record_->add(*steps));
    if (const auto* eval = std::get_if<EvalMessage>(&told)) PACELINE_TRY(record_->add(*eval));
  }
  CoordinatorOptions options = coordinator_options(facts_, options_.term);
  options.room = roster_.room();
  options.base_step = record_->steps();
  options.last_worker = highest_worker(options_.run_dir);
  options.history = record_->generations_since(facts_.position.term);
  coordinator_.emplace(options);
  const std::string text =
      concat("another coordinator, of term ", options_.term, ", has taken over after step ", record_->steps(),
             ", with ", found_.size(), " workers");
  log(LogLevel::info, text);
  notice(true, concat("the coordinator was lost; ", text));
  carry_out(coordinator_->take_over(records, found_, clock_.now()));
  if (!ended_ && coordinator_->generation() != nullptr) keeper_->on_generation(*coordinator_->generation());
  return {};
}

/// Of an agent whose workers another coordinator had started.
void CoordinatorProcess::take_reports(const std::string& agent, const control::Register& message) {
  for (const control::WorkerReport& report : message.workers()) {
    if (!coordinator_) {
      roster_.place(report.worker(), {agent, report.slot()});
      workers_[report.worker()].pid = report.pid();
      found_.push_back(found_worker(agent, report));
    } else if (!report.gone()) {  // the job went on without it
      control::ToAgent order;
      order.mutable_end()->set_worker(report.worker());
      order.mutable_end()->set_why("the job had gone on without it");
      send(*roster_.find(agent), std::move(order));
    }
  }
}

FoundWorker CoordinatorProcess::found_worker(const std::string& agent, const control::WorkerReport& report) {
  const WorkerId id = report.worker();
  const Roster::Agent& place = *roster_.find(agent);
  FoundWorker found;
  found.member = {id, roster_.node_of(id), place.host, place.port};
  found.told = report.told_generation();
  found.stopping = report.told_stop();
  found.dismissed = report.dismissed();
  found.ending = report.ended();
  found.gone = report.gone();
  for (const control::WorkerSaid& said : report.said()) {
    const Result<WorkerMessage> message = decode(said.message());
    if (!message.ok()) continue;
    if (const auto* heartbeat = std::get_if<HeartbeatMessage>(&*message)) {
      workers_[id].heartbeat = *heartbeat;
      found.heartbeat = heartbeat_of(id, *heartbeat);
    } else if (std::holds_alternative<ReadyMessage>(*message)) {
      found.ready = true;
    } else if (const auto* entered = std::get_if<EnteredMessage>(&*message)) {
      found.entered = entered->generation;
    } else if (const auto* left = std::get_if<LeftMessage>(&*message)) {
      found.left =
          WorkerLeft{id, left->generation, {left->applied, left->reduced, left->complete}, left->message};
    } else if (std::holds_alternative<StepsMessage>(*message)) {
      told_before_.push_back(*message);
    } else if (const auto* eval = std::get_if<EvalMessage>(&*message)) {
      told_before_.push_back(*message);
      outcome_.eval = *eval;
    } else if (const auto* finished = std::get_if<FinishedMessage>(&*message)) {
      found.finished = true;
      note_finished(id, *finished);
    } else if (const auto* failed = std::get_if<FailedMessage>(&*message)) {
      found.failed = failed->message;
    }
  }
  if (found.ending || found.dismissed || found.finished) roster_.is_going(id);
  return found;
}

// ---- what agents say of their workers ---------------------------------------------------------------

void CoordinatorProcess::started(const std::string& agent, const control::WorkerStarted& message) {
  const WorkerPlace* const where = roster_.place_of(message.worker());
  if (where != nullptr && where->agent == agent) workers_[message.worker()].pid = message.pid();
}

void CoordinatorProcess::hear_heartbeats(const std::string& agent, const control::Heartbeat& message) {
  for (const control::WorkerSaid& said : message.workers()) {
    const WorkerPlace* const where = roster_.place_of(said.worker());
    if (where == nullptr || where->agent != agent) continue;
    const Result<WorkerMessage> heard = decode(said.message());
    const auto* heartbeat = heard.ok() ? std::get_if<HeartbeatMessage>(&*heard) : nullptr;
    if (heartbeat == nullptr) continue;
    workers_[said.worker()].heartbeat = *heartbeat;
    feed(heartbeat_of(said.worker(), *heartbeat));
  }
}

void CoordinatorProcess::said(const std::string& agent, const control::WorkerSaid& said) {
  const WorkerPlace* const where = roster_.place_of(said.worker());
  if (where == nullptr || where->agent != agent) return;  // it is gone already
  const Result<WorkerMessage> message = decode(said.message());
  if (message.ok()) return handle(said.worker(), *message, said);
  log(LogLevel::warning, concat(agent, " handed on what is no message: ", message.error().message));
  end_with(said.worker(), "does not speak as a worker should");
}

void CoordinatorProcess::handle(WorkerId id, const WorkerMessage& message, const control::WorkerSaid& said) {
  Worker& worker = workers_[id];
  if (std::holds_alternative<ReadyMessage>(message)) {
    const Roster::Agent& agent = *roster_.agent_of(id);
    feed(WorkerReady{{id, roster_.node_of(id), agent.host, agent.port}});
  } else if (const auto* entered = std::get_if<EnteredMessage>(&message)) {
    feed(WorkerEntered{id, entered->generation});
  } else if (const auto* unprepared = std::get_if<UnpreparedMessage>(&message)) {
    feed(PreparationFailed{id, unprepared->generation, unprepared->message});
  } else if (const auto* left = std::get_if<LeftMessage>(&message)) {
    feed(WorkerLeft{id, left->generation, {left->applied, left->reduced, left->complete}, left->message});
  } else if (const auto* steps = std::get_if<StepsMessage>(&message)) {
    if (!record_) return told_before_.push_back(message);
    write_down(record_->add(*steps));
    feed(StepsCommitted{record_->steps()});
  } else if (const auto* progress = std::get_if<ProgressMessage>(&message)) {
    outcome_.progress = *progress;
    show(said.message());
  } else if (const auto* shares = std::get_if<SharesMessage>(&message)) {
    note_shares(*shares);
  } else if (const auto* eval = std::get_if<EvalMessage>(&message)) {
    const bool known = outcome_.eval && outcome_.eval->epoch >= eval->epoch;
    if (record_)
      write_down(record_->add(*eval));
    else
      told_before_.push_back(message);
    if (!known) show(said.message());
    outcome_.eval = *eval;
  } else if (const auto* finished = std::get_if<FinishedMessage>(&message)) {
    roster_.is_going(id);
    note_finished(id, *finished);
    feed(WorkerFinished{id});
  } else if (const auto* part = std::get_if<CheckpointMessage>(&message)) {
    if (keeper_) write_down(keeper_->on_part(id, *part));
  } else if (const auto* failed = std::get_if<FailedMessage>(&message)) {
    worker.last_words = {said.last_words().begin(), said.last_words().end()};
    roster_.is_going(id);
    feed(WorkerFailed{id, failed->message});
  }
}

/// The ranks have agreed on it among themselves.
void CoordinatorProcess::note_shares(const SharesMessage& message) {
  if (record_)
    write_down(record_->add(
        JournalShares{message.step, message.generation, message.shares, message.gain, message.reason}));
  std::string text = concat("from step ", message.step, " the ranks get ");
  constexpr std::size_t most_named = 16;
  for (std::size_t i = 0; i < std::min(most_named, message.shares.size()); ++i)
    text += concat(i == 0 ? "" : ", ", message.shares[i]);
  if (message.shares.size() > most_named) text += ", ...";
  text += concat(" grains: ", message.reason);
  log(LogLevel::info, text);
  notice(false, text);
}

/// The lowest rank's figures are those of the job.
void CoordinatorProcess::note_finished(WorkerId id, const FinishedMessage& finished) {
  if (finished_rank_ && rank_of(id) >= *finished_rank_) return;
  finished_rank_ = rank_of(id);
  outcome_.finished = finished;
}

/// For people, at the agent that speaks to them.
void CoordinatorProcess::show(const std::string& message) {
  Roster::Agent* const head = roster_.head();
  if (head == nullptr || !head->stream) return;
  control::ToAgent shown;
  shown.set_show(message);
  server_->send(*head->stream, head->session.seal(shown));
}

void CoordinatorProcess::gone(const std::string& agent, const control::WorkerGone& message) {
  const WorkerId id = message.worker();
  const WorkerPlace* const where = roster_.place_of(id);
  if (where == nullptr || where->agent != agent) return;
  Worker& worker = workers_[id];
  if (message.pid() != 0) worker.pid = message.pid();
  const std::string node = roster_.node_of(id);
  if (!message.expected()) {
    const FailureReport report{.rank = rank_of(id),
                               .node = node,
                               .sentence = concat(name_of(id), " ", message.how(), where_in_job()),
                               .last_words = {message.last_words().begin(), message.last_words().end()}};
    notice(true, failure_text(report, worker_log_path(options_.run_dir, id)));
  }
  const std::string how =
      worker.pid == 0 ? message.how() : concat("(pid ", worker.pid, " on node ", node, ") ", message.how());
  roster_.forget(id);
  workers_.erase(id);
  if (keeper_) keeper_->on_lost(id);
  feed(WorkerLost{id, how});
  release(agent);
}

void CoordinatorProcess::end_with(WorkerId id, const std::string& why) {
  Roster::Agent* const agent = roster_.agent_of(id);
  if (agent == nullptr) return;
  roster_.is_going(id);
  control::ToAgent message;
  message.mutable_end()->set_worker(id);
  message.mutable_end()->set_why(why);
  send(*agent, std::move(message));
}

/// What the journal has, workers need not keep.
void CoordinatorProcess::acknowledge_steps() {
  if (ended_ || !record_ || clock_.now() - acknowledged_at_ < acknowledge_interval) return;
  acknowledged_at_ = clock_.now();
  write_down(record_->flush());
  if (acknowledged_ == record_->steps()) return;
  acknowledged_ = record_->steps();
  control::ToAgent message;
  message.mutable_acknowledge()->set_step(acknowledged_);
  send_all(message);
}

void CoordinatorProcess::write_down(const Status& written) {
  if (!written.ok()) fail(written.error().message);
}

/// Something that the job cannot go on without.
void CoordinatorProcess::fail(const std::string& why) {
  if (ended_) return;
  outcome_.status = "failed";
  outcome_.failure = FailureReport{.sentence = why};
  end_job("");
}

// ---- what the coordinator wants ---------------------------------------------------------------------

void CoordinatorProcess::feed(const CoordinatorEvent& event) {
  if (ended_) return;
  if (!coordinator_)
    events_.push_back(event);
  else
    carry_out(coordinator_->on(event, clock_.now()));
}

void CoordinatorProcess::carry_out(CoordinatorEffects effects) {
  while (!effects.empty()) {
    for (const CoordinatorEffect& effect : effects)
      if (!ended_) std::visit([this](const auto& one) { carry_out(one); }, effect);
    effects.clear();
    if (ended_) return;
    // What could be done, or not, is news to the coordinator.
    for (const CoordinatorEvent& event : std::exchange(events_, {}))
      for (CoordinatorEffect& effect : coordinator_->on(event, clock_.now()))
        effects.push_back(std::move(effect));
  }
}

void CoordinatorProcess::carry_out(const StartWorker& effect) {
  const std::optional<WorkerPlace> where = roster_.choose();
  if (!where) {
    events_.emplace_back(WorkerLost{effect.worker, "could not be started: no agent has a place for it"});
    return;
  }
  roster_.place(effect.worker, *where);
  workers_[effect.worker];
  control::ToAgent message;
  message.mutable_start()->set_worker(effect.worker);
  message.mutable_start()->set_slot(where->slot);
  send(*roster_.agent_of(effect.worker), std::move(message));
}

void CoordinatorProcess::carry_out(const RecordGeneration& effect) {
  events_.emplace_back(write_generation(options_.run_dir, *effect.record));
}

void CoordinatorProcess::tell(WorkerId id, const WorkerMessage& told) {
  Roster::Agent* const agent = roster_.agent_of(id);
  if (agent == nullptr) return;
  control::ToAgent message;
  message.mutable_tell()->set_worker(id);
  message.mutable_tell()->set_message(encode(told));
  send(*agent, std::move(message));
}

void CoordinatorProcess::tell_form(WorkerId id, const Generation& record, bool background) {
  FormMessage form;
  form.generation = record->generation;
  form.term = record->term;
  if (record->donors.empty()) form.checkpoint = facts_.position.checkpoint;
  form.rank = -1;
  form.base_step = record->base_step;
  form.donors = static_cast<std::int64_t>(record->donors.size());
  form.background = background;
  for (std::size_t rank = 0; rank < record->members.size(); ++rank) {
    const GenerationMember& member = record->members[rank];
    if (member.worker == id) form.rank = static_cast<std::int64_t>(rank);
    form.members.push_back({member.node, member.host, member.port});
  }
  tell(id, form);
}

void CoordinatorProcess::carry_out(const FormGeneration& effect) {
  tell_form(effect.worker, effect.record, false);
}
void CoordinatorProcess::carry_out(const PrepareGeneration& effect) {
  tell_form(effect.worker, effect.record, true);
}
void CoordinatorProcess::carry_out(const AbandonGeneration& effect) {
  tell(effect.worker, AbandonMessage{effect.generation});
}
void CoordinatorProcess::carry_out(const LeaveGeneration& effect) {
  tell(effect.worker, LeaveMessage{effect.generation});
}
void CoordinatorProcess::carry_out(const StopTraining& effect) {
  tell(effect.worker, StopMessage{});
}
void CoordinatorProcess::carry_out(const DismissWorker& effect) {
  roster_.is_going(effect.worker);
  tell(effect.worker, DismissMessage{});
}
void CoordinatorProcess::carry_out(const EndWorker& effect) {
  end_with(effect.worker, effect.why);
}

void CoordinatorProcess::carry_out(const Announce& effect) {
  log(LogLevel::info, effect.text);
  if (effect.kind == Announce::Kind::generation) {
    const GenerationRecord& record = *coordinator_->generation();
    write_down(record_->add(JournalGeneration{record.generation, record.term, record.base_step,
                                              static_cast<std::int64_t>(record.members.size()),
                                              record.planned, record.reason}));
    keeper_->on_generation(record);
    if (record.generation > facts_.position.last_generation + 1) notice(false, effect.text);
  } else if (effect.kind != Announce::Kind::repair) {
    notice(effect.kind == Announce::Kind::warning, effect.text);
  }
}

void CoordinatorProcess::notice(bool warning, const std::string& text) {
  Roster::Agent* const head = roster_.head();
  if (head == nullptr) return;
  control::ToAgent message;
  message.mutable_notice()->set_warning(warning);
  message.mutable_notice()->set_text(text);
  send(*head, std::move(message));
}

void CoordinatorProcess::carry_out(const EndJob& effect) {
  if (effect.fenced) {
    ended_ = fenced_ = true;
    outcome_.failure = FailureReport{.sentence = effect.why};
    return;
  }
  outcome_.status = effect.status;
  if (effect.status != "failed") {
    // It may have been done before it could be stopped.
    if (outcome_.finished && outcome_.finished->status == "completed") outcome_.status = "completed";
    outcome_.failure.reset();
    return end_job(effect.why.empty() ? "" : concat(effect.why, ", and were killed"));
  }
  if (effect.by && workers_.contains(*effect.by))
    outcome_.failure =
        FailureReport{.rank = rank_of(*effect.by),
                      .node = roster_.node_of(*effect.by),
                      .sentence = concat(name_of(*effect.by), " failed", where_in_job(), ": ", effect.why),
                      .last_words = workers_.at(*effect.by).last_words,
                      .explained = true,
                      .worker = *effect.by};
  else
    outcome_.failure = FailureReport{.sentence = effect.why};
  end_job("");
}

/// Writes the last line, and tells everybody.
void CoordinatorProcess::end_job(const std::string& warning) {
  ended_ = true;
  if (keeper_) keeper_->on_end();
  // The journal knows better than the last progress that was told.
  if (outcome_.progress) outcome_.progress->step = std::max(outcome_.progress->step, steps());
  const Status written =
      !record_ ? Status() : record_->end(outcome_.status, outcome_.failure ? outcome_.failure->sentence : "");
  if (!written.ok() && outcome_.status != "failed") {  // a run whose last line can't be written is no success
    outcome_.status = "failed";
    outcome_.failure = FailureReport{.sentence = written.error().message};
  }
  control::ToAgent message;
  control::JobEnded& ended = *message.mutable_ended();
  ended.set_status(outcome_.status);
  ended.set_warning(warning);
  if (outcome_.failure) {
    control::Failure& failure = *ended.mutable_failure();
    failure.set_rank(outcome_.failure->rank);
    failure.set_node(outcome_.failure->node);
    failure.set_sentence(outcome_.failure->sentence);
    failure.mutable_last_words()->Assign(outcome_.failure->last_words.begin(),
                                         outcome_.failure->last_words.end());
    failure.set_explained(outcome_.failure->explained);
    failure.set_worker(outcome_.failure->worker);
  }
  if (coordinator_) {
    ended.set_repairs(coordinator_->repairs());
    ended.set_resizes(coordinator_->resizes());
    const Generation last = coordinator_->generation();
    ended.set_generation(last == nullptr ? 1 : last->generation);
    ended.set_ranks(last == nullptr ? facts_.ranks : std::ssize(last->members));
  }
  if (outcome_.finished) ended.set_finished(encode(*outcome_.finished));
  if (outcome_.eval) ended.set_eval(encode(*outcome_.eval));
  if (outcome_.progress) ended.set_progress(encode(*outcome_.progress));
  send_all(message);
}

// ---- names ------------------------------------------------------------------------------------------

std::int64_t CoordinatorProcess::rank_of(WorkerId id) const {
  const Generation generation = coordinator_ ? coordinator_->generation() : nullptr;
  if (generation == nullptr) return id;
  const auto member = std::ranges::find(generation->members, id, &GenerationMember::worker);
  return member == generation->members.end() ? id : member - generation->members.begin();
}

std::string CoordinatorProcess::name_of(WorkerId id) const {
  const auto found = workers_.find(id);
  return concat("rank ", rank_of(id), " on node ", roster_.node_of(id), " (pid ",
                found == workers_.end() ? 0 : found->second.pid, ")");
}

}  // namespace paceline
