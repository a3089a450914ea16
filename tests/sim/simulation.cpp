#include "simulation.hpp"

#include <algorithm>

#include "paceline/base/text.hpp"

namespace paceline::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// Long enough for every limit that there is, several times over.
constexpr Duration patience = std::chrono::minutes(20);

}  // namespace

Setting Setting::random(std::uint64_t seed) {
  Dice dice(mix64(seed, 77));
  const auto some = [&dice](std::int64_t most) { return dice.one_in(2) ? 0 : dice.between(1, most); };
  Setting setting;
  setting.seed = seed;
  setting.job.min_ranks = dice.one_in(3) ? dice.between(1, 3) : 1;
  setting.job.max_ranks = setting.job.min_ranks + dice.between(0, 8);
  setting.job.wish = dice.between(setting.job.min_ranks, setting.job.max_ranks);
  if (dice.one_in(2)) setting.job.wish = setting.job.max_ranks;
  setting.steps = dice.between(20, 120);
  setting.orderly = dice.one_in(2);
  setting.entered_early = dice.one_in(2);
  setting.compute = dice.between(milliseconds(5), milliseconds(60));
  setting.calm = seconds(8);
  setting.kills = some(5);
  setting.eager_kills = some(4);
  setting.nodes = dice.one_in(4) ? 1 : 0;
  setting.freezes = some(4);
  setting.stalls = some(6);
  setting.reconnects = dice.one_in(3) ? dice.between(1, 8) : 0;
  setting.resizes = some(6);
  setting.by_hand = dice.one_in(4) ? dice.between(1, 2) : 0;
  setting.stop = dice.one_in(12);
  setting.bad_starts = dice.one_in(8) ? 4 : 0;
  setting.bad_records = dice.one_in(4) ? 3 : 0;
  setting.fenced = dice.one_in(60);
  setting.deadly = dice.one_in(6);
  if (dice.one_in(8)) setting.heartbeat = Duration::zero();
  if (dice.one_in(3)) setting.data_timeout = seconds(200);
  setting.hangs = dice.one_in(4) ? dice.between(1, 2) : 0;
  setting.crashes = dice.one_in(3) ? dice.between(1, 4) : 0;
  setting.hung_sums = dice.one_in(4) ? 1 : 0;
  return setting;
}

Simulation::Simulation(Setting setting)
    : setting_(setting),
      dice_(setting.seed),
      coordinator_(std::in_place, setting.job),
      wish_(setting.job.wish),
      eager_left_(setting.eager_kills) {
}

Outcome Simulation::run() {
  plan_faults();
  follow(coordinator_->begin(queue_.now()));
  schedule_tick();
  const Instant late = queue_.now() + setting_.calm + patience;
  while (!end_ && outcome_.violation.empty()) {
    if (!queue_.step()) check(false, "nothing happens any more, and the job has not ended");
    check(queue_.now() < late, "the job has not ended long after the last fault");
  }
  if (end_) outcome_.status = end_->status;
  outcome_.lasted = queue_.now().time_since_epoch();
  if (end_) outcome_.why = end_->why;
  outcome_.repairs = journal_.repairs;
  outcome_.resizes = journal_.resizes;
  outcome_.applied = std::ssize(committed_);
  return std::move(outcome_);
}

/// A wake-up of a worker: not before it thaws, and not if it is gone or does something else by then.
void Simulation::later(WorkerId id, Duration after, std::uint64_t doing, std::function<void(Worker&)> what) {
  queue_.after(after, [this, id, doing, what = std::move(what)] { wake_up(id, doing, what); });
}

void Simulation::wake_up(WorkerId id, std::uint64_t doing, const std::function<void(Worker&)>& what) {
  Worker& worker = workers_.at(id);
  if (worker.phase == Phase::gone) return;
  const Instant thaws = std::max(worker.frozen_until, worker.hangs_until);
  if (thaws > queue_.now())
    return queue_.again_at(thaws, [this, id, doing, what] { wake_up(id, doing, what); });
  if (doing == 0 || doing == worker.doing) what(worker);
}

// ---- the coordinator ----------------------------------------------------------------------------------

void Simulation::report(Worker& worker, CoordinatorEvent event) {
  say_to_agent(worker.id, event);
  worker.up->send([this, term = term_, event = std::move(event)] {
    if (term == term_) happen(event);
  });
}

void Simulation::happen(const CoordinatorEvent& event) {
  if (end_ || !coordinator_) return;
  const Coordinator::State before = coordinator_->state();
  follow(coordinator_->on(event, queue_.now()));
  if (!coordinator_) return;  // it was fenced
  check(before != Coordinator::State::ended || coordinator_->state() == Coordinator::State::ended,
        "an ended job goes on");
  if (std::holds_alternative<Tick>(event)) {
    const auto wake = coordinator_->wake();
    check(!wake || *wake > queue_.now(), "a Tick left undone what it was due for");
  }
  schedule_tick();
}

