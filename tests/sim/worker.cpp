// How a worker behaves, as the real one is to: the data plane with its collectives included. Every wake-up of
// a worker goes through later(), which holds it back while the worker is frozen and drops it once it is gone.
#include "paceline/base/text.hpp"
#include "simulation.hpp"

namespace paceline::sim {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration connect_timeout = seconds(20);  // until all members are there

}  // namespace

void Simulation::wake(Worker& worker, Duration after, void (Simulation::*what)(Worker&)) {
  later(worker.id, after, worker.doing, [this, what](Worker& one) { (this->*what)(one); });
}

/// From a thread of its own: only a process that stands still, or is gone, sends none.
void Simulation::beat(WorkerId id) {
  Worker& worker = workers_.at(id);
  if (worker.phase == Phase::gone) return;
  if (worker.frozen_until > queue_.now()) return queue_.at(worker.frozen_until, [this, id] { beat(id); });
  report(worker, WorkerHeartbeat{id, worker.applied + 1, worker.does, queue_.now() - worker.does_since});
  queue_.after(setting_.heartbeat, [this, id] { beat(id); });
}

void Simulation::begin(Worker& worker, WorkPhase phase) {
  worker.does = phase;
  worker.does_since = queue_.now();
}

/// No wait is unbounded (I8).
void Simulation::limit(Worker& worker, Duration after, const char* what) {
  later(worker.id, after, worker.doing, [this, what](Worker& one) { leave(one, what); });
}

Simulation::Plane& Simulation::plane_of(const Generation& record) {
  Plane& plane = planes_[record->generation];
  if (plane.record == nullptr) {
    plane.record = record;
    for (const GenerationMember& member : record->members) {
      plane.members.insert(member.worker);
      const auto found = workers_.find(member.worker);
      if (found == workers_.end() || found->second.phase == Phase::gone) plane.gone.insert(member.worker);
    }
  }
  return plane;
}

Standing Simulation::standing(const Worker& worker) const {
  return {worker.applied, worker.reduced && setting_.bug != Bug::forgets_what_is_reduced,
          worker.complete || (setting_.bug == Bug::gives_what_it_has_not && worker.highest > 0)};
}

void Simulation::start(WorkerId id) {
  Worker& worker = workers_[id];
  if (worker.up != nullptr) return;
  worker.id = id;
  worker.up = std::make_unique<Link>(queue_, dice_);
  worker.down = std::make_unique<Link>(queue_, dice_);
  worker.does_since = queue_.now();
  if (setting_.heartbeat > Duration::zero()) beat(id);
  const Duration takes = dice_.between(milliseconds(100), seconds(3));
  if (setting_.bad_starts > 0 && dice_.one_in(setting_.bad_starts) &&
      queue_.now().time_since_epoch() < setting_.calm)
    return later(id, takes, worker.doing, [this](Worker& one) { kill(one, "crashed at its start", false); });
  later(id, takes, worker.doing, [this](Worker& one) {
    one.phase = Phase::waiting;
    report(one, WorkerReady{{one.id, concat("n", one.id % 3), "127.0.0.1", 4000}});
  });
}

// ---- what it is told --------------------------------------------------------------------------------

void Simulation::told(Worker& worker, const CoordinatorEffect& effect) {
  if (const auto* form = std::get_if<FormGeneration>(&effect)) return told_to(worker, *form);
  if (const auto* prepare = std::get_if<PrepareGeneration>(&effect)) return told_to(worker, *prepare);
  if (const auto* abandon = std::get_if<AbandonGeneration>(&effect)) return told_to(worker, *abandon);
  if (const auto* leave = std::get_if<LeaveGeneration>(&effect)) return told_to(worker, *leave);
  if (std::holds_alternative<StopTraining>(effect)) worker.stopping = true;
  if (std::holds_alternative<DismissWorker>(effect) && worker.phase != Phase::finishing)
    exit(worker, "exited with status 0");
}

