// What the state machine wants done, and how a job ends.
#include <algorithm>

#include "elastic/coordinator_process.hpp"
#include "generation_file.hpp"
#include "paceline/base/log.hpp"
#include "paceline/base/text.hpp"
#include "summary.hpp"

namespace paceline {

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
  workers_[effect.worker].started_at = clock_.now();
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
    pauses_.changed();
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

}  // namespace paceline
