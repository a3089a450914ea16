// What must hold at every moment of a simulated job.
#include <algorithm>

#include "paceline/base/text.hpp"
#include "simulation.hpp"

namespace paceline::sim {

void Simulation::say(const std::string& what) {
  if (setting_.trace) outcome_.trace.push_back(concat(to_ms(queue_.now().time_since_epoch()), " ms: ", what));
}

void Simulation::check(bool holds, const std::string& rule) {
  if (holds || !outcome_.violation.empty()) return;
  outcome_.violation = concat("at ", to_ms(queue_.now().time_since_epoch()), " ms: ", rule);
  say(outcome_.violation);
}

/// P1, I4: the next number, and always the same under it. I7: between the least and the most.
void Simulation::check_record(const Generation& record) {
  const std::int64_t generation = record->generation;
  const auto asked = asked_.find({record->term, generation});
  check(asked == asked_.end() || *asked->second == *record,
        concat("I4: two records are wanted under the number ", generation));
  const std::int64_t last = written_.empty() ? setting_.job.last_generation : written_.rbegin()->first;
  check(generation == last + 1 || written_.contains(generation),
        concat("P1: generation ", generation, " is to follow ", last));
  const auto ranks = std::ssize(record->members);
  check(ranks >= setting_.job.min_ranks && ranks <= setting_.job.max_ranks,
        concat("I7: generation ", generation, " has ", ranks, " ranks"));
  std::set<WorkerId> members;
  for (const GenerationMember& member : record->members) members.insert(member.worker);
  check(std::ssize(members) == ranks, "a worker is a member twice");
  const bool first = !coordinator_ || coordinator_->generation() == nullptr;
  if (coordinator_)
    check(first == record->donors.empty(),
          "P2: every generation but the first takes its state from somebody");
  for (const std::int64_t donor : record->donors) {
    check(donor >= 0 && donor < ranks, "a donor is not a rank");
    check(workers_.contains(record->members[static_cast<std::size_t>(donor)].worker), "a donor is unknown");
  }
  asked_[{record->term, generation}] = record;
}

void Simulation::check_told(const Generation& record) {
  check(acknowledged_.contains(record->generation),
        concat("I4: a worker is told of generation ", record->generation, " before it is recorded"));
}

/// I1 and I2: a step is applied with one result, whoever applies it and whenever, and follows the one before.
void Simulation::check_applied(Worker& worker) {
  check(worker.reduced, "a worker applies what it doesn't hold");
  worker.state = mix64(worker.state, worker.gradients);
  worker.reduced = false;
  const std::int64_t step = ++worker.applied;
  check(step == 1 || committed_.contains(step - 1),
        concat("I1: step ", step, " commits before the one before it"));
  const auto [entry, first] = committed_.emplace(step, worker.state);
  check(first || entry->second == worker.state,
        concat("I2: worker ", worker.id, " applies another result of step ", step, " than another did"));
}

/// Who is ended for its silence was silent, and who for being slow was that.
void Simulation::check_accused(const EndWorker& end) {
  const auto found = workers_.find(end.worker);
  if (found == workers_.end()) return;
  const Worker& worker = found->second;
  // What a coordinator knows is older than this by the time of the link, and of its looks.
  const auto until = [this](Instant instant) { return queue_.now() <= instant + std::chrono::seconds(7); };
  if (end.why.find("heard of") != std::string::npos)
    check(worker.phase == Phase::gone || until(std::max(worker.frozen_until, worker.stalled_until)),
          concat("P4: worker ", end.worker, " is ended for its silence, and is there"));
  if (end.why.find("wait for it") != std::string::npos)
    check(until(std::max(worker.frozen_until, worker.hangs_until)),
          concat("P4: worker ", end.worker, " is ended for being slow, and is not"));
}

/// It goes by itself with the commit that the others have changed at without it, if it has not yet.
bool Simulation::is_left_out(const Worker& worker) const {
  return worker.in != nullptr && std::ranges::any_of(planes_, [&](const auto& entry) {
           const auto& [generation, plane] = entry;
           return generation > worker.in->generation && plane.record->planned && plane.base &&
                  !plane.members.contains(worker.id);
         });
}

void Simulation::check_end(const EndJob& end) {
  say(concat("the job ends: ", end.status, " ", end.why));
  const auto contains = [&](const char* text) { return end.why.find(text) != std::string::npos; };
  if (end.status == "completed")
    for (const std::int64_t generation : trained_)
      check(announced_.contains(generation),
            concat("generation ", generation, " trained, and the journal doesn't know of it"));
  if (end.status == "completed")
    check(recorded_ == setting_.steps,
          concat("I3: the journal has ", recorded_, " steps of a completed job"));
  if (end.status == "completed")
    return check(std::ssize(committed_) == setting_.steps,
                 concat("it is completed after ", committed_.size(), " steps"));
  if (end.status == "stopped") return check(stop_sent_, "it is stopped, and nobody asked for it");
  check(!end.why.empty(), "it fails without a word");
  if (contains("no rank is left")) {
    for (const auto& [id, worker] : workers_) {
      const bool there = worker.phase != Phase::gone && worker.phase != Phase::finishing && !worker.evicted &&
                         !is_left_out(worker);
      check(!there || !can_reach(standing(worker), std::ssize(committed_)),
            concat("it fails for want of a survivor, and worker ", id, " is one"));
    }
  } else if (contains("another coordinator")) {
    check(fenced_, "it believes that another coordinator took over");
  } else if (contains("in a row were lost") || contains("the job needs")) {
    check(early_deaths_ + disturbances_ >= setting_.job.limits.start_failures,
          "it starts no more workers, and few were lost early");
  } else if (contains("times, and each time") || contains("could not begin to train")) {
    check(disturbances_ > setting_.job.limits.redone,
          concat("it gives a step up, and little happened: ", end.why));
  } else if (contains("are all lost, and the others")) {
    check(deaths_ + disturbances_ > 0, "it believes ranks to be lost, and none is");
  } else {
    check(false, concat("it fails for no reason that there is: ", end.why));
  }
}

}  // namespace paceline::sim
