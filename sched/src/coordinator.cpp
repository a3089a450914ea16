#include "paceline/sched/coordinator.hpp"

#include <algorithm>

#include "paceline/base/assert.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

using State = Coordinator::State;

std::string count(std::int64_t number, const char* what) {
  return concat(number, " ", what, number == 1 ? "" : "s");
}

bool has(const Generation& record, WorkerId id) {
  return record != nullptr &&
         std::ranges::any_of(record->members, [id](const auto& member) { return member.worker == id; });
}

}  // namespace

Coordinator::Coordinator(CoordinatorOptions options)
    : options_(options), last_generation_(options.last_generation), applied_(options.base_step) {
  PACELINE_ASSERT(
      options.min_ranks >= 1 && options.min_ranks <= options.wish && options.wish <= options.max_ranks,
      "a job wants between its least and its most ranks");
}

CoordinatorEffects Coordinator::begin(Instant now) {
  now_ = now;
  start_missing();
  return std::exchange(effects_, {});
}

CoordinatorEffects Coordinator::on(const CoordinatorEvent& event, Instant now) {
  now_ = now;
  if (state_ != State::ended) std::visit([this](const auto& one) { handle(one); }, event);
  return std::exchange(effects_, {});
}

// ---- who is there -----------------------------------------------------------------------------------

bool Coordinator::is_member(WorkerId id) const {
  return has(current_, id);
}

/// Whether it may be in a generation, and so must be asked how far it came.
bool Coordinator::is_told(WorkerId id) const {
  const auto found = workers_.find(id);
  return found != workers_.end() && found->second.told > 0;
}

/// Those who wait for a generation, the longest waiting first.
std::vector<WorkerId> Coordinator::ready_joiners() const {
  std::vector<WorkerId> joiners;
  for (const auto& [id, worker] : workers_)
    if (worker.ready && !worker.ending && !worker.complete && !is_member(id)) joiners.push_back(id);
  return joiners;
}

std::int64_t Coordinator::starting() const {
  return std::ranges::count_if(workers_,
                               [](const auto& each) { return !each.second.ready && !each.second.ending; });
}

void Coordinator::start_missing() {
  if (start_no_more_ || stop_at_) return;
  const auto live = std::ranges::count_if(workers_, [](const auto& each) { return !each.second.ending; });
  for (std::int64_t missing = options_.wish - live; missing > 0; --missing) {
    workers_[++last_worker_].since = now_;
    want(StartWorker{last_worker_});
  }
}

void Coordinator::end_worker(WorkerId id, const std::string& why) {
  Worker& worker = workers_.at(id);
  if (worker.ending) return;
  worker.ending = true;
  want(EndWorker{id, why});
}

void Coordinator::end_job(const std::string& status, std::optional<WorkerId> by, const std::string& why) {
  state_ = State::ended;
  want(EndJob{status, by, why});
}

// ---- workers that come ------------------------------------------------------------------------------

void Coordinator::handle(const WorkerReady& event) {
  const WorkerId id = event.member.worker;
  last_worker_ = std::max(last_worker_, id);
  Worker& worker = workers_[id];  // unknown: started by hand
  if (worker.ready) return;
  worker.member = event.member;
  worker.ready = true;
  worker.since = now_;
  if (stop_at_ || state_ == State::finishing) {
    worker.ending = true;
    return want(DismissWorker{id});
  }
  if (!ready_since_) ready_since_ = now_;
  if (state_ == State::forming) return try_to_form();
  if (state_ == State::repairing) return try_to_settle();
  try_to_prepare();
}

void Coordinator::try_to_form() {
  const std::vector<WorkerId> ready = ready_joiners();
  const auto ranks = static_cast<std::int64_t>(ready.size());
  // Who was not able to start does not come any more.
  const std::int64_t wanted = start_no_more_ ? options_.min_ranks + starting() : options_.wish;
  if (ranks < wanted || ranks < options_.min_ranks) return;
  GenerationRecord first;
  first.base_step = applied_;
  for (const WorkerId id : ready) first.members.push_back(workers_.at(id).member);
  first.reason = "the job begins";
  record(std::move(first));
}

// ---- records ----------------------------------------------------------------------------------------

void Coordinator::record(GenerationRecord record) {
  record.generation = ++last_generation_;
  record.term = options_.term;
  next_ = std::make_shared<const GenerationRecord>(std::move(record));
  state_ = State::recording;
  ready_since_.reset();
  record_since_ = now_;
  write_record();
}