void Simulation::schedule_tick() {
  const auto wake = coordinator_ ? coordinator_->wake() : std::nullopt;
  if (!wake || end_) return;
  queue_.at(std::max(*wake, queue_.now()), [this, tick = ++tick_] {
    if (tick == tick_) happen(Tick{});
  });
}

void Simulation::follow(const CoordinatorEffects& effects) {
  const std::int64_t term = term_;
  for (const CoordinatorEffect& effect : effects)
    if (term == term_) std::visit([this](const auto& one) { do_it(one); }, effect);
}

void Simulation::do_it(const StartWorker& effect) {
  say(concat("worker ", effect.worker, " is to start"));
  queue_.after(dice_.between(milliseconds(1), milliseconds(50)), [this, term = term_, id = effect.worker] {
    if (term == term_) start(id);
  });
}

void Simulation::do_it(const RecordGeneration& effect) {
  say(concat("record generation ", effect.record->generation, ", ", effect.record->members.size(),
             effect.record->planned ? " planned, " : ", ", effect.record->reason));
  check_record(effect.record);
  queue_.after(dice_.one_in(10) ? seconds(2) : dice_.between(milliseconds(1), milliseconds(50)),
               [this, record = effect.record] { write(record); });
}

/// By the coordinator that wanted it, or, where that has lost its office meanwhile, by a dead one that wakes
/// up once more: it finds its number taken, or takes it.

void Simulation::write(const Generation& record) {
  const std::int64_t generation = record->generation;
  if (record->term != term_) {
    if (dice_.one_in(2) && written_.emplace(generation, record).second) by_the_dead_.insert(generation);
    return;
  }
  const auto there = written_.find(generation);
  if (there != written_.end() && there->second->term != term_)
    return happen(RecordWritten{generation, RecordWritten::Result::exists, ""});
  const bool faults = queue_.now().time_since_epoch() < setting_.calm;
  if (faults && setting_.fenced && !fenced_ && dice_.one_in(2)) {
    fenced_ = true;
    return happen(RecordWritten{generation, RecordWritten::Result::exists, ""});
  }
  const bool fails = faults && setting_.bad_records > 0 && dice_.one_in(setting_.bad_records);
  // A failed attempt may have written it: the next reads it back, and finds its own.
  if (!fails || dice_.one_in(2)) written_[generation] = record;
  if (fails) return happen(RecordWritten{generation, RecordWritten::Result::failed, "no space"});
  acknowledged_.insert(generation);
  happen(RecordWritten{generation, RecordWritten::Result::written, ""});
  if (dice_.one_in(10)) happen(RecordWritten{generation, RecordWritten::Result::written, ""});
}

template <class Effect>
void Simulation::tell(const Effect& effect) {
  const auto found = workers_.find(effect.worker);
  if (found == workers_.end()) return;
  found->second.down->send([this, term = term_, effect] {
    if (term != term_) return;
    said_by_agent(effect.worker, effect);
    later(effect.worker, Duration(0), 0, [this, effect](Worker& one) { told(one, effect); });
  });
}

void Simulation::do_it(const FormGeneration& effect) {
  check_told(effect.record);
  check(workers_.contains(effect.worker), "an unknown worker is told to form a generation");
  tell(effect);
}
void Simulation::do_it(const PrepareGeneration& effect) {
  check_told(effect.record);
  tell(effect);
}
void Simulation::do_it(const AbandonGeneration& effect) {
  tell(effect);
}
void Simulation::do_it(const LeaveGeneration& effect) {
  tell(effect);
}
void Simulation::do_it(const StopTraining& effect) {
  tell(effect);
}
void Simulation::do_it(const DismissWorker& effect) {
  say(concat("worker ", effect.worker, " is dismissed"));
  if (workers_.contains(effect.worker)) workers_.at(effect.worker).evicted = true;
  tell(effect);
}

/// By its agent: a frozen one too, and one that is only about to be started.
void Simulation::do_it(const EndWorker& effect) {
  say(concat("worker ", effect.worker, " is ended: ", effect.why));
  check_accused(effect);
  const WorkerId id = effect.worker;
  queue_.after(milliseconds(60), [this, term = term_, id] {
    if (term != term_) return;
    start(id);
    Worker& worker = workers_.at(id);
    worker.down->send([this, term, &worker] {
      if (term != term_) return;
      worker.known.ending = true;
      if (worker.phase != Phase::gone) kill(worker, "was killed by signal 9 (Killed)", false);
    });
  });
  if (workers_.contains(id)) workers_.at(id).evicted = true;
}

