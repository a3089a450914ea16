// The timeline of a run. Its telemetry is read twice: first for the clocks and for who is there, then each
// worker's lines become events as they come.
#include "seeing/timeline.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include "json_messages.hpp"
#include "logs/line.hpp"
#include "paceline/base/text.hpp"
#include "paceline/control/address.hpp"
#include "seeing/clocks.hpp"
#include "seeing/counters.hpp"
#include "seeing/survey.hpp"
#include "seeing/trace_file.hpp"

namespace paceline {
namespace {

constexpr std::int64_t run_process = 1;
constexpr std::int64_t first_node_process = 2;
/// Threads of the run's process, in the order in which they are shown.
enum RunThread : std::int64_t { generations = 1, shares, stragglers, decisions, milestones };

/// All that both the workers' events and the run's need.
struct Stage {
  const Survey& survey;
  const std::map<std::string, NodeClock>& clocks;
  std::map<std::string, std::int64_t> processes;  // of nodes
  double origin = 0;                              // seconds of the common clock
  double end = 0;

  [[nodiscard]] double aligned(const std::string& node, double time) const {
    const auto clock = clocks.find(node);
    return clock == clocks.end() ? time : clock->second.offset.aligned(time);
  }
  [[nodiscard]] std::int64_t us(double aligned_s) const {
    return std::max<std::int64_t>(0, std::llround((aligned_s - origin) * 1e6));
  }
};

// ---- workers

/// Writes one worker's events.
class WorkerTrack {
 public:
  WorkerTrack(const WorkerSurvey& worker, const Stage& stage, const StepRange& range, TraceFile& trace)
      : worker_(worker),
        stage_(stage),
        range_(range),
        trace_(trace),
        track_{stage.processes.at(worker.node), worker.files.worker + 1} {
    for (const WorkerSurvey& other : stage.survey.workers)
      if (other.node == worker.node && other.files.worker < worker.files.worker) earlier_.push_back(&other);
  }

  void name() {
    std::string ranks;
    for (const std::int64_t rank : worker_.ranks) ranks += concat(ranks.empty() ? "" : ", ", rank);
    const bool is_plain = ranks == concat(worker_.files.worker);
    const std::string label = ranks.empty() ? concat("worker ", worker_.files.worker)
                              : is_plain    ? concat("rank ", ranks)
                                            : concat("rank ", ranks, " (worker ", worker_.files.worker, ")");
    const std::int64_t place = worker_.ranks.empty() ? worker_.files.worker : worker_.ranks.back();
    trace_.name_thread(track_, label, place);
    suffix_ = concat(", worker ", worker_.files.worker);
  }

  void take(const RankTaken& rank) {
    if (!shows(rank.time)) return;
    trace_.mark(track_, concat("rank ", rank.rank, " of ", rank.ranks, ", generation ", rank.generation),
                at(rank.time));
  }
  void take(const StepTimed& step) {
    if (!range_.contains(step.step)) return;
    const Span span = place(step.time, step.end() - step.time);
    trace_.slice(track_, concat("step ", step.step), span.begin_us, span.took_us,
                 concat(R"({"step":)", step.step, R"(,"grains":)", step.grains, "}"));
    double done_us = 0;
    std::int64_t begun = 0;
    for (std::size_t i = 0; i < step.parts_us.size(); ++i) {
      done_us += step.parts_us.at(i);
      // What of a part lies before the step's beginning as it is shown is cut off.
      const std::int64_t ends =
          std::clamp<std::int64_t>(std::llround(done_us) - span.cut_us, begun, span.took_us);
      if (ends > begun) trace_.slice(track_, step_part_names.at(i), span.begin_us + begun, ends - begun);
      begun = ends;
    }
    ++steps_;
  }
  void take(const PhaseTimed& phase) {
    if (!shows(phase.time)) return;
    const Span span = place(phase.time, phase.took_us * 1e-6);
    trace_.slice(track_, without_control(phase.phase), span.begin_us, span.took_us);
  }
  void take(const Sampled& sample) {
    if (!shows(sample.time)) return;
    const bool for_node = speaks_for_node(sample.time);
    counters_.take(sample, [&](const CounterKind& kind, double value) {
      if (kind.is_of_node && !for_node) return;
      trace_.counter(track_.process, concat(kind.name, kind.is_of_node ? "" : suffix_), at(sample.time),
                     kind.unit, value);
    });
  }
  void take(const LinesLost& lost) {
    lost_ += lost.lines;
    if (shows(lost.time)) trace_.mark(track_, concat(lost.lines, " lines lost"), at(lost.time));
  }
  void take(const WorkerBegun&) {}
  void take(const OtherLine&) {}
  void take(std::monostate) {}

  [[nodiscard]] std::int64_t steps() const noexcept { return steps_; }
  [[nodiscard]] std::int64_t lost() const noexcept { return lost_; }

 private:
  struct Span {
    std::int64_t begin_us = 0;
    std::int64_t took_us = 0;
    std::int64_t cut_us = 0;  // from its beginning
  };
  [[nodiscard]] bool shows(double time) const { return time >= worker_.begin && time <= worker_.end; }
  [[nodiscard]] std::int64_t at(double time) const { return stage_.us(stage_.aligned(worker_.node, time)); }

  /// Viewers want slices of a thread one after the other: where rounding makes them overlap, the later one
  /// gives way. A clock that was set back is something else, and is shown.
  Span place(double time, double took_s) {
    Span span{at(time), std::llround(took_s * 1e6), 0};
    const std::int64_t overlap = last_end_us_ - span.begin_us;
    if (overlap > 0 && overlap <= span.took_us) span.cut_us = overlap;
    span.begin_us += span.cut_us;
    span.took_us -= span.cut_us;
    last_end_us_ = span.begin_us + span.took_us;
    return span;
  }