void Coordinator::write_record() {
  record_pending_ = true;
  want(RecordGeneration{next_});
}

void Coordinator::handle(const RecordWritten& event) {
  if (state_ != State::recording || event.generation != next_->generation || !record_pending_) return;
  record_pending_ = false;
  if (event.result == RecordWritten::Result::exists)
    return end_job("failed", {},
                   concat("generation ", event.generation,
                          " has been recorded by another coordinator, "
                          "which has taken over: this one must not go on"));
  if (event.result == RecordWritten::Result::failed) {
    if (now_ - record_since_ >= options_.limits.record)
      return end_job("failed", {},
                     concat("generation ", event.generation, " could not be recorded for ",
                            to_seconds(options_.limits.record), " s: ", event.why));
    record_at_ = now_ + options_.limits.record_again;
    if (now_ == record_since_)
      want(Announce{Announce::Kind::warning,
                    concat("cannot record generation ", event.generation, ", trying again: ", event.why)});
    return;
  }
  if (next_->planned) return tell_prepared();
  // Who was lost meanwhile cannot be a member; nobody was told, so the others' reports still hold.
  if (is_proposed_whole()) return tell_formed();
  next_.reset();
  state_ = current_ == nullptr ? State::forming : State::repairing;
  if (current_ == nullptr)
    try_to_form();
  else
    try_to_settle();
}

bool Coordinator::is_proposed_whole() const {
  return std::ranges::all_of(next_->members, [this](const GenerationMember& member) {
    const auto found = workers_.find(member.worker);
    return found != workers_.end() && !found->second.ending;
  });
}

void Coordinator::tell_formed() {
  const bool repaired = current_ != nullptr;
  current_ = std::exchange(next_, nullptr);
  state_ = State::running;
  applied_ = std::max(applied_, current_->base_step);
  for (auto& [id, worker] : workers_) {
    worker.report.reset();
    worker.entered = false;
    if (!is_member(id)) {
      // A survivor for whom there is no place any more.
      if (worker.complete && !worker.ending) {
        worker.ending = true;
        want(DismissWorker{id});
      }
      continue;
    }
    worker.told = current_->generation;
    worker.since = now_;
    if (current_->donors.empty()) worker.complete = true;
    want(FormGeneration{id, current_});
    if (stop_at_) want(StopTraining{id});
  }
  if (repaired) ++repairs_;
  want(Announce{Announce::Kind::generation,
                concat("generation ", current_->generation, ": ",
                       count(static_cast<std::int64_t>(current_->members.size()), "rank"), " from step ",
                       current_->base_step + 1, ", ", current_->reason)});
  start_missing();
}

void Coordinator::handle(const WorkerEntered& event) {
  const auto found = workers_.find(event.worker);
  if (found == workers_.end()) return;
  if (state_ == State::preparing && event.generation == next_->generation) {
    // All members of the one before have agreed to it in a commit.
    current_ = std::exchange(next_, nullptr);
    state_ = State::running;
    ++resizes_;
    for (auto& [id, worker] : workers_) {
      worker.since = now_;
      worker.entered = false;
      // Those who are not in it any more exit by themselves.
      if (!is_member(id) && worker.complete) worker.ending = true;
    }
    want(Announce{
        Announce::Kind::generation,
        concat("generation ", current_->generation, ": ",
               count(static_cast<std::int64_t>(current_->members.size()), "rank"), ", ", current_->reason)});
  }
  if (current_ == nullptr || event.generation != current_->generation || !is_member(event.worker)) return;
  found->second.entered = true;
  found->second.complete = true;
  start_failures_ = 0;
  if (state_ == State::running) try_to_prepare();
}

void Coordinator::handle(const StepsCommitted& event) {
  applied_ = std::max(applied_, event.applied);
}

// ---- workers that go --------------------------------------------------------------------------------

void Coordinator::handle(const WorkerLost& event) {
  const auto found = workers_.find(event.worker);
  if (found == workers_.end()) return;
  const Worker worker = found->second;
  const bool member = is_member(event.worker);
  const bool invited = has(next_, event.worker);
  workers_.erase(found);
  if (state_ == State::finishing) return try_to_end();
  if (stop_at_ && workers_.empty()) return end_job("stopped", {}, "");
  const std::string what = concat("worker ", event.worker, " ", event.how);
  if (member || worker.complete) {
    if (!worker.ending || member) {
      if (state_ != State::repairing && state_ != State::recording) begin_repair(what);
      if (state_ == State::repairing) try_to_settle();
      // While a record is being written: what was proposed is looked at when it is.
      if (state_ == State::recording && next_->planned) begin_repair(what);
    }
    return;
  }
  if (!worker.ending) start_failed(event.how);
  if (state_ == State::ended) return;
  if (invited && state_ == State::preparing) abandon(what);
  if (state_ == State::repairing) return try_to_settle();
  start_missing();
  if (state_ == State::forming) try_to_form();
}

