// The coordinator's part that finds workers which are there in name only: those that are silent, and those
// that get nowhere while the others wait for them; and collectives that hang.
//
// A worker's heartbeat comes from a thread that does nothing else, so silence means that the whole process
// stands still: stopped, or on a machine that does. What its training thread does is in the heartbeat, and
// says nothing by itself, since any part of a step may take long. It is held against the others: a rank is
// *stuck* when at least half of the ranks wait in a collective for its step, and it has been in one part of
// its own work for far longer than those took for that part. Who waits is never stuck, and neither is anybody
// where all are slow. Where all wait, and nobody has anything left to do, the collective is stuck.
#include <algorithm>

#include "paceline/base/text.hpp"
#include "paceline/sched/coordinator.hpp"
#include "words.hpp"

namespace paceline {
namespace {

const char* name_of(WorkPhase phase) {
  switch (phase) {
    case WorkPhase::data: return "reading data";
    case WorkPhase::compute: return "computing";
    case WorkPhase::evaluate: return "evaluating";
    case WorkPhase::waits:
    case WorkPhase::other: break;
  }
  return "busy";
}

/// Whether all ranks have about as much of it to do.
bool is_shared_work(WorkPhase phase) {
  return phase == WorkPhase::data || phase == WorkPhase::compute || phase == WorkPhase::evaluate;
}

std::size_t index(WorkPhase phase) {
  return static_cast<std::size_t>(phase);
}

}  // namespace

void Coordinator::handle(const WorkerHeartbeat& event) {
  const auto found = workers_.find(event.worker);
  if (found == workers_.end()) return;
  std::optional<Pulse>& pulse = found->second.pulse;
  const Instant since = now_ - std::clamp<Duration>(event.in_phase_for, {}, now_.time_since_epoch());
  const bool stood_still = !pulse || now_ - pulse->heard > options_.limits.silence / 2;
  if (!pulse) {
    pulse.emplace();
    pulse->first_step = event.step;
  }
  // Parts that fit between two heartbeats are counted with the one before, which is nothing to what is long.
  else if (pulse->step != event.step || pulse->phase != event.phase)
    pulse->took[index(pulse->phase)] = std::max<Duration>(since - pulse->since, {});
  if (stood_still) pulse->awake = now_;
  pulse->heard = now_;
  pulse->silence_told = false;
  pulse->step = event.step;
  pulse->phase = event.phase;
  pulse->since = since;
  if (look_at_) return;
  looked_at_ = now_;
  look_at_ = now_ + options_.limits.look;
}

bool Coordinator::is_to_look() const {
  return look_at_ && !stop_at_ && state_ != State::finishing && state_ != State::ended;
}

void Coordinator::look_after_workers() {
  // A coordinator that stood still itself has not read yet what they said meanwhile.
  const bool was_away = now_ - looked_at_ > options_.limits.look + options_.limits.silence / 2;
  looked_at_ = now_;
  look_at_ = now_ + options_.limits.look;
  if (was_away) {
    for (auto& [id, worker] : workers_)
      if (worker.pulse) worker.pulse->heard = now_;
    return;
  }
  end_silent();
  end_stuck();
  end_hang();
}

/// Whether the job could go on from what it holds, as far as is known before it reports.
bool Coordinator::may_hold_state(const Worker& worker) const {
  switch (worker.stage) {
    case Stage::training: return true;
    case Stage::entering: return !worker.receives;
    case Stage::leaving: return worker.trained || !worker.receives;
    case Stage::left: return is_survivor(worker);
    case Stage::starting:
    case Stage::waiting:
    case Stage::exiting:
    case Stage::ending: break;
  }
  return false;
}

void Coordinator::end_silent() {
  std::vector<WorkerId> silent;
  // With somebody who is heard, and not just again: who were all stopped are let go on one after the other.
  // Nor still: those whose agent is stopped fall silent together, but not to the millisecond.
  bool state_is_safe = false;
  for (auto& [id, worker] : workers_) {
    if (worker.stage == Stage::exiting || worker.stage == Stage::ending) continue;
    // Who trains has said so: the first heartbeat is due, and may never come.
    if (!worker.pulse && worker.stage == Stage::training) {
      worker.pulse.emplace();
      worker.pulse->heard = worker.pulse->awake = worker.pulse->since = now_;
    }
    if (!worker.pulse) continue;
    if (now_ - worker.pulse->heard >= options_.limits.silence)
      silent.push_back(id);
    else if (now_ - worker.pulse->heard < options_.limits.silence / 4 &&
             now_ - worker.pulse->awake >= options_.limits.silence)
      state_is_safe = state_is_safe || may_hold_state(worker);
  }
  for (const WorkerId id : silent) {
    if (state_ == State::ended) return;
    Worker& worker = workers_.at(id);
    const std::string why = concat("has not been heard of for ", whole_seconds(now_ - worker.pulse->heard));
    if (state_is_safe || !may_hold_state(worker)) {
      expel(id, concat(place_of(id), why));
    } else if (!std::exchange(worker.pulse->silence_told, true)) {
      want(Announce{Announce::Kind::warning,
                    concat("worker ", id, " ", place_of(id), why,
                           ", and is waited for: no other holds the training state")});
    }
  }
}

void Coordinator::end_stuck() {
  if (current_.record == nullptr) return;
  std::vector<const Pulse*> waiting;
  std::vector<WorkerId> suspects;
  for (const GenerationMember& member : current_.record->members) {
    const auto found = workers_.find(member.worker);
    if (found == workers_.end() || found->second.stage != Stage::training || !found->second.pulse) continue;
    const Pulse& pulse = *found->second.pulse;
    if (pulse.phase == WorkPhase::waits)
      waiting.push_back(&pulse);
    else if (is_shared_work(pulse.phase) && pulse.busy() >= options_.limits.progress)
      suspects.push_back(member.worker);
  }
  std::vector<std::pair<WorkerId, std::string>> stuck;
  for (const WorkerId id : suspects) {
    const std::string why = cause_of_delay(*workers_.at(id).pulse, waiting);
    if (!why.empty()) stuck.emplace_back(id, concat(place_of(id), why));
  }
  for (const auto& [id, why] : stuck)
    if (state_ != State::ended) expel(id, why);
}

/// Why `late` is to blame for that these wait; nothing if it isn't.
std::string Coordinator::cause_of_delay(const Pulse& late, const std::vector<const Pulse*>& waiting) const {
  std::vector<Duration> took;
  for (const Pulse* other : waiting)
    if (other->step >= late.step) took.push_back(other->took[index(late.phase)]);
  const std::int64_t ranks = ranks_of(current_.record);
  if (2 * std::ssize(took) < ranks) return {};
  const auto middle = took.begin() + std::ssize(took) / 2;
  std::ranges::nth_element(took, middle);
  if (late.busy() < options_.limits.slower * *middle) return {};
  return concat("has been ", name_of(late.phase), " for ", whole_seconds(late.busy()), " at step ", late.step,
                ", while ", took.size(), " of ", count(ranks, "rank"), " wait for it");
}

/// All wait for each other, and far longer than they ever did: a collective hangs, and the next generation
/// may do better. If it does not, or if these are the first steps, whose sums may take any time, the
/// collective's own limit is waited for.
void Coordinator::end_hang() {
  const bool trains = state_ == State::running || state_ == State::preparing;
  if (!trains || ranks_of(current_.record) < 2 || applied_ <= current_.record->base_step) return;
  Duration least = Duration::max();
  std::int64_t step = 0;
  for (const GenerationMember& member : current_.record->members) {
    const auto found = workers_.find(member.worker);
    if (found == workers_.end() || found->second.stage != Stage::training || !found->second.pulse) return;
    const Pulse& pulse = *found->second.pulse;
    const bool known = pulse.step >= pulse.first_step + 2;  // how long it waits in a step
    if (pulse.phase != WorkPhase::waits || !known) return;
    if (now_ - pulse.heard > options_.limits.silence / 2) return;
    if (pulse.busy() < options_.limits.slower * pulse.took[index(WorkPhase::waits)]) return;
    least = std::min(least, pulse.busy());
    step = std::max(step, pulse.step);
  }
  if (least < options_.limits.progress) return;
  begin_repair(concat("all ", count(ranks_of(current_.record), "rank"), " have waited for each other for ",
                      whole_seconds(least), " at step ", step));
}

/// "(rank 5 on node n3) ", where it is known.
std::string Coordinator::place_of(WorkerId id) const {
  const auto rank = current_.ranks.find(id);
  if (rank == current_.ranks.end()) return {};
  return concat("(rank ", rank->second, " on node ", current_.record->members[rank->second].node, ") ");
}

/// Evicts one that others may wait for, with what that means for them.
void Coordinator::expel(WorkerId id, const std::string& why) {
  Worker& worker = workers_.at(id);
  const Stage stage = worker.stage;
  evict(id, worker, why);
  if (state_ != State::ended) missed(id, stage, concat("worker ", id, " ", why));
}

}  // namespace paceline
