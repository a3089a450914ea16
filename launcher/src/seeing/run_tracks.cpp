#include <algorithm>

#include "json_messages.hpp"
#include "paceline/base/text.hpp"
#include "paceline/control/address.hpp"
#include "seeing/tracks.hpp"

namespace paceline {
namespace {

constexpr std::int64_t run_process = 1;
/// Threads of the run's process, in the order in which they are shown.
enum RunThread : std::int64_t { generations = 1, shares, stragglers, decisions, milestones };

/// Writes what the journals tell.
class RunTracks {
 public:
  RunTracks(const std::string& run_dir, const EventHistory& history, const Stage& stage,
            const std::map<std::int64_t, double>& metrics, TraceFile& trace)
      : run_dir_(run_dir), history_(history), stage_(stage), metrics_(metrics), trace_(trace) {
    for (const RunEvent& event : history.events)
      if (event.kind == EventKind::generation) terms_[event.generation] = event.term;
  }

  /// Events at no known time.
  std::int64_t write(const StepRange& range) {
    trace_.name_process(run_process, concat("run ", history_.run), 0);
    const std::pair<RunThread, const char*> names[] = {{generations, "generations"},
                                                       {shares, "shares"},
                                                       {stragglers, "stragglers"},
                                                       {decisions, "decisions"},
                                                       {milestones, "checkpoints and evaluations"}};
    for (const auto& [thread, name] : names) trace_.name_thread({run_process, thread}, name, thread);
    for (const RunEvent& event : history_.events) {
      const bool is_shown = range.contains(event.after_step) || range.contains(event.after_step + 1);
      if (is_shown) write(event);
    }
    end_generation(stage_.end);
    for (const auto& [key, begun] : straggling_) write_straggler(*begun.event, begun.since, stage_.end);
    return unplaced_;
  }

 private:
  struct Straggling {
    const RunEvent* event = nullptr;
    double since = 0;  // of the common clock
  };

  void write(const RunEvent& event) {
    const std::optional<double> time = time_of(event);
    if (!time) {
      if (event.kind != EventKind::term) ++unplaced_;
      return;
    }
    switch (event.kind) {
      case EventKind::generation: return begin_generation(event, *time);
      case EventKind::shares: return mark(shares, event, *time);
      case EventKind::straggler: return take_straggler(event, *time);
      case EventKind::decision: return mark(decisions, event, *time);
      case EventKind::term:
      case EventKind::epoch:
      case EventKind::evaluation:
      case EventKind::checkpoint:
      case EventKind::end: return mark(milestones, event, *time);
    }
  }

  static std::string arguments(const RunEvent& event) {
    nlohmann::json facts = {{"after_step", event.after_step}, {"term", event.term}};
    if (event.generation > 0) facts["generation"] = event.generation;
    if (!event.reason.empty()) facts["reason"] = event.reason;
    if (!event.shares.empty()) facts["shares"] = event.shares;
    return dumped(facts);
  }

  void mark(RunThread thread, const RunEvent& event, double time) {
    trace_.mark({run_process, thread}, event.text, stage_.us(time), arguments(event));
  }

  void begin_generation(const RunEvent& event, double time) {
    end_generation(time);
    generation_ = &event;
    generation_begun_ = time;
  }
  void end_generation(double time) {
    if (generation_ == nullptr) return;
    const std::int64_t begun = stage_.us(generation_begun_);
    trace_.slice({run_process, generations}, generation_->text, begun,
                 std::max<std::int64_t>(0, stage_.us(time) - begun), arguments(*generation_));
    generation_ = nullptr;
  }

  void take_straggler(const RunEvent& event, double time) {
    const auto key = std::pair(event.worker, event.part);
    const auto begun = straggling_.find(key);
    if (!event.ended) {
      const double since = event.since ? on_common_clock(event, *event.since) : time;
      if (begun == straggling_.end()) straggling_[key] = {&event, std::min(since, time)};
      mark_on_worker(event, time);
    } else if (begun != straggling_.end()) {
      write_straggler(*begun->second.event, begun->second.since, time);
      straggling_.erase(begun);
    } else {
      mark(stragglers, event, time);
    }
  }
  void write_straggler(const RunEvent& event, double since, double until) {
    const std::int64_t begin = stage_.us(since);
    trace_.slice({run_process, stragglers}, event.text, begin,
                 std::max<std::int64_t>(0, stage_.us(until) - begin), arguments(event));
  }
  /// And on the worker's own thread.
  void mark_on_worker(const RunEvent& event, double time) {
    const auto worker = std::ranges::find(stage_.survey.workers, event.worker,
                                          [](const WorkerSurvey& one) { return one.files.worker; });
    if (worker == stage_.survey.workers.end()) return;
    trace_.mark({stage_.processes.at(worker->node), worker->files.worker + 1}, event.text, stage_.us(time),
                arguments(event));
  }

