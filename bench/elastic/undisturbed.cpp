// Parts `cost` and `checkpoint`: of jobs in which nothing fails.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "elastic/parts.hpp"
#include "elastic/training.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

using nlohmann::json;

constexpr std::int64_t first_steps = 30;  // are slower
// Of a run of steps: ten heartbeats and as many reports, and enough steps for a median; but a rank that is
// quiet for 5 s counts as lost.
constexpr double block_s = 1, longest_block_s = 3;
constexpr std::int64_t least_block = 10;
constexpr double most_cost_percent = 1, most_overlap_percent = 2;
// What the ranks agree on after each step: Vote in worker/src/trainer.cpp.
constexpr int vote_bytes = 56;

double percent(double ratio) {
  return (ratio - 1) * 100;
}

/// The median step of a job like the one to come.
Result<double> measure_step(const PartContext& context) {
  PACELINE_ASSIGN(auto training,
                  BackgroundTraining::start(context.stage, context.options, context.dataset, {}));
  PACELINE_TRY(training.await_steps(2 * first_steps));
  PACELINE_TRY(training.end());
  PACELINE_ASSIGN(const Commits commits, training.commits());
  const auto step = median_gap(commits, first_steps, 2 * first_steps);
  if (!step || *step <= 0) return Error{ErrorCode::corrupt, "the job has written no steps to metrics.jsonl"};
  return *step;
}

std::int64_t block_of(double step_s) {
  const auto wanted = std::max(static_cast<std::int64_t>(block_s / step_s), least_block);
  return std::max(std::min(wanted, static_cast<std::int64_t>(longest_block_s / step_s)), std::int64_t{1});
}

/// One vote of the ranks by itself, in seconds.
Result<double> measure_vote(const PartContext& context) {
  const std::string file = concat(context.stage.folder(), "/vote.json"), bytes = concat(vote_bytes);
  PACELINE_ASSIGN(const std::string output,
                  context.stage.paceline({"bench", "allreduce", "--ranks", concat(context.options.ranks),
                                          "--memory", "plain", "--dtype", "i64", "--min-bytes", bytes,
                                          "--max-bytes", bytes, "--json", file}));
  PACELINE_ASSIGN(const std::string text, read_file(file));
  const json report = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!report.is_object() || !report.contains("rows") || report["rows"].empty())
    return Error{ErrorCode::corrupt, "`paceline bench allreduce --json` wrote no rows"};
  return report["rows"][0].value("us_p50", 0.0) / 1e6;
}

std::vector<double> percents(const std::vector<double>& ratios) {
  std::vector<double> result;
  for (const double ratio : ratios) result.push_back(percent(ratio));
  return result;
}

PartReport checkpoint_report(const std::vector<CheckpointSpan>& spans, const Commits& commits,
                             std::int64_t steps_between) {
  Figure slower{"a step beside it, longer than a free one by", "%", {}};
  Figure copy{"the step with the copy, longer by", "ms", {}};
  Figure beside{"until it is published", "steps", {}};
  Figure share{"the copy, of the time from one to the next", "%", {}};
  for (const CheckpointSpan& span : spans) {
    const auto overlap = overlap_of(commits, span, span.step + steps_between);
    if (!overlap) continue;
    slower.values.push_back(percent(overlap->ratio));
    copy.values.push_back(overlap->copy_seconds * 1e3);
    beside.values.push_back(static_cast<double>(overlap->overlapped));
    const auto step = median_gap(commits, span.step + 1, span.step + steps_between);
    share.values.push_back(100 * overlap->copy_seconds / (*step * static_cast<double>(steps_between)));
  }
  PartReport report{"checkpoint", "steps while a checkpoint is written, and free ones", {}, {}};
  if (!slower.values.empty())
    report.targets.push_back(
        {"a step beside a checkpoint, median,", "%", spread_of(slower.values).median, most_overlap_percent});
  report.figures = {slower, copy, share, beside};
  return report;
}

}  // namespace

Result<PartReport> measure_cost(const PartContext& context) {
  PACELINE_ASSIGN(const double step, measure_step(context));
  PACELINE_ASSIGN(const double vote, measure_vote(context));
  const std::int64_t block = block_of(step);
  PACELINE_ASSIGN(auto training, BackgroundTraining::start(context.stage, context.options, context.dataset,
                                                           {.quiet_steps = block}));
  PACELINE_TRY(training.await_steps(first_steps));
  for (int i = 0; i <= context.options.cost_pairs + first_steps / block; ++i)
    PACELINE_TRY(training.await_steps(2 * block));
  PACELINE_TRY(training.end());
  PACELINE_ASSIGN(const Commits commits, training.commits());
  const std::vector<double> ratios = alternation_ratios(commits, block, first_steps);
  if (ratios.empty()) return Error{ErrorCode::corrupt, "too few steps were written down"};
  const Figure messages{"heartbeats and reports, of a step", "%", percents(ratios)};
  const Figure noise{"runs that are alike, against each other", "%",
                     percents(alternation_ratios(commits, block, first_steps, 2))};
  const Figure votes{"a vote, after each step", "us", {vote * 1e6}};
  return PartReport{"cost",
                    concat("runs of ", block, " steps with and without heartbeats and reports, in turn"),
                    {messages, noise, votes, {"step", "ms", {step * 1e3}}},
                    {{"median cost of both, of a step", "%",
                      spread_of(messages.values).median + 100 * vote / step, most_cost_percent}}};
}

Result<PartReport> measure_checkpoints(const PartContext& context) {
  const std::int64_t every = context.options.checkpoint_steps;
  PACELINE_ASSIGN(auto training, BackgroundTraining::start(context.stage, context.options, context.dataset,
                                                           {.checkpoint_steps = every}));
  for (int i = 0; i <= context.options.checkpoints; ++i) PACELINE_TRY(training.await_steps(every));
  PACELINE_ASSIGN(const std::string journal, training.journal());
  PACELINE_TRY(training.end());
  PACELINE_ASSIGN(const Commits commits, training.commits());
  PartReport report = checkpoint_report(parse_checkpoints(journal), commits, every);
  if (report.targets.empty())
    return Error{ErrorCode::invalid_argument,
                 concat("no steps were free of a checkpoint: --checkpoint-steps ", every, " is too few")};
  return report;
}

}  // namespace paceline::bench