void Simulation::told_to(Worker& worker, const FormGeneration& effect) {
  const GenerationRecord& record = *effect.record;
  if (record.generation <= worker.highest) return;  // once more, or of one that it has left
  check(worker.phase == Phase::waiting && worker.in == nullptr,
        concat("P6: worker ", worker.id, " is told to form generation ", record.generation,
               " and is in another"));
  worker.highest = record.generation;
  worker.in = effect.record;
  worker.phase = Phase::connecting;
  ++worker.doing;
  const auto rank =
      std::ranges::find(record.members, worker.id, &GenerationMember::worker) - record.members.begin();
  const bool donor = std::ranges::find(record.donors, rank) != record.donors.end();
  if (record.donors.empty()) {
    worker.applied = record.base_step;
    worker.state = 0;
    worker.complete = true;
  } else if (donor) {
    check(can_reach(standing(worker), record.base_step),
          concat("I5: worker ", worker.id, " gives the state of generation ", record.generation,
                 " and has applied ", worker.applied, " of ", record.base_step, " steps",
                 worker.complete ? "" : ", incompletely (P8)"));
    const bool again = setting_.bug == Bug::redoes_with_old_sums && worker.reduced;
    if (worker.applied < record.base_step || again) check_applied(worker);
  } else {
    worker.complete = false;
  }
  worker.reduced = false;
  later(worker.id, dice_.between(milliseconds(1), milliseconds(60)), worker.doing,
        [this](Worker& one) { arrive(one, plane_of(one.in)); });
  limit(worker, record.planned ? 3 * connect_timeout : connect_timeout,
        "not all others came within the time");
  maybe_die(worker, "when told to form");
}

void Simulation::told_to(Worker& worker, const PrepareGeneration& effect) {
  const std::int64_t generation = effect.record->generation;
  if (generation <= worker.highest || worker.in == nullptr) return;
  worker.highest = generation;
  worker.prepared = effect.record;
  worker.connected = worker.forget = false;
  Plane& plane = plane_of(effect.record);
  if (!plane.members.contains(worker.id)) {
    worker.connected = true;  // nothing to connect to
    return;
  }
  later(worker.id, dice_.between(milliseconds(1), milliseconds(80)), 0, [this, generation](Worker& one) {
    if (one.prepared != nullptr && one.prepared->generation == generation)
      arrive(one, planes_.at(generation));
  });
  maybe_die(worker, "when told to prepare");
}

void Simulation::told_to(Worker& worker, const AbandonGeneration& effect) {
  if (worker.prepared == nullptr || worker.prepared->generation != effect.generation) return;
  worker.forget = true;
  worker.forget_why.clear();
  if (!worker.promised || setting_.bug == Bug::breaks_its_promise) forget_prepared(worker);
}

void Simulation::told_to(Worker& worker, const LeaveGeneration& effect) {
  if (worker.in != nullptr && worker.in->generation <= effect.generation) {
    leave(worker, "the coordinator asked for it");
  } else if (worker.in == nullptr) {
    worker.highest = std::max(worker.highest, effect.generation);
  }
}

// ---- into a generation --------------------------------------------------------------------------------

void Simulation::arrive(Worker& worker, Plane& plane) {
  plane.arrived.insert(worker.id);
  const std::int64_t generation = plane.record->generation;
  if (!plane.gone.empty())
    return later(
        worker.id, dice_.between(milliseconds(1), milliseconds(20)), 0,
        [this, generation](Worker& one) { notice(one, generation, "a member is not there any more"); });
  if (plane.arrived.size() < plane.members.size()) return;
  for (const WorkerId id : plane.members) {
    Worker& one = workers_.at(id);
    const Duration takes = dice_.between(milliseconds(1), milliseconds(50));
    if (one.in != nullptr && one.in->generation == generation)
      wake(one, takes, &Simulation::connected);
    else
      later(id, takes, 0, [this, generation](Worker& each) { prepared_connected(each, generation); });
  }
}

void Simulation::prepared_connected(Worker& worker, std::int64_t generation) {
  if (worker.prepared != nullptr && worker.prepared->generation == generation) worker.connected = true;
}

void Simulation::connected(Worker& worker) {
  ++worker.doing;
  Plane& plane = plane_of(worker.in);
  if (!worker.complete) {
    worker.phase = Phase::receiving;
    limit(worker, worker.in->planned ? 3 * connect_timeout : connect_timeout,
          "the state did not come within the time");
    maybe_die(worker, "before it receives the state");
    return try_to_receive(plane);
  }
  plane.base = worker.applied;
  plane.switched.insert(worker.id);
  try_to_receive(plane);
  entered(worker);
}

/// The state is sent once all donors are there: with their state frozen, since no step can end before all
/// have contributed to it.
void Simulation::try_to_receive(Plane& plane) {
  for (const std::int64_t donor : plane.record->donors)
    if (!plane.switched.contains(plane.record->members[static_cast<std::size_t>(donor)].worker)) return;
  for (const WorkerId id : plane.members) {
    Worker& one = workers_.at(id);
    if (one.phase != Phase::receiving || one.in != plane.record) continue;
    wake(one, dice_.between(milliseconds(5), milliseconds(300)), &Simulation::received);
  }
}

