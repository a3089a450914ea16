#include "paceline/sched/coordinator.hpp"

#include <algorithm>
#include <tuple>

#include "paceline/base/assert.hpp"
#include "paceline/base/text.hpp"
#include "words.hpp"

namespace paceline {

Coordinator::Coordinator(CoordinatorOptions options)
    : options_(options),
      last_worker_(options.last_worker),
      last_generation_(options.last_generation),
      applied_(options.base_step) {
  PACELINE_ASSERT(
      options.min_ranks >= 1 && options.min_ranks <= options.wish && options.wish <= options.max_ranks,
      "a job wants between its least and its most ranks");
}

Coordinator::Roll::Roll(Generation from) : record(std::move(from)) {
  for (const GenerationMember& member : record->members) ranks.emplace(member.worker, ranks.size());
}

CoordinatorEffects Coordinator::begin(Instant now) {
  now_ = now;
  start_missing();
  return std::exchange(effects_, {});
}

CoordinatorEffects Coordinator::on(const CoordinatorEvent& event, Instant now) {
  now_ = now;
  if (state_ != State::ended) std::visit([this](const auto& one) { handle(one); }, event);
  // Nothing follows from a heartbeat by itself, and there are very many.
  if (state_ != State::ended && !std::holds_alternative<WorkerHeartbeat>(event)) advance();
  return std::exchange(effects_, {});
}

/// What follows from what is known by now, whichever event it was that told.
void Coordinator::advance() {
  if (workers_.empty() && (stop_at_ || state_ == State::finishing))
    return end_job(stop_at_ ? "stopped" : "completed", {}, "");
  start_missing();
  switch (state_) {
    case State::forming: return try_to_form();
    case State::running: return try_to_prepare();
    case State::repairing: return try_to_settle();
    case State::recording:
    case State::preparing:
    case State::finishing:
    case State::ended: return;
  }
}

std::string Coordinator::state_name() const {
  switch (state_) {
    case State::forming: return "forming";
    case State::recording: return "recording";
    case State::running: return "running";
    case State::preparing: return "preparing";
    case State::repairing: return "repairing";
    case State::finishing: return "finishing";
    case State::ended: return "ended";
  }
  return "?";
}

std::string Coordinator::describe(WorkerId id) const {
  const auto found = workers_.find(id);
  if (found == workers_.end()) return "gone";
  switch (found->second.stage) {
    case Stage::starting: return "starting";
    case Stage::waiting: return "waiting";
    case Stage::entering: return "joining";
    case Stage::training: return "training";
    case Stage::leaving: return "leaving";
    case Stage::left: return "between generations";
    case Stage::exiting: return "exiting";
    case Stage::ending: return "being ended";
  }
  return "?";
}

// ---- who is there -----------------------------------------------------------------------------------

std::int64_t Coordinator::number(Stage stage) const {
  return numbers_[static_cast<std::size_t>(stage)];
}

/// Workers that the job can count on.
std::int64_t Coordinator::live() const {
  const auto counts_anyway = std::ranges::count_if(draining_, [this](WorkerId id) {
    const Stage stage = workers_.at(id).stage;
    return stage != Stage::exiting && stage != Stage::ending;
  });
  return static_cast<std::int64_t>(workers_.size()) - number(Stage::exiting) - number(Stage::ending) -
         counts_anyway;
}

std::int64_t Coordinator::wanted() const {
  return std::min(options_.wish, options_.room);
}

bool Coordinator::is_survivor(const Worker& worker) const {
  return worker.stage == Stage::left && worker.standing.complete;
}

void Coordinator::set_stage(WorkerId id, Worker& worker, Stage stage, std::optional<Duration> limit) {
  survivors_ -= is_survivor(worker) ? 1 : 0;
  --numbers_[static_cast<std::size_t>(worker.stage)];
  worker.stage = stage;
  ++numbers_[static_cast<std::size_t>(stage)];
  survivors_ += is_survivor(worker) ? 1 : 0;
  if (stage == Stage::waiting && number(stage) == 1) waiting_since_ = now_;
  if (worker.deadline) deadlines_.erase({*worker.deadline, id});
  worker.deadline.reset();
  if (!limit) return;
  worker.deadline = now_ + *limit;
  deadlines_.emplace(*worker.deadline, id);
}

Coordinator::Workers::iterator Coordinator::forget(Workers::iterator found) {
  const auto& [id, worker] = *found;
  survivors_ -= is_survivor(worker) ? 1 : 0;
  --numbers_[static_cast<std::size_t>(worker.stage)];
  if (worker.deadline) deadlines_.erase({*worker.deadline, id});
  draining_.erase(id);
  return workers_.erase(found);
}

WorkerId Coordinator::admit(Instant now) {
  now_ = now;
  const WorkerId id = ++last_worker_;
  Worker& worker = workers_[id];
  ++numbers_[static_cast<std::size_t>(Stage::starting)];
  set_stage(id, worker, Stage::starting, options_.limits.ready);
  return id;
}

void Coordinator::start_missing() {
  if (stop_at_ || state_ == State::finishing || (start_at_ && now_ < *start_at_)) return;
  start_at_.reset();
  for (std::int64_t missing = wanted() - live(); missing > 0; --missing) want(StartWorker{admit(now_)});
}

/// Those who wait for a generation, the longest known first.
std::vector<WorkerId> Coordinator::joiners() const {
  std::vector<WorkerId> ids;
  for (const auto& [id, worker] : workers_)
    if (worker.stage == Stage::waiting) ids.push_back(id);
  return ids;
}

void Coordinator::dismiss(WorkerId id, Worker& worker) {
  set_stage(id, worker, Stage::exiting, options_.limits.exit);
  want(DismissWorker{id});
}

/// Nothing follows from it: for one that isn't needed any more.
void Coordinator::end_worker(WorkerId id, const std::string& why) {
  want(EndWorker{id, why});
  forget(workers_.find(id));
}

/// For one that is needed, but can't be waited for any longer; or only until it is dead.
void Coordinator::evict(WorkerId id, Worker& worker, const std::string& why) {
  want(Announce{Announce::Kind::warning, concat("worker ", id, " ", why, ", and is ended")});
  want(EndWorker{id, why});
  set_stage(id, worker, Stage::ending, options_.limits.exit);
  start_follows(worker, why);
}

void Coordinator::end_job(const std::string& status, std::optional<WorkerId> by, const std::string& why) {
  state_ = State::ended;
  want(EndJob{status, by, why});
}

// ---- workers that come ------------------------------------------------------------------------------

void Coordinator::handle(const WorkerReady& event) {
  const WorkerId id = event.member.worker;
  if (!workers_.contains(id)) {
    if (id <= last_worker_) return;  // it is gone already
    last_worker_ = id - 1;
    std::ignore = admit(now_);  // started by hand
  }
  Worker& worker = workers_.at(id);
  if (worker.stage != Stage::starting) return;
  worker.member = event.member;
  if (stop_at_ || state_ == State::finishing) return dismiss(id, worker);
  set_stage(id, worker, Stage::waiting);
}

void Coordinator::try_to_form() {
  if (writing_ != nullptr) return;
  // Where no more are started, the job begins with those who have come.
  const std::int64_t least = options_.min_ranks;
  const bool enough = number(Stage::waiting) >= (start_no_more() ? least : std::max(wanted(), least));
  if (!enough) return;
  GenerationRecord first;
  first.base_step = applied_;
  for (const WorkerId id : joiners())
    if (static_cast<std::int64_t>(first.members.size()) < options_.wish)
      first.members.push_back(workers_.at(id).member);
  first.reason = applied_ == 0 ? "the job begins" : "the job is resumed";
  record(std::move(first));
}

// ---- records ----------------------------------------------------------------------------------------

void Coordinator::record(GenerationRecord record) {
  PACELINE_ASSERT(writing_ == nullptr, "a record is written to its end before the next is begun");
  record.generation = ++last_generation_;
  record.term = options_.term;
  writing_ = std::make_shared<const GenerationRecord>(std::move(record));
  next_ = Roll(writing_);
  state_ = State::recording;
  writing_since_ = now_;
  want(RecordGeneration{writing_});
}

void Coordinator::record_again() {
  write_again_.reset();
  want(RecordGeneration{writing_});
}

void Coordinator::handle(const RecordWritten& event) {
  if (writing_ == nullptr || event.generation != writing_->generation || write_again_) return;
  if (state_ == State::finishing) return;
  if (event.result == RecordWritten::Result::exists) {
    state_ = State::ended;
    return want(
        EndJob{.status = "failed",
               .why = concat("generation ", event.generation,
                             " has been recorded by another coordinator, which has taken over: this one "
                             "must not go on"),
               .fenced = true});
  }
  if (event.result == RecordWritten::Result::failed) {
    if (now_ - writing_since_ >= options_.limits.record)
      return end_job("failed", {},
                     concat("generation ", event.generation, " could not be recorded for ",
                            to_seconds(options_.limits.record), " s: ", event.why));
    want(Announce{Announce::Kind::warning,
                  concat("cannot record generation ", event.generation, ", trying again: ", event.why)});
    write_again_ = now_ + options_.limits.record_again;
    return;
  }
  const Generation written = std::exchange(writing_, nullptr);
  if (state_ != State::recording) return;  // void by now: its number is spent
  if (is_next_whole()) return written->planned ? tell_prepared() : tell_formed();
  // Who was lost meanwhile cannot be a member. Nobody was told, so what the others said still holds.
  next_ = {};
  state_ = written->planned ? State::running : current_.record == nullptr ? State::forming : State::repairing;
}

bool Coordinator::is_next_whole() const {
  return std::ranges::all_of(next_.record->members, [this](const GenerationMember& member) {
    const auto found = workers_.find(member.worker);
    return found != workers_.end() && found->second.stage != Stage::exiting &&
           found->second.stage != Stage::ending;
  });
}

void Coordinator::tell_formed() {
  const bool repaired = current_.record != nullptr;
  if (repaired) note_attempt(next_.record->base_step);
  current_ = std::exchange(next_, {});
  state_ = State::running;
  entered_ = false;
  applied_ = std::max(applied_, current_.record->base_step);
  const std::size_t donors = current_.record->donors.size();
  for (auto& [id, worker] : workers_) {
    const auto rank = current_.ranks.find(id);
    if (rank != current_.ranks.end()) {
      worker.generation = current_.record->generation;
      worker.receives = donors > 0 && rank->second >= donors;
      worker.shed = false;
      set_stage(id, worker, Stage::entering, options_.limits.enter);
      want(FormGeneration{id, current_.record});
      if (stop_at_) want(StopTraining{id});
    } else if (is_survivor(worker)) {
      dismiss(id, worker);  // there is no place for it any more
    } else if (worker.stage == Stage::left) {
      set_stage(id, worker, Stage::waiting);
    }
  }
  announce_generation();
}

/// That the current one is what is trained in.
void Coordinator::announce_generation() {
  const GenerationRecord& record = *current_.record;
  CoordinatorHistory& history = options_.history;
  const bool first = history.announced == 0;
  history.announced = record.generation;
  if (record.planned)
    ++history.resizes;
  else if (!first)
    ++history.repairs;
  const std::string from = record.planned ? "" : concat(" from step ", record.base_step + 1);
  want(Announce{Announce::Kind::generation,
                concat("generation ", record.generation, ": ", count(ranks_of(current_.record), "rank"), from,
                       ", ", record.reason)});
}

void Coordinator::handle(const WorkerEntered& event) {
  const auto found = workers_.find(event.worker);
  if (found == workers_.end() || event.generation > last_generation_) return;
  auto& [id, worker] = *found;
  if (event.generation < worker.generation) return;
  const bool in_one =
      worker.stage == Stage::entering || worker.stage == Stage::training || worker.stage == Stage::leaving;
  if (!in_one) return;
  if (state_ == State::preparing && next_.is(event.generation) && next_.has(id)) changed_to_next();
  const bool unexpected = event.generation > worker.generation && !current_.is(event.generation);
  worker.generation = event.generation;
  if (unexpected && state_ != State::repairing && state_ != State::finishing)
    return begin_repair(concat("the ranks had changed to generation ", event.generation,
                               " before they knew that it was given up"));
  if (!current_.is(event.generation) || !current_.has(id) || worker.stage != Stage::entering) return;
  if (!std::exchange(worker.trained, true)) start_without_pause();
  set_stage(id, worker, Stage::training);
  if (number(Stage::entering) == 0) entered_ = true;
}

void Coordinator::handle(const StepsCommitted& event) {
  applied_ = std::max(applied_, event.applied);
}

// ---- workers that go --------------------------------------------------------------------------------

void Coordinator::handle(const WorkerLost& event) {
  const auto found = workers_.find(event.worker);
  if (found == workers_.end()) return;
  const Worker worker = found->second;
  forget(found);
  if (worker.stage == Stage::exiting || worker.stage == Stage::ending || state_ == State::finishing) return;
  start_follows(worker, event.how);
  missed(event.worker, worker.stage, concat("worker ", event.worker, " ", event.how));
}

/// What it means for the others that a worker is lost or evicted which was in this stage.
void Coordinator::missed(WorkerId id, Stage stage, const std::string& what) {
  if (state_ == State::repairing && reason_is_hearsay_) {  // what the others only saw the effects of
    repair_reason_ = what;
    reason_is_hearsay_ = false;
  }
  if (state_ == State::ended || state_ == State::repairing || state_ == State::forming) return;
  if (stage == Stage::waiting || stage == Stage::starting || stage == Stage::left)
    return;  // a record that has it is looked at once it is written
  if (current_.has(id)) {
    // One that the prepared generation goes on without exits by itself when the ranks have changed to it. If
    // they have not, and it has died, the others can't go on, and say so.
    if (state_ == State::preparing && !next_.has(id)) return;
    return begin_repair(what);
  }
  if (state_ == State::preparing && next_.has(id)) give_up_next(what);
}

/// What the loss of one says about the start of others.
void Coordinator::start_follows(const Worker& lost, const std::string& how) {
  if (lost.trained)
    start_at_.reset();  // what new ones lacked, it may have had
  else
    start_failed(how);
}

/// A worker was lost that had not trained yet.
void Coordinator::start_failed(const std::string& how) {
  const CoordinatorLimits& limits = options_.limits;
  if (++start_failures_ < limits.start_failures) return;
  const std::string text =
      concat(start_failures_, " workers in a row were lost before they could train; the last ", how);
  if (current_.record == nullptr && live() < options_.min_ranks) return end_job("failed", {}, text);
  if (start_at_) return;  // one more of those that were started before the pause
  start_pause_ = start_pause_ == Duration::zero() ? limits.start_again
                                                  : std::min(2 * start_pause_, limits.start_again_most);
  start_at_ = now_ + start_pause_;
  want(Announce{Announce::Kind::warning,
                concat(text, "; no more are started for ", to_seconds(start_pause_), " s")});
}

void Coordinator::start_without_pause() {
  start_failures_ = 0;
  start_pause_ = {};
  start_at_.reset();
}

/// Those who are there are all that there will be for a while.
bool Coordinator::start_no_more() const {
  return start_at_ && number(Stage::starting) == 0;
}

void Coordinator::handle(const WorkerLeft& event) {
  const auto found = workers_.find(event.worker);
  if (found == workers_.end()) return;
  auto& [id, worker] = *found;
  // The others went on without it, and it can't know: the commit that said so didn't reach it.
  if (worker.stage == Stage::exiting) return want(DismissWorker{id});
  const bool in_one =
      worker.stage == Stage::entering || worker.stage == Stage::training || worker.stage == Stage::leaving;
  // What it says of a generation before the one it is in is old.
  if (!in_one || event.generation < worker.generation || event.generation > last_generation_) return;
  if (state_ == State::finishing) return dismiss(id, worker);  // the results are safe without it
  const std::string why = concat("worker ", id, " left generation ", event.generation, ": ", event.why);
  const bool invited = state_ == State::preparing && next_.is(event.generation) && next_.has(id);
  if (invited && (current_.has(id) || event.standing.complete)) changed_to_next();
  const bool has_trained_elsewhere = !current_.has(id) && event.standing.complete;
  worker.generation = event.generation;
  worker.standing = event.standing;
  set_stage(id, worker, Stage::left);
  if (state_ == State::repairing) return;
  if (current_.has(id) || has_trained_elsewhere) {
    begin_repair(why);
    reason_is_hearsay_ = true;
    return;
  }
  set_stage(id, worker, Stage::waiting);
  if (invited) give_up_next(why);
}

void Coordinator::handle(const WorkerFailed& event) {
  const auto found = workers_.find(event.worker);
  if (found == workers_.end() || state_ == State::finishing) return;
  const Worker& worker = found->second;
  if (worker.stage == Stage::exiting || worker.stage == Stage::ending) return;
  // One that is yet to join is not worth the job.
  const bool joins = worker.stage == Stage::starting || worker.stage == Stage::waiting || worker.receives;
  if (current_.record != nullptr && joins && !worker.trained) {
    want(Announce{Announce::Kind::warning, concat("worker ", event.worker, " could not join: ", event.why)});
    want(EndWorker{event.worker, "it failed"});
    return handle(WorkerLost{event.worker, concat("failed: ", event.why)});
  }
  end_job("failed", event.worker, event.why);
}

// ---- the end ----------------------------------------------------------------------------------------

void Coordinator::handle(const StopWanted&) {
  if (stop_at_ || state_ == State::finishing) return;
  stop_at_ = now_;
  if (state_ == State::preparing) give_up_next("the job stops");
  for (auto each = workers_.begin(); each != workers_.end();) {
    auto& [id, worker] = *each++;
    if (worker.stage == Stage::exiting || worker.stage == Stage::ending) continue;
    if (worker.stage == Stage::waiting || (worker.stage == Stage::left && !is_survivor(worker)))
      dismiss(id, worker);
    else if (is_survivor(worker) || current_.has(id))
      want(StopTraining{id});
    else
      end_worker(id, "the job stops");
  }
}

void Coordinator::handle(const WorkerFinished& event) {
  const auto found = workers_.find(event.worker);
  if (found == workers_.end()) return;
  const Stage stage = found->second.stage;
  if (stage != Stage::entering && stage != Stage::training && stage != Stage::leaving) return;
  set_stage(event.worker, found->second, Stage::exiting, options_.limits.exit);
  if (state_ == State::finishing) return;
  state_ = State::finishing;
  finish_at_ = now_;
  next_ = {};
  for (auto each = workers_.begin(); each != workers_.end();) {
    auto& [id, worker] = *each++;
    if (worker.stage == Stage::exiting || worker.stage == Stage::ending) continue;
    if (worker.stage == Stage::waiting || worker.stage == Stage::left)
      dismiss(id, worker);
    else if (!current_.has(id))
      end_worker(id, "the job is done");
  }
}

// ---- time -------------------------------------------------------------------------------------------

/// A worker has used up the time for what it is waited for. The reason for a repair, where that follows.
std::string Coordinator::overdue(WorkerId id) {
  const CoordinatorLimits& limits = options_.limits;
  const auto late = [](const char* what, Duration limit) {
    return concat("did not ", what, " within ", to_seconds(limit), " s");
  };
  Worker& worker = workers_.at(id);
  switch (worker.stage) {
    case Stage::starting: evict(id, worker, late("become ready", limits.ready)); return {};
    case Stage::leaving: evict(id, worker, late("leave its generation", limits.report)); return {};
    case Stage::exiting: want(EndWorker{id, late("exit", limits.exit)}); [[fallthrough]];
    case Stage::ending: forget(workers_.find(id)); return {};
    case Stage::entering: {
      // All wait for all here, so that whose fault it is can't be told: they are asked to leave, and who
      // doesn't answer is ended for that. Joiners are easy to replace, so they are not given another chance.
      const std::string why = late("begin to train", limits.enter);
      if (worker.receives)
        evict(id, worker, why);
      else
        set_stage(id, worker, Stage::entering);
      return concat("worker ", id, " ", why);
    }
    case Stage::waiting:
    case Stage::training:
    case Stage::left: break;
  }
  PACELINE_ASSERT(false, "nothing is waited for in this stage");
  return {};
}

void Coordinator::handle(const Tick&) {
  std::string repair;
  while (state_ != State::ended && !deadlines_.empty() && deadlines_.begin()->first <= now_) {
    const std::string why = overdue(deadlines_.begin()->second);
    if (!why.empty()) repair = why;
  }
  if (!repair.empty() && state_ == State::running) begin_repair(repair);
  if (state_ == State::ended) return;
  if (is_to_look() && now_ >= *look_at_) look_after_workers();
  if (state_ == State::ended) return;
  if (write_again_ && now_ >= *write_again_ && state_ != State::finishing) record_again();
  if (state_ == State::preparing && now_ >= prepare_until_)
    give_up_next(concat("not all were ready within ", to_seconds(options_.limits.enter), " s"));
  // Once somebody has finished, the results are safe.
  if (stop_at_ && now_ >= finish_at_.value_or(*stop_at_) + options_.limits.stop)
    return end_job("stopped", {},
                   concat("the ranks did not stop within ", to_seconds(options_.limits.stop), " s"));
  if (finish_at_ && now_ >= *finish_at_ + options_.limits.finish)
    end_job("failed", {},
            concat("a rank was still not finished ", to_seconds(options_.limits.finish), " s after another"));
}

std::optional<Instant> Coordinator::wake() const {
  if (state_ == State::ended) return std::nullopt;
  std::optional<Instant> first;
  const auto consider = [&first](Instant at) { first = first ? std::min(*first, at) : at; };
  if (!deadlines_.empty()) consider(deadlines_.begin()->first);
  if (start_at_ && !stop_at_ && state_ != State::finishing) consider(*start_at_);
  if (is_to_look()) consider(*look_at_);
  if (write_again_ && state_ != State::finishing) consider(*write_again_);
  if (state_ == State::running && is_to_change_size()) consider(prepare_at());
  if (state_ == State::preparing) consider(prepare_until_);
  if (stop_at_) consider(finish_at_.value_or(*stop_at_) + options_.limits.stop);
  if (finish_at_) consider(*finish_at_ + options_.limits.finish);
  return first;
}

}  // namespace paceline
