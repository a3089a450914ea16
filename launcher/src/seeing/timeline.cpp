// The timeline of a run. Its telemetry is read twice: first for the clocks and for who is there, then each
// worker's lines become events as they come.
#include "seeing/timeline.hpp"

#include <algorithm>
#include <set>

#include "json_messages.hpp"
#include "logs/line.hpp"
#include "paceline/base/text.hpp"
#include "seeing/lines.hpp"
#include "seeing/tracks.hpp"

namespace paceline {
namespace {

constexpr std::int64_t first_node_process = 2;  // the run's is 1

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
  facts.unplaced = write_run(run_dir, history, stage, metrics, range, trace);
  for (const auto& [node, process] : stage.processes)
    trace.name_process(process, concat("node ", without_control(node)), process);
  for (const WorkerSurvey& worker : survey.workers) {
    PACELINE_ASSIGN(const WorkerTold told, write_worker(worker, stage, range, trace));
    const bool is_first = facts.steps == 0;
    if (worker.steps > 0) {
      facts.first_step = is_first ? worker.first_step : std::min(facts.first_step, worker.first_step);
      facts.last_step = std::max(facts.last_step, worker.last_step);
    }
    facts.steps += told.steps;
    facts.lost += told.lost;
    ++facts.workers;
  }
  PACELINE_ASSIGN(facts.bytes, trace.finish(facts_text(history.run, stage, facts)));
  return facts;
}

}  // namespace paceline