/// A worker was lost that had not trained yet.
void Coordinator::start_failed(const std::string& how) {
  if (++start_failures_ < options_.limits.start_failures) return;
  const std::string text =
      concat(start_failures_, " workers in a row were lost before they could train; the last ", how);
  start_no_more_ = true;
  const auto live = static_cast<std::int64_t>(workers_.size());
  if (current_ == nullptr || live < options_.min_ranks) return end_job("failed", {}, text);
  want(Announce{Announce::Kind::warning, concat(text, "; no more are started")});
}

void Coordinator::handle(const WorkerLeft& event) {
  const auto found = workers_.find(event.worker);
  if (found == workers_.end() || found->second.ending) return;
  if (state_ == State::finishing) {
    // Others have finished, so the results are safe, and this one only lost them on its way out.
    found->second.ending = true;
    return want(DismissWorker{event.worker});
  }
  const bool known = (current_ != nullptr && event.generation == current_->generation) ||
                     (next_ != nullptr && event.generation == next_->generation);
  if (!known && state_ != State::repairing) return;  // of a generation that is over
  if (state_ == State::running || state_ == State::preparing ||
      (state_ == State::recording && next_->planned))
    begin_repair(concat("worker ", event.worker, " left generation ", event.generation, ": ", event.why));
  found->second.report = event.standing;
  found->second.complete = event.standing.complete;
  if (state_ == State::repairing) try_to_settle();
}

void Coordinator::handle(const WorkerFailed& event) {
  if (!workers_.contains(event.worker)) return;
  if (state_ == State::finishing) return;
  end_job("failed", event.worker, event.why);
}

void Coordinator::handle(const PreparationFailed& event) {
  if (next_ != nullptr && event.generation == next_->generation && state_ == State::preparing)
    abandon(concat("worker ", event.worker, " could not connect: ", event.why));
}

// ---- repair -----------------------------------------------------------------------------------------

void Coordinator::begin_repair(const std::string& why) {
  state_ = State::repairing;
  next_.reset();
  record_pending_ = false;
  repair_reason_ = why;
  want(Announce{Announce::Kind::repair, concat("after step ", applied_, ": ", why)});
  for (auto& [id, worker] : workers_) {
    worker.report.reset();
    if (worker.told == 0 || worker.ending) continue;
    worker.since = now_;
    want(LeaveGeneration{id, last_generation_});
  }
  start_missing();
}

/// Once all who may hold something have said what.
void Coordinator::try_to_settle() {
  std::vector<Standing> standings;
  std::vector<WorkerId> survivors;
  for (const auto& [id, worker] : workers_) {
    if (worker.told == 0 || worker.ending) continue;
    if (!worker.report) return;
    standings.push_back(*worker.report);
    if (worker.complete) survivors.push_back(id);
  }
  const Result<std::int64_t> base = settle(standings);
  if (!base.ok()) {
    const bool nobody = base.error().code == ErrorCode::not_found;
    return end_job("failed", {},
                   nobody ? concat(base.error().message, "; the last to be lost: ", repair_reason_)
                          : base.error().message);
  }
  // In the order of their ranks, so that few of them change.
  std::vector<WorkerId> members;
  for (const GenerationMember& member : current_->members)
    if (std::ranges::find(survivors, member.worker) != survivors.end()) members.push_back(member.worker);
  for (const WorkerId id : survivors)
    if (std::ranges::find(members, id) == members.end()) members.push_back(id);
  const auto wish = static_cast<std::size_t>(options_.wish);
  if (members.size() > wish) members.resize(wish);
  GenerationRecord repaired;
  for (std::size_t rank = 0; rank < members.size(); ++rank)
    repaired.donors.push_back(static_cast<std::int64_t>(rank));
  for (const WorkerId id : ready_joiners())
    if (members.size() < wish) members.push_back(id);
  if (static_cast<std::int64_t>(members.size()) < options_.min_ranks) {
    if (start_no_more_ && starting() == 0)
      end_job("failed", {},
              concat(count(static_cast<std::int64_t>(members.size()), "rank"), " left, and the job needs ",
                     options_.min_ranks, " (ranks.min); ", repair_reason_));
    return start_missing();
  }
  // P11: what fails every time it is tried is not the ranks' fault.
  redone_ = *base == redone_step_ ? redone_ + 1 : 0;
  redone_step_ = *base;
  if (redone_ >= options_.limits.redone)
    return end_job("failed", {},
                   concat("step ", *base + 1, " was begun ", redone_ + 1,
                          " times, and each time a rank was lost; the last: ", repair_reason_));
  repaired.base_step = *base;
  for (const WorkerId id : members) repaired.members.push_back(workers_.at(id).member);
  repaired.reason = concat("since ", repair_reason_);
  record(std::move(repaired));
}

