// The coordinator's part that goes on where another was lost (P3, P5): everything it needs is in the records
// and in what the workers have said, so that nobody has to stop for it.
#include <algorithm>

#include "paceline/base/assert.hpp"
#include "paceline/base/text.hpp"
#include "paceline/sched/coordinator.hpp"
#include "words.hpp"

namespace paceline {

CoordinatorEffects Coordinator::take_over(const std::vector<Generation>& records,
                                          const std::vector<FoundWorker>& workers, Instant now) {
  PACELINE_ASSERT(workers_.empty() && current_.record == nullptr, "only a new coordinator takes over");
  now_ = now;
  if (!records.empty()) last_generation_ = std::max(last_generation_, records.back()->generation);
  for (const FoundWorker& found : workers) find(found);
  for (const FoundWorker& found : workers)
    if (found.heartbeat && !found.gone) handle(*found.heartbeat);
  find_generation(records);
  if (current_.record != nullptr) {
    state_ = State::running;
    applied_ = std::max(applied_, current_.record->base_step);
    // The ranks may have changed to it while nobody listened.
    if (current_.record->generation > options_.history.announced) announce_generation();
    sort_out_members();
    sort_out_others();
    // Whoever prepares it may change to it until told otherwise; that is then seen like any other surprise.
    if (next_.record != nullptr && state_ == State::running)
      give_up_next("its coordinator was lost");
    else
      next_ = {};
  }
  for (const FoundWorker& found : workers)
    if (found.stopping && !stop_at_) handle(StopWanted{});
  for (const FoundWorker& found : workers)
    if (found.finished) handle(WorkerFinished{found.member.worker});
  for (const FoundWorker& found : workers)
    if (found.gone) handle(WorkerLost{found.member.worker, "exited"});
  for (const FoundWorker& found : workers)
    if (found.failed && state_ != State::ended) handle(WorkerFailed{found.member.worker, *found.failed});
  if (state_ != State::ended) advance();
  return std::exchange(effects_, {});
}

/// What can be said of it without knowing the others.
void Coordinator::find(const FoundWorker& found) {
  const WorkerId id = found.member.worker;
  last_worker_ = std::max(last_worker_, id);
  Worker& worker = workers_[id];
  ++numbers_[static_cast<std::size_t>(Stage::starting)];
  worker.member = found.member;
  worker.trained = found.entered > 0 || (found.left && found.left->standing.complete);
  worker.generation = std::max(found.entered, found.left ? found.left->generation : 0);
  const CoordinatorLimits& limits = options_.limits;
  if (found.ending) {
    set_stage(id, worker, Stage::ending, limits.exit);
  } else if (found.dismissed) {
    set_stage(id, worker, Stage::exiting, limits.exit);
  } else if (found.left && found.told == 0) {
    worker.standing = found.left->standing;
    set_stage(id, worker, Stage::left);
  } else if (found.entered > 0 && !found.left) {
    set_stage(id, worker, Stage::training);
    worker.shed = found.told > found.entered;  // for now: perhaps it was told that it is not to be a member
  } else if (found.told > 0) {
    worker.generation = found.told;
    worker.receives = !worker.trained;
    set_stage(id, worker, Stage::entering, limits.enter);
  } else if (found.ready) {
    set_stage(id, worker, Stage::waiting);
  } else {
    set_stage(id, worker, Stage::starting, limits.ready);
  }
}

/// The current generation is the highest that anybody is or was in, or that was recorded to be formed by
/// those who had left theirs. One after it was only prepared.
void Coordinator::find_generation(const std::vector<Generation>& records) {
  std::int64_t entered = 0;
  for (const auto& [id, worker] : workers_)
    if (worker.trained && worker.stage != Stage::entering) entered = std::max(entered, worker.generation);
  for (const Generation& record : records) {
    const bool holds = record->generation == entered || (!record->planned && record->generation > entered);
    if (holds) {
      current_ = Roll(record);
      next_ = {};
    } else if (current_.record != nullptr && record->planned) {
      next_ = Roll(record);
    }
  }
}

void Coordinator::sort_out_members() {
  const std::int64_t generation = current_.record->generation;
  const std::size_t donors = current_.record->donors.size();
  std::string missing;
  entered_ = true;
  for (std::size_t rank = 0; rank < current_.record->members.size(); ++rank) {
    const WorkerId id = current_.record->members[rank].worker;
    const auto found = workers_.find(id);
    if (found == workers_.end() || found->second.stage == Stage::ending) {
      missing = concat("worker ", id, " was lost with its coordinator or before");
      continue;
    }
    Worker& worker = found->second;
    worker.shed = worker.shed && next_.record != nullptr && !next_.has(id);
    if (worker.stage == Stage::exiting || worker.stage == Stage::starting) continue;
    const bool was_told = worker.generation >= generation;
    if (worker.stage == Stage::training && was_told) {
      worker.trained = true;
      continue;
    }
    entered_ = false;
    if (worker.stage == Stage::left && was_told) {
      missing = concat("worker ", id, " left generation ", generation);
      continue;
    }
    worker.generation = generation;
    worker.receives = donors > 0 && rank >= donors;
    set_stage(id, worker, Stage::entering, options_.limits.enter);
    // Once more does no harm.
    if (!current_.record->planned || !worker.trained) want(FormGeneration{id, current_.record});
  }
  if (!missing.empty()) begin_repair(missing);
}

void Coordinator::sort_out_others() {
  for (auto each = workers_.begin(); each != workers_.end();) {
    auto& [id, worker] = *each++;
    if (current_.has(id)) continue;
    switch (worker.stage) {
      case Stage::training:
      case Stage::leaving:
        // It was left out by a change, and exits by itself; or its end was ordered, and the order was lost.
        if (current_.record->planned)
          set_stage(id, worker, Stage::exiting, options_.limits.exit);
        else
          evict(id, worker, "is no member any more");
        break;
      case Stage::left:
        if (state_ == State::repairing) break;
        if (is_survivor(worker))
          dismiss(id, worker);
        else
          set_stage(id, worker, Stage::waiting);
        break;
      case Stage::entering:
        if (state_ == State::running && next_.record != nullptr && next_.has(id)) break;
        set_stage(id, worker, Stage::leaving, options_.limits.report);
        want(LeaveGeneration{id, last_generation_});
        break;
      case Stage::starting:
      case Stage::waiting:
      case Stage::exiting:
      case Stage::ending: break;
    }
  }
}

}  // namespace paceline