void Simulation::received(Worker& worker) {
  Plane& plane = plane_of(worker.in);
  if (!plane.gone.empty()) return;  // a donor may be lost: notice() follows
  const auto donor = static_cast<std::size_t>(
      plane.record->donors[static_cast<std::size_t>(dice_.between(0, std::ssize(plane.record->donors) - 1))]);
  const Worker& source = workers_.at(plane.record->members[donor].worker);
  check(source.complete && source.applied == plane.base,
        "P8: a donor's state changed before all had received it");
  worker.applied = source.applied;
  worker.state = source.state;
  const WorkerId first = plane.record->members.front().worker;
  const bool lacks_the_log =
      setting_.bug == Bug::joins_without_the_log || setting_.bug == Bug::log_after_the_state;
  worker.keeps_from = lacks_the_log ? worker.applied + 1 : workers_.at(first).keeps_from;
  if (setting_.bug == Bug::log_after_the_state)
    later(worker.id, milliseconds(200), 0,
          [this, first, keeps_from = workers_.at(first).keeps_from](Worker& one) {
            if (workers_.at(first).phase != Phase::gone)
              one.keeps_from = std::min(one.keeps_from, keeps_from);
          });
  worker.complete = true;
  worker.reduced = false;
  plane.switched.insert(worker.id);
  ++worker.doing;
  maybe_die(worker, "when it has received the state");
  if (worker.phase == Phase::gone) return;
  entered(worker);
  if (!setting_.entered_early && plane.switched.size() == plane.members.size())
    for (const std::int64_t rank : plane.record->donors) {
      Worker& each = workers_.at(plane.record->members[static_cast<std::size_t>(rank)].worker);
      if (each.in == plane.record && each.phase != Phase::gone)
        report(each, WorkerEntered{each.id, plane.record->generation});
    }
}

void Simulation::entered(Worker& worker) {
  const Plane& plane = plane_of(worker.in);
  const bool is_donor = plane.base && std::ranges::any_of(plane.record->donors, [&](std::int64_t rank) {
                          return plane.record->members[static_cast<std::size_t>(rank)].worker == worker.id;
                        });
  const bool others_receive = plane.record->donors.size() < plane.members.size();
  if (setting_.entered_early || !is_donor || !others_receive)
    report(worker, WorkerEntered{worker.id, worker.in->generation});
  tell_steps(worker);
  begin_step(worker);
}

// ---- a step -------------------------------------------------------------------------------------------

void Simulation::begin_step(Worker& worker) {
  ++worker.doing;
  worker.phase = Phase::training;
  if (worker.applied >= setting_.steps) return finish(worker);
  begin(worker, WorkPhase::data);
  Duration takes = dice_.between(setting_.compute / 2, setting_.compute);
  if (dice_.one_in(20)) takes *= 5;  // a straggler
  if (worker.applied + 1 == setting_.slow_step) takes += dice_.between(seconds(45), seconds(55));
  wake(worker, takes, &Simulation::contribute);
}

void Simulation::contribute(Worker& worker) {
  ++worker.doing;
  Plane& plane = plane_of(worker.in);
  const std::int64_t step = worker.applied + 1;
  check(worker.complete, concat("I6: worker ", worker.id, " contributes without the state"));
  check(worker.state == (worker.applied == 0 ? 0 : committed_[worker.applied]),
        concat("I6: worker ", worker.id, " contributes to step ", step, " from another state"));
  check(!worker.reduced, "P13: a rank contributes that holds a reduced step");
  Step& collective = plane.steps[step];
  collective.contributed.insert(worker.id);
  begin(worker, WorkPhase::waits);
  limit(worker, setting_.data_timeout, "the sum did not come within the time");
  if (collective.contributed.size() < plane.members.size() || plane.hangs) return;
  for (const WorkerId id : plane.members)
    if (workers_.at(id).in == plane.record)
      wake(workers_.at(id), dice_.between(microseconds(100), milliseconds(10)), &Simulation::reduced);
}

void Simulation::reduced(Worker& worker) {
  ++worker.doing;
  Plane& plane = plane_of(worker.in);
  const std::int64_t step = worker.applied + 1;
  worker.reduced = true;
  worker.gradients =
      mix64(static_cast<std::uint64_t>(step), static_cast<std::uint64_t>(plane.record->generation));
  for (const WorkerId id : plane.members) worker.gradients = mix64(worker.gradients, id);
  maybe_die(worker, "between sum and commit");
  if (worker.phase == Phase::gone) return;
  vote(worker);
  limit(worker, setting_.data_timeout, "the commit did not come within the time");
}