void Simulation::do_it(const Announce& effect) {
  say(effect.text);
  if (effect.kind != Announce::Kind::generation) return;
  const GenerationRecord& record = *coordinator_->generation();
  check(record.generation > journal_.announced, "a generation is announced twice, or too late");
  const bool first = announced_.empty();
  announced_.insert(record.generation);
  journal_.announced = record.generation;
  if (record.planned)
    ++journal_.resizes;
  else if (!first)
    ++journal_.repairs;
  check(coordinator_->repairs() == journal_.repairs && coordinator_->resizes() == journal_.resizes,
        "a coordinator counts otherwise than its job's journal");
}

void Simulation::do_it(const EndJob& effect) {
  check(!end_, "a job ends twice");
  if (effect.fenced && !by_the_dead_.empty()) return crash();
  end_ = effect;
  check_end(effect);
}

// ---- coordinators that are lost -------------------------------------------------------------------------

/// What its agent remembers of a worker.
void Simulation::say_to_agent(WorkerId id, const CoordinatorEvent& event) {
  FoundWorker& known = workers_.at(id).known;
  if (const auto* ready = std::get_if<WorkerReady>(&event)) {
    known.ready = true;
    known.member = ready->member;
  } else if (const auto* entered = std::get_if<WorkerEntered>(&event)) {
    known.entered = entered->generation;
    known.left.reset();
  } else if (const auto* left = std::get_if<WorkerLeft>(&event)) {
    known.left = *left;
    known.told = 0;
  } else if (std::holds_alternative<WorkerFinished>(event)) {
    known.finished = true;
  } else if (const auto* heartbeat = std::get_if<WorkerHeartbeat>(&event)) {
    known.heartbeat = *heartbeat;
  }
}

void Simulation::said_by_agent(WorkerId id, const CoordinatorEffect& effect) {
  FoundWorker& known = workers_.at(id).known;
  if (const auto* form = std::get_if<FormGeneration>(&effect))
    known.told = std::max(known.told, form->record->generation);
  if (const auto* prepare = std::get_if<PrepareGeneration>(&effect))
    known.told = std::max(known.told, prepare->record->generation);
  if (std::holds_alternative<StopTraining>(effect)) known.stopping = true;
  if (std::holds_alternative<DismissWorker>(effect)) known.dismissed = true;
}

/// Of an agent, and so on their way to all workers as what need not be kept.
void Simulation::record_steps(std::int64_t from, std::int64_t to) {
  check(from <= recorded_ + 1, concat("I3: steps ", recorded_ + 1, " to ", from - 1,
                                      " were committed, and the journal can't have them"));
  if (to <= recorded_) return;
  recorded_ = to;
  queue_.after(milliseconds(2), [this, to] {
    for (auto& [id, worker] : workers_) worker.keeps_from = std::max(worker.keeps_from, to + 1);
  });
}

void Simulation::crash() {
  if (!coordinator_ || end_) return;
  say(concat("the coordinator of term ", term_, " is lost"));
  coordinator_.reset();
  ++term_;  // nobody listens to what it has sent
  ++tick_;
  queue_.after(dice_.between(milliseconds(50), seconds(4)), [this] { take_over(); });
}

void Simulation::take_over() {
  CoordinatorOptions options = setting_.job;
  options.term = term_;
  options.wish = wish_;
  options.history = journal_;
  std::vector<Generation> records;
  for (const auto& [number, record] : written_) {
    records.push_back(record);
    acknowledged_.insert(number);
  }
  std::vector<FoundWorker> found;
  for (auto& [id, worker] : workers_) {
    if (worker.phase == Phase::gone && !worker.known.finished) continue;
    worker.known.member.worker = id;
    worker.known.gone = worker.phase == Phase::gone;
    found.push_back(worker.known);
    record_steps(worker.known_steps.first, worker.known_steps.second);
  }
  options.base_step = dice_.between(std::int64_t{0}, recorded_);  // it need not rely on all that is there
  say(concat("the coordinator of term ", term_, " takes over, with ", found.size(), " workers and ",
             records.size(), " records"));
  coordinator_.emplace(options);
  follow(coordinator_->take_over(records, found, queue_.now()));
  if (coordinator_ && stop_sent_) happen(StopWanted{});
  schedule_tick();
}

// ---- faults -------------------------------------------------------------------------------------------

Simulation::Worker* Simulation::any_worker() {
  std::vector<Worker*> there;
  for (auto& [id, worker] : workers_)
    if (worker.phase != Phase::gone) there.push_back(&worker);
  if (there.empty()) return nullptr;
  return there[static_cast<std::size_t>(dice_.between(0, std::ssize(there) - 1))];
}

/// Faults leave somebody to go on with, unless they are to be deadly.
bool Simulation::may_die(const Worker& worker) const {
  if (setting_.deadly) return true;
  std::int64_t others = 0;
  for (const auto& [id, one] : workers_)
    others +=
        id != worker.id && one.phase != Phase::gone && one.complete && !one.evicted && one.in != nullptr;
  return others > 0 || (!worker.complete && committed_.empty());
}

