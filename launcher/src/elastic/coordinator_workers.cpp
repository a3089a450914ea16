// What agents say of their workers, and what is written down of it.
#include <algorithm>

#include "elastic/coordinator_process.hpp"
#include "elastic/heartbeat.hpp"
#include "launch.hpp"
#include "paceline/base/log.hpp"
#include "paceline/base/text.hpp"
#include "summary.hpp"

namespace paceline {
namespace {

constexpr Duration acknowledge_interval = std::chrono::milliseconds(500);

}  // namespace

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
    workers_[said.worker()].heard = clock_.now();
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
    if (worker.started_at) lead_s_ = to_seconds(clock_.now() - *std::exchange(worker.started_at, {}));
    feed(WorkerEntered{id, entered->generation});
  } else if (const auto* unprepared = std::get_if<UnpreparedMessage>(&message)) {
    feed(PreparationFailed{id, unprepared->generation, unprepared->message});
  } else if (const auto* left = std::get_if<LeftMessage>(&message)) {
    feed(WorkerLeft{id, left->generation, {left->applied, left->reduced, left->complete}, left->message});
  } else if (const auto* steps = std::get_if<StepsMessage>(&message)) {
    if (!record_) return told_before_.push_back(message);
    for (const StepFigures& figures : steps->steps)
      if (figures.step > record_->steps()) pauses_.committed(figures.time, figures.epoch);
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
  ++rebalances_;
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
  if (keeper_) keeper_->on_lost(id, is_completed());
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

}  // namespace paceline
