// Trainings in which a rank is held back now and then.
#include "rebalance/live.hpp"

#include <algorithm>

#include "elastic/training.hpp"
#include "paceline/base/text.hpp"
#include "paceline/job/job.hpp"
#include "paceline/job/plan.hpp"
#include "rebalance/hold_back.hpp"

namespace paceline::bench {
namespace {

constexpr std::int64_t first_steps = 30;  // are slower
/// Of a stop and a run of the slow rank together: so many in a step, so that each is slowed alike.
constexpr double stops_in_step = 12;
constexpr Duration shortest_period = std::chrono::microseconds(500);

struct Context {
  Stage& stage;
  const LiveOptions& live;
  ElasticOptions job;
  std::string dataset;
};

Result<BackgroundTraining> start(const Context& context, bool rebalance) {
  return BackgroundTraining::start(context.stage, context.job, context.dataset,
                                   {.rebalance = rebalance, .grain = context.live.grain});
}

Result<std::vector<ShareChange>> changes_of(const BackgroundTraining& training) {
  PACELINE_ASSIGN(const std::string journal, training.journal());
  return parse_share_changes(journal);
}

/// From when on steps count: the next one.
Result<std::int64_t> last_step(const BackgroundTraining& training) {
  PACELINE_ASSIGN(const Commits commits, training.commits());
  if (commits.empty()) return Error{ErrorCode::corrupt, "the job has written no steps to metrics.jsonl"};
  return commits.rbegin()->first;
}

Result<Duration> period_of(const BackgroundTraining& training, std::int64_t first, std::int64_t last) {
  PACELINE_ASSIGN(const Commits commits, training.commits());
  const auto step_s = median_gap(commits, first, last);
  if (!step_s) return Error{ErrorCode::corrupt, "the job has written no steps to metrics.jsonl"};
  const std::chrono::duration<double> period(*step_s / stops_in_step);
  return std::max(shortest_period, std::chrono::duration_cast<Duration>(period));
}

Result<Slowing> slow_down(const Context& context, BackgroundTraining& training, Duration period) {
  PACELINE_ASSIGN(const Standing standing, training.standing());
  const auto rank = static_cast<std::size_t>(context.live.slow.rank);
  if (standing.ranks.size() != static_cast<std::size_t>(context.live.ranks))
    return Error{ErrorCode::io, concat("the job has ", standing.ranks.size(), " ranks instead of ",
                                       context.live.ranks, ": one was lost")};
  Slowing slowing{.began = seconds_since_1970()};
  PACELINE_ASSIGN(HeldBack held, HeldBack::start(standing.ranks[rank], context.live.slow.factor, period));
  PACELINE_TRY(training.await_steps(context.live.steps));
  PACELINE_TRY(held.end());
  slowing.ended = seconds_since_1970();
  return slowing;
}

Result<DisturbedRun> disturb(const Context& context) {
  PACELINE_ASSIGN(BackgroundTraining training, start(context, true));
  DisturbedRun run;
  run.ranks = context.live.ranks;
  run.slow = context.live.slow;
  PACELINE_TRY(training.await_steps(first_steps));
  PACELINE_ASSIGN(run.first_step, last_step(training));
  PACELINE_TRY(training.await_steps(context.live.steps));
  PACELINE_ASSIGN(const std::int64_t last, last_step(training));
  PACELINE_ASSIGN(const Duration period, period_of(training, run.first_step, last));
  for (int round = 0; round < context.live.rounds; ++round) {
    PACELINE_ASSIGN(const Slowing slowing, slow_down(context, training, period));
    run.slowings.push_back(slowing);
    PACELINE_TRY(training.await_steps(context.live.steps));
  }
  PACELINE_TRY(training.end());
  PACELINE_ASSIGN(run.commits, training.commits());
  PACELINE_ASSIGN(run.changes, changes_of(training));
  return run;
}

Status train_equal(const Context& context, bool rebalance, EqualPair& pair) {
  PACELINE_ASSIGN(BackgroundTraining training, start(context, rebalance));
  PACELINE_TRY(training.await_steps(first_steps));
  PACELINE_ASSIGN(const std::int64_t first, last_step(training));
  PACELINE_TRY(training.await_steps(context.live.steps));
  PACELINE_TRY(training.end());
  PACELINE_ASSIGN(const Commits commits, training.commits());
  std::vector<double> gaps_ms;
  for (std::int64_t step = first + 1; step <= first + context.live.steps; ++step)
    if (const auto gap = gap_of(commits, step)) gaps_ms.push_back(*gap * 1e3);
  if (gaps_ms.empty()) return Error{ErrorCode::corrupt, "the job has written no steps to metrics.jsonl"};
  (rebalance ? pair.balanced_ms : pair.fixed_ms) = usual(std::move(gaps_ms));
  if (!rebalance) return {};
  PACELINE_ASSIGN(const std::vector<ShareChange> changes, changes_of(training));
  pair.moves = std::ssize(changes);
  return {};
}

Result<std::int64_t> grains_per_rank(const LiveOptions& live) {
  Job job;
  job.batch.global = live.batch;
  job.batch.grain = live.grain;
  job.ranks.max = live.ranks;
  return grain_count(live.batch, job_grain(job, live.ranks)) / live.ranks;
}

}  // namespace

Result<LiveReport> train_with_slow_rank(Stage& stage, const LiveOptions& options) {
  Context context{stage, options, {}, {}};
  context.job.model = options.model;
  context.job.ranks = options.ranks;
  context.job.batch = options.batch;
  context.job.images = options.images;
  PACELINE_ASSIGN(context.dataset, make_images(stage, context.job));
  LiveReport report;
  PACELINE_ASSIGN(report.grains_per_rank, grains_per_rank(options));
  PACELINE_ASSIGN(const DisturbedRun run, disturb(context));
  PACELINE_ASSIGN(report.disturbed, figures_of(run));
  for (int round = 0; round < options.rounds; ++round) {
    // Whatever drifts, drifts through both: the order changes with each pair.
    EqualPair& pair = report.equal.emplace_back();
    PACELINE_TRY(train_equal(context, round % 2 == 0, pair));
    PACELINE_TRY(train_equal(context, round % 2 != 0, pair));
  }
  return report;
}

}  // namespace paceline::bench