void Simulation::vote(Worker& worker) {
  Plane& plane = plane_of(worker.in);
  Step& collective = plane.steps[worker.applied + 1];
  collective.voted.insert(worker.id);
  worker.promised = worker.prepared != nullptr && worker.connected && !worker.forget;
  const std::int64_t ready = worker.promised ? worker.prepared->generation : 0;
  collective.least_ready = std::min(collective.least_ready, ready);
  collective.greatest_ready = std::max(collective.greatest_ready, ready);
  collective.stop = collective.stop || worker.stopping;
  if (collective.voted.size() < plane.members.size()) return;
  for (const WorkerId id : plane.members)
    if (workers_.at(id).in == plane.record)
      wake(workers_.at(id), dice_.between(microseconds(100), milliseconds(10)), &Simulation::committed);
}

void Simulation::committed(Worker& worker) {
  ++worker.doing;
  worker.phase = Phase::applying;
  begin(worker, WorkPhase::compute);
  maybe_die(worker, "between commit and apply");
  if (worker.phase != Phase::gone)
    wake(worker, dice_.between(microseconds(500), milliseconds(5)), &Simulation::apply);
}

void Simulation::apply(Worker& worker) {
  ++worker.doing;
  Plane& plane = plane_of(worker.in);
  check_applied(worker);
  trained_.insert(plane.record->generation);
  const Step result = plane.steps[worker.applied];
  worker.promised = false;
  tell_steps(worker);
  maybe_die(worker, "after the apply");
  if (worker.phase == Phase::gone) return;
  worker.phase = Phase::training;
  // Stopping wins over changing: both are in the result, so all decide the same.
  const std::int64_t change_to = result.change_to();
  const bool change =
      change_to != 0 && worker.prepared != nullptr && worker.prepared->generation == change_to;
  check(change || change_to == 0,
        concat("P15: worker ", worker.id, " has agreed to generation ", change_to, ", and has forgotten it"));
  if (!worker.leave.empty() && !change) return leave(worker, std::exchange(worker.leave, {}));
  if (result.stop) return finish(worker);
  if (change) return change_generation(worker);
  if (worker.forget) forget_prepared(worker);
  begin_step(worker);
}

/// By rank 0: all that it keeps.
void Simulation::tell_steps(Worker& worker) {
  if (worker.in->members.front().worker != worker.id) return;
  worker.known_steps = {worker.keeps_from, worker.applied};
  worker.up->send([this, term = term_, steps = worker.known_steps] {
    if (term != term_ || !coordinator_) return;
    record_steps(steps.first, steps.second);
    happen(StepsCommitted{steps.second});
  });
}

void Simulation::change_generation(Worker& worker) {
  const Generation before = std::exchange(worker.in, std::exchange(worker.prepared, nullptr));
  worker.forget = false;
  say(concat("worker ", worker.id, " changes to generation ", worker.in->generation));
  if (!setting_.orderly) gone_from(plane_of(before), worker.id, false);
  Plane& plane = plane_of(worker.in);
  if (!plane.members.contains(worker.id)) return exit(worker, "exited with status 0");
  check(!plane.base || *plane.base == worker.applied, "P2: ranks change to a generation at different steps");
  plane.base = worker.applied;
  plane.switched.insert(worker.id);
  if (!worker.leave.empty()) return leave(worker, std::exchange(worker.leave, {}));
  if (!plane.gone.empty())
    later(worker.id, dice_.between(milliseconds(1), milliseconds(20)), 0,
          [this, generation = plane.record->generation](Worker& one) {
            notice(one, generation, "a member is not there any more");
          });
  try_to_receive(plane);
  entered(worker);
}

void Simulation::finish(Worker& worker) {
  ++worker.doing;
  worker.phase = Phase::training;
  begin(worker, WorkPhase::waits);
  Plane& plane = plane_of(worker.in);
  plane.at_end.insert(worker.id);
  limit(worker, setting_.data_timeout, "the others did not come to the end within the time");
  if (plane.at_end.size() < plane.members.size()) return;
  for (const WorkerId id : plane.members)
    if (workers_.at(id).in == plane.record)
      wake(workers_.at(id), dice_.between(microseconds(100), milliseconds(10)), &Simulation::finished);
}

void Simulation::finished(Worker& worker) {
  ++worker.doing;
  worker.phase = Phase::finishing;
  report(worker, WorkerFinished{worker.id});
  later(worker.id, dice_.between(milliseconds(1), milliseconds(100)), worker.doing,
        [this](Worker& one) { exit(one, "exited with status 0"); });
}

