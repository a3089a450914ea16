#include "scaling/run.hpp"

#include <iostream>
#include <nlohmann/json.hpp>
#include <set>

#include "allreduce/table.hpp"
#include "command_line.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"
#include "paceline/data/dataset.hpp"
#include "paceline/job/plan.hpp"
#include "scaling/charts.hpp"
#include "scaling/report.hpp"
#include "scaling/training.hpp"

namespace paceline::bench {
namespace {

/// What is known before the first training.
struct Prepared {
  Job job;
  Inventory cores;
  ScalingReport report;
};

Result<Prepared> prepare(ScalingOptions options) {
  Prepared prepared;
  PACELINE_ASSIGN(prepared.job, load_scaling_job(options));
  PACELINE_ASSIGN(prepared.cores, own_cores());
  ScalingReport& report = prepared.report;
  PACELINE_ASSIGN(report.options,
                  settled(std::move(options), prepared.job, std::ssize(prepared.cores.cores)));
  PACELINE_TRY(check_json(report.options.json));
  PACELINE_TRY(check_output("--html", report.options.html));
  if (!report.options.compare.empty()) {
    PACELINE_ASSIGN(const std::string text, read_file(report.options.compare));
    PACELINE_ASSIGN(report.earlier, parse_earlier(text, report.options.compare));
  }
  const ModelSpec& model = prepared.job.model;
  report.job_name = prepared.job.name;
  report.model_name = model.kind.empty() ? model.plugin : model.kind;
  report.batch = prepared.job.batch.global;
  report.machine = this_machine();
  return prepared;
}

std::vector<ScalingMode> modes_of(const ScalingOptions& options) {
  if (options.weak) return {ScalingMode::strong, ScalingMode::weak};
  return {ScalingMode::strong};
}

/// Every one once, also where both modes have it.
std::set<TrainingSize> sizes_of(const ScalingReport& report) {
  std::set<TrainingSize> sizes;
  for (const ScalingMode mode : modes_of(report.options))
    for (const std::int64_t ranks : report.options.ranks) sizes.insert(size_of(mode, ranks, report.batch));
  return sizes;
}

/// A dataset that is smaller than a step would make it a smaller step.
Status check_dataset(const Job& job, const std::set<TrainingSize>& sizes) {
  const DatasetOptions options{.window = tokens_per_sample(job)};
  PACELINE_ASSIGN(const Dataset dataset, Dataset::open(job.data.train, options));
  for (const TrainingSize& size : sizes)
    if (size.batch > dataset.info().samples)
      return Error{ErrorCode::invalid_argument,
                   concat("a step of ", size.batch, " samples on ", size.ranks, " ranks is more than the ",
                          dataset.info().samples, " samples of ", shown(job.data.train),
                          ": choose a smaller batch.global, fewer ranks, or leave --weak out")};
  return {};
}

/// A step of one rank is its own ceiling.
Result<RoundFigures> measure(Trainer& trainer, const TrainingSize& size, bool ceiling_first) {
  RoundFigures figures;
  const auto measure_ceiling = [&]() -> Status {
    if (size.ranks == 1) return {};
    PACELINE_ASSIGN(const Trainer::SideBySide ceiling, trainer.side_by_side(size));
    figures.ceiling_step_ms = ceiling.step_ms;
    figures.ceiling_overlap = ceiling.overlap;
    return {};
  };
  if (ceiling_first) PACELINE_TRY(measure_ceiling());
  PACELINE_ASSIGN(figures.together, trainer.together(size));
  if (!ceiling_first) PACELINE_TRY(measure_ceiling());
  if (size.ranks == 1) figures.ceiling_step_ms = figures.together.step_ms;
  return figures;
}

void say(const ScalingReport& report, int round, const TrainingSize& size, const RoundFigures& figures) {
  std::cout << concat("round ", round + 1, " of ", report.options.rounds, ": ", size.ranks,
                      size.ranks == 1 ? " rank, " : " ranks, ", size.batch,
                      " samples: ", short_number(figures.together.step_ms), " ms a step");
  if (size.ranks > 1)
    std::cout << concat(", ", short_number(figures.ceiling_step_ms), " ms without communication");
  std::cout << std::endl;
}

/// Every second round goes the other way: a machine that warms up or slows down favours nobody.
Result<Measurements> measure_all(Trainer& trainer, const std::set<TrainingSize>& sizes,
                                 ScalingReport& report) {
  Measurements measurements;
  for (int round = 0; round < report.options.rounds; ++round) {
    const bool backwards = round % 2 != 0;
    std::vector<TrainingSize> order(sizes.begin(), sizes.end());
    if (backwards) order.assign(sizes.rbegin(), sizes.rend());
    for (const TrainingSize& size : order) {
      PACELINE_ASSIGN(RoundFigures figures, measure(trainer, size, backwards));
      say(report, round, size, figures);
      if (size == size_of(ScalingMode::strong, report.options.ranks.back(), report.batch))
        report.shares = figures.together.shares;
      measurements[size].push_back(std::move(figures));
    }
  }
  return measurements;
}

void judge(const Measurements& measurements, const Job& job, ScalingReport& report) {
  for (const ScalingMode mode : modes_of(report.options))
    for (ScalingRow& row : rows_of(mode, report.options.ranks, report.batch, measurements))
      report.rows.push_back(std::move(row));
  report.model = fit_model(report.rows, measurements,
                           {.steps = report.options.steps,
                            .grain_samples = job_grain(job, report.options.ranks.back()),
                            .simulate = report.options.simulate});
}

Status measure_and_tell(Stage& stage, Prepared& prepared) {
  ScalingReport& report = prepared.report;
  std::cout << describe(report.machine) << "\n" << describe(report) << std::endl;
  Trainer trainer(stage, report.options, prepared.job, prepared.cores);
  const std::set<TrainingSize> sizes = sizes_of(report);
  PACELINE_TRY(trainer.warm_up(size_of(ScalingMode::strong, report.options.ranks.back(), report.batch)));
  PACELINE_TRY(check_dataset(prepared.job, sizes));
  PACELINE_ASSIGN(const Measurements measurements, measure_all(trainer, sizes, report));
  judge(measurements, prepared.job, report);
  std::cout << text_of(report) << std::flush;
  if (!report.options.json.empty())
    PACELINE_TRY(write_file_atomically(report.options.json, to_json(report).dump(2) + "\n"));
  if (report.options.html.empty()) return {};
  return write_file_atomically(report.options.html, page_of(report));
}

int complain(const Error& error) {
  std::cout.flush();
  std::cerr << "paceline: " << error.message << "\n";
  return error.code == ErrorCode::invalid_argument ? 2 : 1;
}

}  // namespace

int run_scaling(ScalingOptions options) {
  Result<Prepared> prepared = prepare(std::move(options));
  if (!prepared.ok()) {
    complain(prepared.error());
    return 2;
  }
  const ScalingOptions& settled_options = prepared->report.options;
  const auto limit =
      std::chrono::duration_cast<Duration>(std::chrono::duration<double>(settled_options.timeout_s));
  const Result<std::unique_ptr<Stage>> stage = Stage::make(settled_options.folder, limit);
  if (!stage.ok()) return complain(stage.error());
  const Status done = measure_and_tell(**stage, *prepared);
  if (done.ok()) return 0;
  const int code = complain(done.error());
  return (*stage)->signal() != 0 ? 128 + (*stage)->signal() : code;
}

}  // namespace paceline::bench
