#include <algorithm>
#include <cmath>

#include "logs/line.hpp"
#include "paceline/base/text.hpp"
#include "seeing/counters.hpp"
#include "seeing/tracks.hpp"

namespace paceline {
namespace {

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

}  // namespace

Result<WorkerTold> write_worker(const WorkerSurvey& worker, const Stage& stage, const StepRange& range,
                                TraceFile& trace) {
  WorkerTrack track(worker, stage, range, trace);
  track.name();
  PACELINE_TRY(read_telemetry(worker.files, [&track](const TelemetryLine& line) {
    std::visit([&track](const auto& read) { track.take(read); }, line);
  }));
  return WorkerTold{track.steps(), track.lost()};
}

}  // namespace paceline