// ---- changes by choice ------------------------------------------------------------------------------

void Coordinator::handle(const ResizeWanted& event) {
  const std::int64_t ranks = std::clamp(event.ranks, options_.min_ranks, options_.max_ranks);
  if (ranks == options_.wish || stop_at_ || state_ == State::finishing) return;
  options_.wish = ranks;
  start_failures_ = 0;
  start_no_more_ = false;
  want(Announce{Announce::Kind::resize, concat("the job is to have ", count(ranks, "rank"))});
  // Those who have not trained yet are the cheapest to do without.
  auto surplus = -ranks;
  for (const auto& [id, worker] : workers_) surplus += worker.ending ? 0 : 1;
  for (auto each = workers_.rbegin(); each != workers_.rend() && surplus > 0; ++each) {
    auto& [id, worker] = *each;
    if (worker.ending || worker.complete || worker.told > 0) continue;
    --surplus;
    if (worker.ready) {
      worker.ending = true;
      want(DismissWorker{id});
    } else {
      end_worker(id, "it is not needed any more");
    }
  }
  start_missing();
  if (state_ == State::forming) try_to_form();
  if (state_ == State::running) try_to_prepare();
}

/// Joiners that are ready wait for others that still start, for a moment.
std::optional<Instant> Coordinator::gather_until() const {
  if (starting() == 0 || !ready_since_) return std::nullopt;
  return *ready_since_ + options_.limits.gather;
}

void Coordinator::try_to_prepare() {
  if (state_ != State::running || stop_at_) return;
  for (const GenerationMember& member : current_->members)
    if (!workers_.contains(member.worker) || !workers_.at(member.worker).entered) return;
  const std::vector<WorkerId> joiners = ready_joiners();
  const auto wish = static_cast<std::size_t>(options_.wish);
  const bool shrinks = current_->members.size() > wish;
  const bool grows = current_->members.size() < wish && !joiners.empty();
  if (!shrinks && !grows) return;
  if (const auto until = gather_until(); grows && until && now_ < *until) return;
  GenerationRecord planned;
  planned.planned = true;
  planned.base_step = applied_;
  planned.members = current_->members;
  if (shrinks) planned.members.resize(wish);
  for (std::size_t rank = 0; rank < planned.members.size(); ++rank)
    planned.donors.push_back(static_cast<std::int64_t>(rank));
  for (const WorkerId id : joiners)
    if (planned.members.size() < wish) planned.members.push_back(workers_.at(id).member);
  const auto before = static_cast<std::int64_t>(current_->members.size());
  const auto after = static_cast<std::int64_t>(planned.members.size());
  planned.reason = concat(shrinks ? "smaller by " : "larger by ", std::abs(after - before));
  record(std::move(planned));
}

void Coordinator::tell_prepared() {
  state_ = State::preparing;
  std::vector<WorkerId> all;
  for (const auto& [id, worker] : workers_)
    if (!worker.ending && (is_member(id) || has(next_, id))) all.push_back(id);
  if (!is_proposed_whole()) return abandon("one of its ranks was lost");
  for (const WorkerId id : all) {
    Worker& worker = workers_.at(id);
    worker.told = next_->generation;
    worker.since = now_;
    if (is_member(id))
      want(PrepareGeneration{id, next_});
    else
      want(FormGeneration{id, next_});
  }
}

/// The ranks go on in the generation that they are in; the number is spent.
void Coordinator::abandon(const std::string& why) {
  const Generation given_up = std::exchange(next_, nullptr);
  state_ = State::running;
  want(Announce{Announce::Kind::warning, concat("generation ", given_up->generation, " is given up: ", why)});
  for (auto& [id, worker] : workers_) {
    if (worker.ending || worker.told != given_up->generation) continue;
    // A joiner could not tell its part of the state from nothing; another is started.
    if (!is_member(id))
      end_worker(id, "the generation that it was to join is given up");
    else
      want(AbandonGeneration{id, given_up->generation});
  }
  start_missing();
}

