// The agents that attend to a coordinator: who they are, and what becomes of those that fall silent.
#include <unistd.h>

#include <algorithm>
#include <tuple>

#include "elastic/coordinator_process.hpp"
#include "elastic/heartbeat.hpp"
#include "paceline/base/log.hpp"
#include "paceline/base/text.hpp"
#include "paceline/control/version.hpp"

namespace paceline {
namespace {

// From an agent's last message to giving it and its workers up. It beats ten times a second, and one whose
// stream has broken opens another within a tenth of a second: those that are gone for good have none.
constexpr Duration agent_silence = std::chrono::seconds(5);
constexpr Duration agent_absence = std::chrono::seconds(3);
constexpr Duration beat_interval = std::chrono::milliseconds(200);
// Without any agent for so long there is no job any more. Where there was only the one that has started this
// process, and that is gone, nobody is on the way.
constexpr Duration alone_limit = std::chrono::seconds(30);
constexpr Duration orphan_limit = std::chrono::seconds(3);

}  // namespace

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

/// `for_good`: it need not come again.
void CoordinatorProcess::refuse(control::StreamId stream, const std::string& why, bool for_good) {
  log(LogLevel::warning, why);
  control::ToAgent refusal;
  refusal.set_term(options_.term);
  refusal.mutable_notice()->set_warning(true);
  refusal.mutable_notice()->set_text(why);
  refusal.mutable_notice()->set_refused(for_good);
  server_->send(stream, refusal);
  server_->close(stream);
}

/// Empty: there is none. An agent that is gone makes room for who got its GPU.
std::string CoordinatorProcess::gpu_that_another_has(const control::Register& self) {
  while (const auto shared = roster_.shared_gpu(self)) {
    if (roster_.find(shared->other)->stream) return shared->uuid;
    drop_agent(shared->other, "is gone, and another has its GPU");
  }
  return "";
}

void CoordinatorProcess::register_agent(control::StreamId stream, const control::FromAgent& message) {
  const control::Register& self = message.register_();
  if (self.version() != control::version || self.program_version() != PACELINE_VERSION)
    return refuse(stream,
                  concat(self.agent(), " is of version ", self.program_version(), " (protocol ",
                         self.version(), ") and the coordinator of version ", PACELINE_VERSION, " (protocol ",
                         control::version, "): all parts of a job must be of the same build"),
                  true);
  Roster::Agent* agent = roster_.find(self.agent());
  const bool again = agent != nullptr && agent->session_number == self.session();
  if (agent != nullptr && agent->stream) server_->close(*agent->stream);
  const bool known_workers = again || !options_.succeeds;
  if (!again) {
    if (const std::string gpu = gpu_that_another_has(self); !gpu.empty()) {
      const bool joins = self.index() >= facts_.agents;
      if (joins || coordinator_ || options_.succeeds)
        return refuse(stream,
                      concat("GPU ", gpu, " of node ", self.slots(0),
                             " is another agent's of this job already: leave it out of CUDA_VISIBLE_DEVICES"),
                      true);
      launch_problem_ = concat("two tasks on node ", self.slots(0), " have the same GPU, ", gpu,
                               ": give each one of its own (srun --gpus-per-task=1), or all of them the "
                               "whole node's");
    }
    agent = roster_.find(self.agent());
    if (agent != nullptr) drop_agent(self.agent(), "began anew");
    agent = &roster_.add(self, options_.term, clock_.now());
    seen_.insert(self.agent());
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
  const auto is_silent = [&](const auto& each) {
    const Roster::Agent& agent = each.second;
    if (agent.stream) return silence(each) >= agent_silence;
    return turn_at_ - std::max(agent.heard_at, agent.broken_at) >= agent_absence;
  };
  // Where none is heard they may all be stopped for a while, or the machine has too much to do: those whose
  // streams are there are waited for, as there is nobody whom the job could go on with.
  // Those who are stopped together fall silent together, but not to the millisecond.
  const bool some_are_heard = std::ranges::any_of(
      roster_.agents(), [&](const auto& agent) { return silence(agent) < agent_silence / 2; });
  std::vector<std::string> silent;
  for (const auto& each : roster_.agents())
    if (is_silent(each) && (some_are_heard || !each.second.stream)) silent.push_back(each.first);
  for (const std::string& name : silent)
    drop_agent(name, concat("has not been heard of for ",
                            to_seconds(roster_.find(name)->stream ? agent_silence : agent_absence), " s"));
  if (!roster_.agents().empty()) alone_since_ = clock_.now();
  if (alone_since_ == Instant{}) alone_since_ = clock_.now();
  const bool had_one_agent = facts_.agents <= 1 && facts_.attending.size() <= 1 && seen_.size() <= 1;
  const bool is_orphan = had_one_agent && options_.starter != 0 && ::getppid() != options_.starter;
  if (clock_.now() - alone_since_ >= (is_orphan ? orphan_limit : alone_limit))
    fail("all agents of the job are gone");
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
    if (keeper_) keeper_->on_lost(id, is_completed());
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
      workers_[id].heard = clock_.now();
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

}  // namespace paceline
