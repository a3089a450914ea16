#include "allocation/jobs.hpp"

#include <algorithm>
#include <iostream>

#include "allocation/report.hpp"
#include "allreduce/table.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

constexpr std::int64_t most_probes = 5;  // of each kind, before the runs
// A machine that gets slower or quicker meanwhile does so for the reference too.
constexpr std::int64_t rounds_per_reference = 2;

struct Probes {
  std::vector<double> seconds, costs, step_s, restart_s;

  void add(const JobTrained& trained) {
    seconds.push_back(trained.run.seconds);
    costs.push_back(trained.run.cost);
    step_s.push_back(trained.step_s);
    if (trained.restart_s) restart_s.push_back(*trained.restart_s);
  }
};

double median(const std::vector<double>& values) {
  return spread_of(values).median;
}

/// A run that the figures rest on has to complete.
Status probe(JobRunner& runner, const JobTask& task, Probes& probes) {
  PACELINE_ASSIGN(const JobTrained trained, runner.train(task));
  if (!trained.run.completed)
    return Error{ErrorCode::io, concat("a job to measure by failed: ", trained.run.why)};
  probes.add(trained);
  return {};
}

/// In the middle between two checkpoints, the first of which is written by then.
Fault probe_fault(const AllocationOptions& options) {
  const std::int64_t every = options.checkpoint_steps;
  const std::int64_t half_way = options.steps / 2 / every * every;
  return {std::min(options.steps, half_way + every / 2 + 1), 0};
}

/// What a restart takes is seen within a run: between runs, a machine that is busy now and then takes more.
StaticCosts costs_of(const AllocationOptions& options, const Probes& slow, const Probes& lost) {
  return {median(slow.seconds), median(slow.step_s), median(lost.restart_s), options.checkpoint_steps};
}

void set_reference(const Probes& undisturbed, JobsReport& report) {
  report.references = std::ssize(undisturbed.seconds);
  report.runs.reference = {true, median(undisturbed.seconds), median(undisturbed.costs)};
}

/// The fault-free time, and what a static allocation takes with its slow rank, and loses with a fault.
Status measure_costs(JobRunner& runner, const AllocationOptions& options, JobsReport& report) {
  Probes undisturbed, slow, lost;
  for (std::int64_t i = 0; i < std::min(most_probes, options.runs); ++i) {
    PACELINE_TRY(probe(runner, {.has_slow_rank = false}, undisturbed));
    PACELINE_TRY(probe(runner, {}, slow));
    PACELINE_TRY(probe(runner, {.faults = {probe_fault(options)}}, lost));
  }
  set_reference(undisturbed, report);
  report.undisturbed_s = report.runs.reference.seconds;
  report.costs = costs_of(options, slow, lost);
  report.slow_only_s = report.costs.run_s;
  return {};
}

CalibrationTask calibration_of(const AllocationOptions& options, const JobsReport& report) {
  // A few seeds would say little; of many runs they are the very seeds.
  constexpr std::int64_t least_seeds = 100;
  return {.first_seed = options.seed,
          .seeds = std::max(least_seeds, options.runs),
          .steps = options.steps,
          .places = options.ranks,
          .deadline_s = report.runs.deadline_s(),
          .wanted = options.wanted_failures};
}

void say(std::int64_t round, const AllocationOptions& options, Way way, const JobRun& run) {
  std::cout << concat("run ", round + 1, " of ", options.runs, ", ", name_of(way), ": ",
                      short_number(run.seconds), " s, ", run.faults, run.faults == 1 ? " fault" : " faults",
                      run.launches > 1 ? concat(", ", run.launches, " launches") : "",
                      run.completed ? "" : concat(", failed: ", run.why))
            << std::endl;
}

/// Every way with the same faults. The first of them is another one each time.
Status run_round(JobRunner& runner, const AllocationOptions& options, std::int64_t round,
                 JobsReport& report) {
  const FaultPlan faults = plan_faults(options.seed + static_cast<std::uint64_t>(round),
                                       {report.calibration.mean, options.steps, options.ranks});
  for (std::size_t i = 0; i < all_ways.size(); ++i) {
    const Way way = all_ways.at((i + static_cast<std::size_t>(round)) % all_ways.size());
    PACELINE_ASSIGN(const JobTrained trained,
                    runner.train({.way = way, .faults = faults, .deadline_s = report.runs.deadline_s()}));
    say(round, options, way, trained.run);
    report.runs.by_way.at(static_cast<std::size_t>(way)).push_back(trained.run);
  }
  return {};
}

}  // namespace

std::vector<WayFigures> JobsReport::figures() const {
  std::vector<WayFigures> all;
  for (const Way way : all_ways) all.push_back(figures_of(way, runs));
  return all;
}

Result<JobsReport> measure_jobs(Stage& stage, const AllocationOptions& options, const std::string& dataset) {
  JobRunner runner(stage, options, dataset);
  JobsReport report;
  PACELINE_TRY(measure_costs(runner, options, report));
  report.calibration = calibrate(calibration_of(options, report), report.costs);
  std::cout << calibration_text(report, options) << std::flush;
  Probes in_turn;  // with the runs, which alone is fair to them
  for (std::int64_t round = 0; round < options.runs; ++round) {
    if (round % rounds_per_reference == 0) PACELINE_TRY(probe(runner, {.has_slow_rank = false}, in_turn));
    PACELINE_TRY(run_round(runner, options, round, report));
  }
  set_reference(in_turn, report);
  return report;
}

}  // namespace paceline::bench
