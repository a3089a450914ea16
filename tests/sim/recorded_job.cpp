#include "recorded_job.hpp"

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
#include <variant>

#include "paceline/base/text.hpp"
#include "seeing/telemetry_files.hpp"

namespace paceline::testing {
namespace {

constexpr double heartbeat_s = 0.1;
constexpr double least_step_s = 1e-4;

/// One worker's.
struct WorkerRecord {
  std::map<std::int64_t, StepTimed> steps;
  std::vector<std::pair<double, double>> cpu_s;  ///< at which time, and how much by then

  /// Between samples, as if it was used evenly.
  [[nodiscard]] double cpu_by(double time) const {
    const auto after = std::ranges::lower_bound(cpu_s, time, {}, &std::pair<double, double>::first);
    if (after == cpu_s.begin()) return cpu_s.empty() ? 0 : cpu_s.front().second;
    if (after == cpu_s.end()) return cpu_s.back().second;
    const auto before = std::prev(after);
    const double part = (time - before->first) / (after->first - before->first);
    return before->second + part * (after->second - before->second);
  }
};

Result<WorkerRecord> record_of(const TelemetryFiles& files) {
  WorkerRecord record;
  PACELINE_TRY(read_telemetry(files, [&record](const TelemetryLine& line) {
    if (const auto* step = std::get_if<StepTimed>(&line)) record.steps[step->step] = *step;
    if (const auto* sample = std::get_if<Sampled>(&line))
      if (const auto cpu_s = sample->values.find("cpu_s"); cpu_s != sample->values.end())
        record.cpu_s.emplace_back(sample->time, cpu_s->second);
  }));
  return record;
}

Instant instant(double at_s) {
  return Instant{} + std::chrono::duration_cast<Duration>(std::chrono::duration<double>(1000 + at_s));
}

}  // namespace

Result<RecordedJob> RecordedJob::read(const std::string& run_dir) {
  PACELINE_ASSIGN(const std::vector<TelemetryFiles> all, find_telemetry(run_dir));
  if (all.empty()) return Error{ErrorCode::not_found, concat(run_dir, " has no telemetry")};
  std::vector<WorkerRecord> workers;
  for (const TelemetryFiles& files : all) {
    PACELINE_ASSIGN(WorkerRecord record, record_of(files));
    workers.push_back(std::move(record));
  }
  RecordedJob job;
  job.ranks_ = workers.size();
  std::optional<double> begun;  // the step before, on rank 0
  for (const auto& [number, first] : workers.front().steps) {
    Step step;
    for (const WorkerRecord& worker : workers) {
      const auto found = worker.steps.find(number);
      if (found == worker.steps.end()) break;
      const StepTimed& timed = found->second;
      const auto seconds = [&timed](TimedPart part) {
        return 1e-6 * timed.parts_us.at(static_cast<std::size_t>(part));
      };
      step.ranks.push_back({timed.grains, seconds(TimedPart::data), seconds(TimedPart::forward),
                            seconds(TimedPart::backward), seconds(TimedPart::reduce),
                            seconds(TimedPart::commit), seconds(TimedPart::optimizer),
                            worker.cpu_by(timed.end()) - worker.cpu_by(timed.time)});
    }
    if (step.ranks.size() != workers.size()) continue;
    if (begun) job.steps_.back().took_s = std::max(least_step_s, first.time - *begun);
    begun = first.time;
    step.took_s = std::max(least_step_s, first.end() - first.time);
    job.steps_.push_back(std::move(step));
  }
  if (job.steps_.empty())
    return Error{ErrorCode::invalid_argument, concat(run_dir, ": no step that all workers had")};
  return job;
}

void RecordedJob::play(std::size_t first, double seconds, const Slowed& slowed, const StragglerRules& rules,
                       const TakeEvent& take) const {
  StragglerDetector detector(rules);
  std::vector<MeasuredSums> sums(ranks_);
  double now_s = 0, tick_s = heartbeat_s;
  for (std::size_t i = first; i < steps_.size() && now_s < seconds; ++i) {
    const bool is_slowed = now_s >= slowed.from_s && now_s < slowed.until_s;
    std::vector<double> longer_s(ranks_, 0);
    double before_s = 0, after_s = 0;  // of the last rank's own work
    for (std::size_t rank = 0; rank < ranks_; ++rank) {
      const RankStep& step = steps_[i].ranks[rank];
      if (is_slowed && (slowed.rank < 0 || slowed.rank == static_cast<int>(rank)))
        longer_s[rank] = (slowed.factor - 1) * (step.own_s() - step.data_s);
      before_s = std::max(before_s, step.own_s());
      after_s = std::max(after_s, step.own_s() + longer_s[rank]);
    }
    for (std::size_t rank = 0; rank < ranks_; ++rank) {
      const RankStep& step = steps_[i].ranks[rank];
      const double factor = longer_s[rank] > 0 ? slowed.factor : 1;
      MeasuredSums& sum = sums[rank];
      ++sum.steps;
      sum.grains += step.grains;
      sum.data_s += step.data_s;
      sum.forward_s += factor * step.forward_s;
      sum.backward_s += factor * step.backward_s;
      sum.optimizer_s += factor * step.optimizer_s;
      sum.reduce_s += std::max(0.0, step.reduce_s + after_s - before_s - longer_s[rank]);
      sum.commit_s += step.commit_s;
      sum.cpu_s += step.cpu_s + longer_s[rank];
    }
    now_s += steps_[i].took_s + after_s - before_s;
    for (; tick_s <= now_s; tick_s += heartbeat_s) {
      std::vector<RankReport> reports;
      for (std::size_t rank = 0; rank < ranks_; ++rank) {
        RankReport report;
        report.worker = static_cast<WorkerId>(rank);
        report.rank = static_cast<std::int64_t>(rank);
        report.node = "n0";
        report.heard = instant(tick_s);
        report.share = steps_[i].ranks[rank].grains;
        report.sums = sums[rank];
        reports.push_back(std::move(report));
      }
      for (const StragglerEvent& event : detector.observe(instant(tick_s), 1, reports)) take(tick_s, event);
    }
  }
}

}  // namespace paceline::testing
