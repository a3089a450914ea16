#pragma once

#include <string>
#include <vector>

#include "paceline/sched/coordinator.hpp"

namespace paceline::sim {

using Workers = std::vector<WorkerId>;

inline CoordinatorOptions ranks(std::int64_t wish, std::int64_t min = 1, std::int64_t max = 8) {
  CoordinatorOptions options;
  options.last_worker = 0;  // the tests count them from 1
  options.min_ranks = min;
  options.wish = wish;
  options.max_ranks = max;
  return options;
}

/// A coordinator, and what it wanted done after the last event.
class Script {
 public:
  explicit Script(CoordinatorOptions options) : coordinator_(options), effects_(coordinator_.begin(now_)) {}
  /// One that succeeds another.
  Script(CoordinatorOptions options, const std::vector<Generation>& records,
         const std::vector<FoundWorker>& workers)
      : coordinator_(options), effects_(coordinator_.take_over(records, workers, now_)) {}

  Script& on(const CoordinatorEvent& event) {
    effects_ = coordinator_.on(event, now_ += std::chrono::milliseconds(1));
    if (const auto* record = find<RecordGeneration>()) asked_ = record->record;
    if (const auto* end = find<EndJob>(); end != nullptr && end->status == "failed") failure_ = end->why;
    return *this;
  }
  Script& ready(const Workers& workers) {
    for (const WorkerId id : workers) on(WorkerReady{{id, "n", "h", 1}});
    return *this;
  }
  Script& written() { return on(RecordWritten{asked_->generation, RecordWritten::Result::written, ""}); }
  Script& entered(const Workers& workers) {
    for (const WorkerId id : workers) on(WorkerEntered{id, coordinator_.generation()->generation});
    return *this;
  }
  /// Trains with workers 1 to `ranks` in generation 1.
  Script& trains(std::int64_t number) {
    Workers all;
    for (WorkerId id = 1; id <= number; ++id) all.push_back(id);
    return ready(all).written().entered(all);
  }
  Script& left(WorkerId id, std::int64_t generation, Standing standing) {
    return on(WorkerLeft{id, generation, standing, "its peers are gone"});
  }
  Script& lost(WorkerId id) { return on(WorkerLost{id, "was killed"}); }
  Script& after(Duration time) {
    now_ += time;
    return on(Tick{});
  }

  template <class Effect>
  [[nodiscard]] const Effect* find() const {
    for (const CoordinatorEffect& effect : effects_)
      if (const auto* found = std::get_if<Effect>(&effect)) return found;
    return nullptr;
  }
  template <class Effect>
  [[nodiscard]] Workers whom() const {
    Workers ids;
    for (const CoordinatorEffect& effect : effects_)
      if (const auto* found = std::get_if<Effect>(&effect)) ids.push_back(found->worker);
    return ids;
  }
  /// What is asked to be recorded after the last event; an empty one if nothing is.
  [[nodiscard]] GenerationRecord recorded() const {
    const auto* record = find<RecordGeneration>();
    return record == nullptr ? GenerationRecord{} : *record->record;
  }
  /// What it announces after the last event, all in one.
  [[nodiscard]] std::string announced() const {
    std::string text;
    for (const CoordinatorEffect& effect : effects_)
      if (const auto* found = std::get_if<Announce>(&effect)) text += found->text + "\n";
    return text;
  }
  /// Why the job has failed; nothing if it has not.
  [[nodiscard]] const std::string& failure() const { return failure_; }
  [[nodiscard]] Coordinator::State state() const { return coordinator_.state(); }
  [[nodiscard]] const CoordinatorEffects& effects() const { return effects_; }
  [[nodiscard]] Coordinator& coordinator() { return coordinator_; }
  [[nodiscard]] Instant now() const { return now_; }

 private:
  Instant now_{};
  Coordinator coordinator_;
  CoordinatorEffects effects_;
  Generation asked_;
  std::string failure_;
};

inline Workers members(const GenerationRecord& record) {
  Workers ids;
  for (const GenerationMember& member : record.members) ids.push_back(member.worker);
  return ids;
}

}  // namespace paceline::sim