// ---- out of a generation ------------------------------------------------------------------------------

void Simulation::exit(Worker& worker, const std::string& how) {
  const Generation in = worker.in;
  worker.phase = Phase::gone;
  if (!setting_.orderly && in != nullptr) gone_from(plane_of(in), worker.id, false);
  lose(worker, how);
}

void Simulation::kill(Worker& worker, const std::string& how, bool with_its_node) {
  if (worker.phase == Phase::gone) return;
  ++deaths_;
  if (worker.applied == 0 || !worker.complete) ++early_deaths_;
  worker.phase = Phase::gone;
  for (auto& [generation, plane] : planes_)
    if (plane.members.contains(worker.id)) gone_from(plane, worker.id, with_its_node);
  if (with_its_node) worker.up->cut();
  if (with_its_node)
    queue_.after(seconds(5), [this, &worker] { lose(worker, "was on a node that doesn't answer"); });
  else
    lose(worker, how);
}

void Simulation::lose(Worker& worker, const std::string& how) {
  say(concat("worker ", worker.id, " ", how));
  worker.up->send([this, term = term_, id = worker.id, how] {
    if (term == term_) happen(WorkerLost{id, how});
  });
}

/// The others' collectives can't end any more, which they learn at different times.
void Simulation::gone_from(Plane& plane, WorkerId id, bool silent) {
  if (!plane.gone.insert(id).second) return;
  const std::int64_t generation = plane.record->generation;
  const auto tell = [&](Worker& one) {
    const Duration after =
        silent ? setting_.data_timeout : dice_.between(microseconds(100), milliseconds(30));
    later(one.id, after, 0, [this, generation, id](Worker& each) {
      notice(each, generation, concat("worker ", id, " is gone"));
    });
  };
  for (const WorkerId member : plane.members) {
    const auto found = workers_.find(member);
    if (member != id && found != workers_.end() && found->second.phase != Phase::gone) tell(found->second);
  }
}

void Simulation::notice(Worker& worker, std::int64_t generation, const std::string& why) {
  if (worker.in != nullptr && worker.in->generation == generation) {
    // Who knows of the end of the last barrier has all it needs of the others.
    if (worker.phase != Phase::finishing) leave(worker, why);
  } else if (worker.prepared != nullptr && worker.prepared->generation == generation) {
    worker.forget = true;
    worker.forget_why = why;
    if (!worker.promised) forget_prepared(worker);
  }
}

void Simulation::forget_prepared(Worker& worker) {
  const Generation prepared = std::exchange(worker.prepared, nullptr);
  worker.forget = worker.connected = false;
  gone_from(plane_of(prepared), worker.id, false);
  if (!worker.forget_why.empty())
    report(worker, PreparationFailed{worker.id, prepared->generation, std::exchange(worker.forget_why, {})});
}

void Simulation::leave(Worker& worker, const std::string& why) {
  if (worker.phase == Phase::gone || worker.phase == Phase::finishing || worker.in == nullptr) return;
  // A pass of the optimizer is not broken off (P6).
  if (worker.phase == Phase::applying) {
    worker.leave = why;
    return;
  }
  if (setting_.bug == Bug::votes_after_its_report && worker.phase == Phase::training) {
    Step& collective = plane_of(worker.in).steps[worker.applied + 1];
    const bool summed = collective.contributed.size() == worker.in->members.size();
    if (summed && !collective.voted.contains(worker.id)) vote(worker);
  }
  check(worker.reduced || !plane_of(worker.in).steps[worker.applied + 1].voted.contains(worker.id),
        concat("P6: worker ", worker.id, " has voted for a step, and reports that it holds nothing of it"));
  ++worker.doing;
  worker.phase = Phase::waiting;
  begin(worker, WorkPhase::other);
  const Generation left = std::exchange(worker.in, nullptr);
  if (worker.prepared != nullptr)
    gone_from(plane_of(std::exchange(worker.prepared, nullptr)), worker.id, false);
  worker.connected = worker.promised = worker.forget = false;
  worker.forget_why.clear();
  gone_from(plane_of(left), worker.id, false);
  say(concat("worker ", worker.id, " leaves ", left->generation, ", applied ", worker.applied,
             worker.reduced ? " and one reduced" : "", worker.complete ? "" : ", incomplete", ": ", why));
  report(worker, WorkerLeft{worker.id, left->generation, standing(worker), why});
}

}  // namespace paceline::sim