void Simulation::plan_faults() {
  const auto plan = [this](std::int64_t number, void (Simulation::*fault)()) {
    for (std::int64_t i = 0; i < number; ++i)
      queue_.at(Instant{} + dice_.between(seconds(1), setting_.calm), [this, fault] {
        ++disturbances_;
        (this->*fault)();
      });
  };
  plan(setting_.kills, &Simulation::strike);
  plan(setting_.nodes, &Simulation::lose_node);
  plan(setting_.freezes, &Simulation::freeze);
  plan(setting_.hangs, &Simulation::hang);
  plan(setting_.hung_sums, &Simulation::hang_sums);
  plan(setting_.stalls, &Simulation::stall);
  plan(setting_.reconnects, &Simulation::reconnect);
  plan(setting_.resizes, &Simulation::resize);
  plan(setting_.by_hand, &Simulation::start_by_hand);
  plan(setting_.stop ? 1 : 0, &Simulation::stop);
  plan(setting_.crashes, &Simulation::crash);
}

void Simulation::strike() {
  const std::int64_t there = std::ssize(workers_);
  const std::int64_t fate = dice_.between(1, 20);
  const std::int64_t number = fate <= 12 ? 1 : fate <= 17 ? 2 : fate <= 19 ? there / 2 : there;
  for (std::int64_t i = 0; i < number; ++i)
    if (Worker* worker = any_worker(); worker != nullptr && may_die(*worker))
      kill(*worker, "was killed by signal 9 (Killed)", false);
}

void Simulation::lose_node() {
  if (Worker* worker = any_worker(); worker != nullptr && may_die(*worker)) kill(*worker, "", true);
}

void Simulation::freeze() {
  Worker* worker = any_worker();
  if (worker == nullptr) return;
  const std::int64_t kind = dice_.between(1, 10);
  const Duration takes = kind <= 6   ? dice_.between(milliseconds(20), seconds(2))
                         : kind <= 9 ? dice_.between(seconds(5), seconds(40))
                                     : dice_.between(seconds(60), seconds(200));
  say(concat("worker ", worker->id, " freezes for ", to_ms(takes), " ms"));
  worker->frozen_until = std::max(worker->frozen_until, queue_.now() + takes);
}

/// In its own part of a step: who waits for others has time-outs.
void Simulation::hang() {
  Worker* worker = any_worker();
  if (worker == nullptr || (worker->does != WorkPhase::data && worker->does != WorkPhase::compute)) return;
  const Duration takes = dice_.between(seconds(1), seconds(150));
  say(concat("worker ", worker->id, " hangs for ", to_ms(takes), " ms"));
  worker->hangs_until = std::max(worker->hangs_until, queue_.now() + takes);
}

void Simulation::hang_sums() {
  Worker* worker = any_worker();
  if (worker == nullptr || worker->phase != Phase::training) return;
  say(concat("the sums of generation ", worker->in->generation, " hang"));
  plane_of(worker->in).hangs = true;
}

void Simulation::stall() {
  Worker* worker = any_worker();
  if (worker == nullptr) return;
  (dice_.one_in(2) ? worker->up : worker->down)->stall(dice_.between(milliseconds(10), seconds(3)));
  worker->stalled_until = worker->up->stalled_until();
}

void Simulation::reconnect() {
  Worker* worker = any_worker();
  if (worker == nullptr) return;
  say(concat("the links of worker ", worker->id, " are made anew"));
  worker->up->reconnect();
  worker->down->reconnect();
  worker->stalled_until = worker->up->stalled_until();
}

void Simulation::resize() {
  const std::int64_t ranks = dice_.between(1, setting_.job.max_ranks + 1);
  say(concat("somebody wants ", ranks, " ranks"));
  if (coordinator_) wish_ = std::clamp(ranks, setting_.job.min_ranks, setting_.job.max_ranks);
  happen(ResizeWanted{ranks});
}

void Simulation::start_by_hand() {
  if (!coordinator_) return;
  const WorkerId id = dice_.one_in(2) ? coordinator_->admit(queue_.now()) : 1000 + std::ssize(workers_);
  say(concat("worker ", id, " is started by hand"));
  start(id);
  schedule_tick();
}

void Simulation::stop() {
  say("somebody wants it to stop");
  stop_sent_ = true;
  happen(StopWanted{});
}

void Simulation::maybe_die(Worker& worker, const char* where) {
  if (eager_left_ == 0 || queue_.now().time_since_epoch() > setting_.calm ||
      !dice_.one_in(setting_.eager_chances) || !may_die(worker))
    return;
  --eager_left_;
  ++disturbances_;
  kill(worker, concat("died ", where), false);
}

}  // namespace paceline::sim