  /// A moment that the coordinator wrote down, by the clock of its node.
  double on_common_clock(const RunEvent& event, double time) {
    const auto [known, is_new] = coordinators_.try_emplace(event.term);
    if (is_new) {
      const std::string path = concat(run_dir_, "/coordinators/", event.term, ".json");
      const Result<std::string> text = read_file(path);
      const auto address = text.ok() ? control::parse_coordinator(*text, path)
                                     : Result<control::CoordinatorAddress>(text.error());
      if (address.ok()) known->second = address->node;
    }
    return stage_.aligned(known->second, time);
  }

  /// Seconds of the common clock. What the ranks saw themselves goes before what the coordinator wrote down.
  std::optional<double> time_of(const RunEvent& event) {
    if (event.kind == EventKind::generation) {
      const auto began = stage_.survey.began.find(event.generation);
      if (began != stage_.survey.began.end()) return stage_.aligned(began->second.node, began->second.time);
    }
    // One that resumes a run comes long after the step from which it goes on.
    if (event.kind == EventKind::term)
      if (const auto first = first_of_term(event.term)) return first;
    if (event.time && event.kind != EventKind::shares) return on_common_clock(event, *event.time);
    const auto seen = stage_.survey.marked.find(event.after_step);
    if (seen != stage_.survey.marked.end())
      if (const SeenCommit* commit = commit_of(event, seen->second))
        return stage_.aligned(commit->node, commit->time);
    if (event.time) return on_common_clock(event, *event.time);
    const auto metrics = metrics_.find(event.after_step);
    if (metrics != metrics_.end()) return metrics->second;
    return event.after_step == 0 ? std::optional(stage_.origin) : std::nullopt;
  }

  /// When its first generation began; nothing: it took another's over.
  std::optional<double> first_of_term(std::int64_t term) const {
    for (const RunEvent& event : history_.events) {
      if (event.kind != EventKind::generation || event.term != term) continue;
      const auto began = stage_.survey.began.find(event.generation);
      const bool is_at_its_begin = event.after_step == first_step_of(term);
      if (began == stage_.survey.began.end() || !is_at_its_begin) return std::nullopt;
      return stage_.aligned(began->second.node, began->second.time);
    }
    return std::nullopt;
  }
  /// After which a term goes on.
  std::int64_t first_step_of(std::int64_t term) const {
    for (const RunEvent& event : history_.events)
      if (event.kind == EventKind::term && event.term == term) return event.after_step;
    return 0;
  }

  /// Of a step that was done again after a resume, the commit in the event's term.
  const SeenCommit* commit_of(const RunEvent& event, const std::vector<SeenCommit>& seen) const {
    const SeenCommit* best = nullptr;
    for (const SeenCommit& commit : seen) {
      const auto term = terms_.find(commit.generation);
      if (term != terms_.end() && term->second > event.term) continue;
      if (best == nullptr || commit.generation > best->generation) best = &commit;
    }
    return best;
  }

  const std::string& run_dir_;
  const EventHistory& history_;
  const Stage& stage_;
  const std::map<std::int64_t, double>& metrics_;
  TraceFile& trace_;
  std::map<std::int64_t, std::int64_t> terms_;        // of generations
  std::map<std::int64_t, std::string> coordinators_;  // nodes of terms
  std::map<std::pair<std::int64_t, std::string>, Straggling> straggling_;
  const RunEvent* generation_ = nullptr;
  double generation_begun_ = 0;
  std::int64_t unplaced_ = 0;
};

}  // namespace

std::int64_t write_run(const std::string& run_dir, const EventHistory& history, const Stage& stage,
                       const std::map<std::int64_t, double>& metrics, const StepRange& range,
                       TraceFile& trace) {
  return RunTracks(run_dir, history, stage, metrics, trace).write(range);
}

}  // namespace paceline