  /// No earlier worker of the node is there then.
  [[nodiscard]] bool speaks_for_node(double time) const {
    return std::ranges::none_of(
        earlier_, [time](const WorkerSurvey* other) { return other->begin <= time && time <= other->end; });
  }

  const WorkerSurvey& worker_;
  const Stage& stage_;
  const StepRange& range_;
  TraceFile& trace_;
  TraceTrack track_;
  std::vector<const WorkerSurvey*> earlier_;  // of its node
  Counters counters_;
  std::string suffix_;
  std::int64_t last_end_us_ = 0;
  std::int64_t steps_ = 0;
  std::int64_t lost_ = 0;
};

// ---- the run

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

// ---- all of it

std::set<std::int64_t> steps_of_interest(const EventHistory& history) {
  std::set<std::int64_t> steps;
  for (const RunEvent& event : history.events)
    if (event.after_step > 0 && (!event.time || event.kind == EventKind::shares))
      steps.insert(event.after_step);
  return steps;
}

/// Times of the steps of interest by the metrics, for those whose telemetry is gone.
Result<std::map<std::int64_t, double>> metrics_times(const std::string& run_dir, const Survey& survey) {
  std::map<std::int64_t, double> times;
  LineFile file(run_dir + "/metrics.jsonl");
  PACELINE_TRY(file.next([&](std::string_view line) {
    const auto metrics = parse_metrics_line(line);
    if (metrics && survey.marked.contains(metrics->step)) times[metrics->step] = metrics->time;
  }));
  return times;
}

Stage set_stage(const Survey& survey, const std::map<std::string, NodeClock>& clocks) {
  Stage stage{survey, clocks, {}, 0, 0};
  bool is_first = true;
  for (const WorkerSurvey& worker : survey.workers) {
    stage.processes.try_emplace(worker.node, first_node_process + std::ssize(stage.processes));
    const double begin = stage.aligned(worker.node, worker.begin);
    const double end = stage.aligned(worker.node, worker.end);
    stage.origin = is_first ? begin : std::min(stage.origin, begin);
    stage.end = is_first ? end : std::max(stage.end, end);
    is_first = false;
  }
  return stage;
}

std::vector<TimelineClock> clock_facts(const Survey& survey, const std::map<std::string, NodeClock>& clocks) {
  std::vector<TimelineClock> facts;
  for (const WorkerSurvey& worker : survey.workers) {
    if (std::ranges::find(facts, worker.node, &TimelineClock::node) != facts.end()) continue;
    const NodeClock& clock = clocks.at(worker.node);
    facts.push_back({worker.node, clock.common, clock.least_s, clock.greatest_s});
  }
  return facts;
}

std::string facts_text(const std::string& run, const Stage& stage, const TimelineFacts& facts) {
  nlohmann::json clocks = nlohmann::json::object();
  for (const TimelineClock& clock : facts.clocks)
    clocks[clock.node] = {{"common_commits", clock.common},
                          {"least_offset_s", clock.least_s},
                          {"greatest_offset_s", clock.greatest_s}};
  return dumped({{"run", run}, {"begins_unix_s", stage.origin}, {"clocks", clocks}});
}

Status check_range(const Survey& survey, const StepRange& range) {
  if (!survey.workers.empty()) return {};
  if (range.is_all())
    return Error{ErrorCode::not_found,
                 "the run has no telemetry: there is nothing that can be read in its folder telemetry/"};
  return Error{ErrorCode::not_found,
               concat("the run's telemetry has no step", range.from ? concat(" from ", *range.from) : "",
                      range.to ? concat(" to ", *range.to) : "")};
}

}  // namespace

Result<TimelineFacts> write_timeline(const std::string& run_dir, const std::string& out,
                                     const StepRange& range) {
  PACELINE_ASSIGN(const EventHistory history, read_events(run_dir));
  PACELINE_ASSIGN(const Survey survey, survey_telemetry(run_dir, range, steps_of_interest(history)));
  PACELINE_TRY(check_range(survey, range));
  PACELINE_ASSIGN(const auto metrics, metrics_times(run_dir, survey));
  const std::map<std::string, NodeClock> clocks = align_clocks(survey.commits, survey.workers.front().node);
  Stage stage = set_stage(survey, clocks);
  PACELINE_ASSIGN(FileInTheMaking file, FileInTheMaking::begin(out));
  TraceFile trace(std::move(file));
  TimelineFacts facts;
  facts.unreadable = survey.unreadable;
  facts.clocks = clock_facts(survey, clocks);
  facts.unplaced = RunTracks(run_dir, history, stage, metrics, trace).write(range);
  for (const auto& [node, process] : stage.processes)
    trace.name_process(process, concat("node ", without_control(node)), process);
  for (const WorkerSurvey& worker : survey.workers) {
    WorkerTrack track(worker, stage, range, trace);
    track.name();
    PACELINE_TRY(read_telemetry(worker.files, [&track](const TelemetryLine& line) {
      std::visit([&track](const auto& read) { track.take(read); }, line);
    }));
    const bool is_first = facts.steps == 0;
    if (worker.steps > 0) {
      facts.first_step = is_first ? worker.first_step : std::min(facts.first_step, worker.first_step);
      facts.last_step = std::max(facts.last_step, worker.last_step);
    }
    facts.steps += track.steps();
    facts.lost += track.lost();
    ++facts.workers;
  }
  PACELINE_ASSIGN(facts.bytes, trace.finish(facts_text(history.run, stage, facts)));
  return facts;
}

}  // namespace paceline