// ---- the end ----------------------------------------------------------------------------------------

void Coordinator::handle(const StopWanted&) {
  if (stop_at_) return;
  stop_at_ = now_;
  for (auto& [id, worker] : workers_) {
    if (worker.ending) continue;
    if (is_member(id)) {
      want(StopTraining{id});
    } else if (worker.ready && worker.told == 0) {
      worker.ending = true;
      want(DismissWorker{id});
    } else {
      end_worker(id, "the job stops");
    }
  }
  if (workers_.empty()) end_job("stopped", {}, "");
}

void Coordinator::handle(const WorkerFinished& event) {
  const auto found = workers_.find(event.worker);
  if (found == workers_.end()) return;
  found->second.ending = true;
  if (state_ == State::finishing) return;
  state_ = State::finishing;
  finish_at_ = now_;
  next_.reset();
  for (auto& [id, worker] : workers_)
    if (!is_member(id) && !worker.ending)
      end_worker(id, "the job is done");
    else if (worker.report && !worker.ending) {
      worker.ending = true;
      want(DismissWorker{id});
    }
}

void Coordinator::try_to_end() {
  if (workers_.empty()) end_job(stop_at_ ? "stopped" : "completed", {}, "");
}

// ---- time -------------------------------------------------------------------------------------------

/// When a worker has used up the time for what it is waited for.
std::optional<Instant> Coordinator::overdue_at(const Worker& worker) const {
  if (worker.ending) return std::nullopt;
  const CoordinatorLimits& limits = options_.limits;
  if (!worker.ready) return worker.since + limits.ready;
  if (state_ == State::repairing && worker.told > 0 && !worker.report) return worker.since + limits.report;
  if (state_ == State::running && !worker.entered && is_member(worker.member.worker))
    return worker.since + limits.enter;
  if (state_ == State::preparing && has(next_, worker.member.worker)) return worker.since + limits.enter;
  return std::nullopt;
}

void Coordinator::find_overdue() {
  if (state_ == State::preparing) {
    for (const auto& [id, worker] : workers_)
      if (const auto at = overdue_at(worker); at && worker.ready && now_ >= *at)
        return abandon(concat("it was not ready within ", to_seconds(options_.limits.enter), " s"));
  }
  for (auto& [id, worker] : workers_) {
    const auto at = overdue_at(worker);
    if (!at || now_ < *at) continue;
    const char* what = !worker.ready                ? "did not become ready within "
                       : state_ == State::repairing ? "did not leave its generation within "
                                                    : "did not begin to train within ";
    const std::string why = concat(what, to_seconds(*at - worker.since), " s");
    want(Announce{Announce::Kind::warning, concat("worker ", id, " ", why, ", and is ended")});
    worker.since = now_ + std::chrono::hours(1);  // once
    want(EndWorker{id, why});
  }
}

void Coordinator::handle(const Tick&) {
  find_overdue();
  if (state_ == State::recording && !record_pending_ && now_ >= record_at_) write_record();
  if (state_ == State::running) try_to_prepare();
  if (stop_at_ && now_ >= *stop_at_ + options_.limits.stop && state_ != State::finishing)
    return end_job("stopped", {},
                   concat("the ranks did not stop within ", to_seconds(options_.limits.stop), " s"));
  if (finish_at_ && now_ >= *finish_at_ + options_.limits.finish)
    end_job("failed", {},
            concat("a rank was still not finished ", to_seconds(options_.limits.finish), " s after another"));
}

std::optional<Instant> Coordinator::wake() const {
  std::optional<Instant> first;
  const auto consider = [&first](std::optional<Instant> at) {
    if (at) first = first ? std::min(*first, *at) : *at;
  };
  if (state_ == State::ended) return first;
  for (const auto& [id, worker] : workers_) consider(overdue_at(worker));
  if (state_ == State::recording && !record_pending_) consider(record_at_);
  if (state_ == State::running) consider(gather_until());
  if (stop_at_ && state_ != State::finishing) consider(*stop_at_ + options_.limits.stop);
  if (finish_at_) consider(*finish_at_ + options_.limits.finish);
  return first;
}

}  // namespace paceline
