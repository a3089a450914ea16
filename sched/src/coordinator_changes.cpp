// The coordinator's part that leads from one generation to the next: repair, and changes by choice.
#include <algorithm>
#include <limits>

#include "paceline/base/text.hpp"
#include "paceline/sched/coordinator.hpp"
#include "words.hpp"

namespace paceline {
namespace {

std::vector<std::int64_t> first_ranks(std::size_t number) {
  std::vector<std::int64_t> ranks(number);
  for (std::size_t rank = 0; rank < number; ++rank) ranks[rank] = static_cast<std::int64_t>(rank);
  return ranks;
}

}  // namespace

// ---- repair -----------------------------------------------------------------------------------------

void Coordinator::begin_repair(const std::string& why) {
  state_ = State::repairing;
  next_ = {};
  repair_reason_ = why;
  reason_is_hearsay_ = false;
  want(Announce{Announce::Kind::repair, concat("after step ", applied_, ": ", why)});
  for (auto& [id, worker] : workers_) {
    if (worker.stage != Stage::entering && worker.stage != Stage::training) continue;
    set_stage(id, worker, Stage::leaving, options_.limits.report);
    want(LeaveGeneration{id, last_generation_});
  }
}

std::vector<WorkerId> Coordinator::survivors_by_rank() const {
  std::vector<std::pair<std::size_t, WorkerId>> order;
  for (const auto& [id, worker] : workers_) {
    if (!is_survivor(worker)) continue;
    const auto rank = current_.ranks.find(id);
    order.emplace_back(rank == current_.ranks.end() ? std::numeric_limits<std::size_t>::max() : rank->second,
                       id);
  }
  std::ranges::sort(order);
  std::vector<WorkerId> ids;
  for (const auto& [rank, id] : order) ids.push_back(id);
  return ids;
}

/// Only those who were in the newest generation know how far the job came (P7).
Result<std::int64_t> Coordinator::settled_base(const std::vector<WorkerId>& survivors) const {
  std::int64_t newest = 0;
  for (const WorkerId id : survivors) newest = std::max(newest, workers_.at(id).generation);
  std::vector<Standing> standings;
  for (const WorkerId id : survivors)
    if (workers_.at(id).generation == newest) standings.push_back(workers_.at(id).standing);
  return settle(standings);
}

/// Whether the others may have changed to a generation without these, and trained there (P2). They can have
/// only at the commit of a step that all these hold reduced and none knows to be applied.
bool Coordinator::is_a_change_lost(const std::vector<WorkerId>& survivors) const {
  const std::int64_t applied = workers_.at(survivors.front()).standing.applied;
  return std::ranges::all_of(survivors, [&](WorkerId id) {
    const Worker& worker = workers_.at(id);
    return worker.shed && worker.generation <= current_.record->generation && worker.standing.reduced &&
           worker.standing.applied == applied;
  });
}

/// Takes out those that the others went on without, too far to be caught up with.
void Coordinator::leave_behind(std::vector<WorkerId>& survivors, std::int64_t base) {
  std::erase_if(survivors, [&](WorkerId id) {
    Worker& worker = workers_.at(id);
    if (can_reach(worker.standing, base)) return false;
    dismiss(id, worker);
    return true;
  });
}

/// What fails every time that it is tried is not the ranks' fault (P11).
bool Coordinator::is_tried_too_often(std::int64_t base) {
  if (base != tried_base_) return false;
  if (entered_ && redone_ >= options_.limits.redone) {
    end_job("failed", {},
            concat("step ", base + 1, " was begun ", redone_ + 1,
                   " times, and each time a rank was lost; the last: ", repair_reason_));
    return true;
  }
  if (!entered_ && not_entered_ >= options_.limits.not_entered) {
    end_job("failed", {},
            concat("the ranks could not begin to train in ", not_entered_ + 1,
                   " generations in a row; the last: ", repair_reason_));
    return true;
  }
  return false;
}

void Coordinator::note_attempt(std::int64_t base) {
  if (base != tried_base_) redone_ = not_entered_ = 0;
  tried_base_ = base;
  redone_ += entered_ ? 1 : 0;
  not_entered_ = entered_ ? 0 : not_entered_ + 1;
}

/// Once all who may hold something have said what.
void Coordinator::try_to_settle() {
  if (writing_ != nullptr || number(Stage::leaving) > 0 || number(Stage::ending) > 0) return;
  if (survivors_ == 0)
    return end_job(
        "failed", {},
        concat("no rank is left that holds the whole training state; the last to be lost: ", repair_reason_));
  const std::int64_t least = options_.min_ranks;
  const std::int64_t there = number(Stage::left) + number(Stage::waiting);
  if (there < least) {
    if (start_no_more())
      end_job(
          "failed", {},
          concat(count(there, "rank"), " left, and the job needs ", least, " (ranks.min); ", repair_reason_));
    return;
  }
  std::vector<WorkerId> members = survivors_by_rank();
  if (is_a_change_lost(members))
    return end_job("failed", {},
                   concat("the ranks that the job was about to go on with are all lost, and the others don't "
                          "know how far those came; the last to be lost: ",
                          repair_reason_));
  const Result<std::int64_t> base = settled_base(members);
  if (!base.ok()) return end_job("failed", {}, base.error().message);
  leave_behind(members, *base);
  if (is_tried_too_often(*base)) return;
  const auto wish = static_cast<std::size_t>(options_.wish);
  if (members.size() > wish) members.resize(wish);
  GenerationRecord repaired;
  repaired.base_step = *base;
  repaired.donors = first_ranks(members.size());
  for (const auto& [id, worker] : workers_) {
    const bool joins =
        worker.stage == Stage::waiting || (worker.stage == Stage::left && !is_survivor(worker));
    if (joins && members.size() < wish) members.push_back(id);
  }
  if (static_cast<std::int64_t>(members.size()) < least) return;  // some were left behind: wait for more
  for (const WorkerId id : members) repaired.members.push_back(workers_.at(id).member);
  repaired.reason = concat("since ", repair_reason_);
  record(std::move(repaired));
}

// ---- changes by choice ------------------------------------------------------------------------------

void Coordinator::handle(const ResizeWanted& event) {
  const std::int64_t ranks = std::clamp(event.ranks, options_.min_ranks, options_.max_ranks);
  if (ranks == options_.wish || stop_at_ || state_ == State::finishing) return;
  options_.wish = ranks;
  start_without_pause();
  want(Announce{Announce::Kind::resize, concat("the job is to have ", count(ranks, "rank"))});
  // Those who have not trained yet are the cheapest to do without.
  std::int64_t surplus = live() - ranks;
  for (auto each = workers_.end(); surplus > 0 && each != workers_.begin();) {
    --each;
    auto& [id, worker] = *each;
    if (worker.stage == Stage::waiting) {
      dismiss(id, worker);
    } else if (worker.stage == Stage::starting) {
      want(EndWorker{id, "it is not needed any more"});
      each = forget(each);
    } else {
      continue;
    }
    --surplus;
  }
}

void Coordinator::handle(const RoomChanged& event) {
  options_.room = std::max<std::int64_t>(event.workers, 0);
}

void Coordinator::handle(const DrainWanted& event) {
  options_.room = std::max<std::int64_t>(event.room, 0);
  if (stop_at_ || state_ == State::finishing) return;
  for (const WorkerId id : event.workers) {
    const auto found = workers_.find(id);
    if (found == workers_.end() || found->second.draining) continue;
    Worker& worker = found->second;
    if (worker.stage == Stage::exiting || worker.stage == Stage::ending) continue;
    if (worker.stage == Stage::waiting) {
      dismiss(id, worker);
    } else if (worker.stage == Stage::starting) {
      end_worker(id, "its place is to be left");
    } else {
      worker.draining = true;
      draining_.insert(id);
    }
  }
}

/// Members of the current generation that are to be done without.
std::int64_t Coordinator::draining_members() const {
  return std::ranges::count_if(draining_, [this](WorkerId id) { return current_.has(id); });
}

bool Coordinator::is_to_change_size() const {
  if (stop_at_ || writing_ != nullptr || number(Stage::entering) > 0) return false;
  const std::int64_t ranks = ranks_of(current_.record), kept = ranks - draining_members();
  if (ranks > wanted() && kept == ranks) return true;
  if (kept < wanted() && number(Stage::waiting) > 0) return true;
  // Nobody takes the places of those who are to go.
  return kept < ranks && kept >= options_.min_ranks && number(Stage::starting) == 0;
}

/// Joiners that are ready wait for others that still start, for a moment.
Instant Coordinator::prepare_at() const {
  const std::int64_t kept = ranks_of(current_.record) - draining_members();
  const bool others_start = number(Stage::starting) > 0 && kept < wanted();
  return others_start ? std::max(prepare_after_, waiting_since_ + options_.limits.gather) : prepare_after_;
}

void Coordinator::try_to_prepare() {
  if (!is_to_change_size() || now_ < prepare_at()) return;
  const auto most = static_cast<std::size_t>(std::max(wanted(), options_.min_ranks));
  GenerationRecord planned;
  planned.planned = true;
  planned.base_step = applied_;
  const std::vector<GenerationMember>& before = current_.record->members;
  for (const GenerationMember& member : before)
    if (!draining_.contains(member.worker)) planned.members.push_back(member);
  // Somebody must give the state; it goes with the next change.
  if (planned.members.empty()) planned.members.push_back(before.front());
  if (planned.members.size() > most) planned.members.resize(most);
  planned.donors = first_ranks(planned.members.size());
  for (const WorkerId id : joiners())
    if (planned.members.size() < most) planned.members.push_back(workers_.at(id).member);
  const auto after = std::ssize(planned.members);
  if (after < options_.min_ranks || planned.members == before) return;
  const auto difference = after - std::ssize(before);
  planned.reason = difference == 0  ? concat(count(draining_members(), "rank"), " replaced")
                   : difference < 0 ? concat("smaller by ", -difference)
                                    : concat("larger by ", difference);
  record(std::move(planned));
}

void Coordinator::tell_prepared() {
  state_ = State::preparing;
  prepare_until_ = now_ + options_.limits.enter;
  for (const GenerationMember& member : current_.record->members) {
    if (!next_.has(member.worker)) workers_.at(member.worker).shed = true;
    want(PrepareGeneration{member.worker, next_.record});
  }
  for (const GenerationMember& member : next_.record->members) {
    if (current_.has(member.worker)) continue;
    Worker& worker = workers_.at(member.worker);
    worker.generation = next_.record->generation;
    worker.receives = true;
    set_stage(member.worker, worker, Stage::entering);
    want(FormGeneration{member.worker, next_.record});
  }
}

/// Somebody is in the prepared generation: all members of the one before have agreed to it in a commit.
void Coordinator::changed_to_next() {
  current_ = std::exchange(next_, {});
  state_ = State::running;
  entered_ = false;
  for (auto& [id, worker] : workers_) {
    if (worker.stage != Stage::training && worker.stage != Stage::entering) continue;
    worker.shed = false;
    if (current_.has(id))
      set_stage(id, worker, Stage::entering, options_.limits.enter);
    else
      set_stage(id, worker, Stage::exiting, options_.limits.exit);  // it exits by itself
  }
  announce_generation();
}

void Coordinator::handle(const PreparationFailed& event) {
  if (state_ == State::preparing && next_.is(event.generation) && workers_.contains(event.worker))
    give_up_next(concat("worker ", event.worker, " could not connect: ", event.why));
}

/// The ranks go on in the generation that they are in; the number is spent.
void Coordinator::give_up_next(const std::string& why) {
  const Roll given_up = std::exchange(next_, {});
  const std::int64_t generation = given_up.record->generation;
  state_ = State::running;
  prepare_after_ = now_ + options_.limits.prepare_again;
  want(Announce{Announce::Kind::warning, concat("generation ", generation, " is given up: ", why)});
  std::int64_t there = 0;
  for (auto& [id, worker] : workers_) {
    if (current_.has(id) && worker.stage == Stage::training) {
      ++there;
      want(AbandonGeneration{id, generation});
    } else if (given_up.has(id) && worker.stage == Stage::entering) {
      set_stage(id, worker, Stage::leaving, options_.limits.report);
      want(LeaveGeneration{id, generation});
    }
  }
  if (there < ranks_of(current_.record)) begin_repair("a rank was lost");
}

}  // namespace paceline
