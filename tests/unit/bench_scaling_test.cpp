// `paceline bench scaling` without trainings: its options, arithmetic, readers and reports.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "paceline/base/text.hpp"
#include "scaling/charts.hpp"
#include "scaling/earlier.hpp"
#include "scaling/figures.hpp"
#include "scaling/model.hpp"
#include "scaling/options.hpp"
#include "scaling/report.hpp"
#include "scaling/run_files.hpp"
#include "scaling/training.hpp"
#include "support/mutations.hpp"

namespace paceline::bench {
namespace {

using nlohmann::json;

Job job_of(std::int64_t least, std::int64_t most) {
  Job job;
  job.name = "a-job";
  job.model.kind = "mlp";
  job.batch.global = 256;
  job.ranks = {.min = least, .max = most, .grow = ""};
  return job;
}

ScalingOptions options_of(const std::vector<std::string>& arguments) {
  std::vector<std::string> all = {"job.yaml"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  const auto options = parse_scaling(all);
  EXPECT_TRUE(options.ok()) << (options.ok() ? "" : options.error().message);
  return options.ok() ? *options : ScalingOptions{};
}

/// Refused with one line that has `part`.
template <class T>
void expect_refused(const Result<T>& result, const std::string& part) {
  ASSERT_FALSE(result.ok()) << "expected a sentence about " << part;
  EXPECT_EQ(result.error().code, ErrorCode::invalid_argument);
  EXPECT_NE(result.error().message.find(part), std::string::npos) << result.error().message;
  EXPECT_EQ(result.error().message.find('\n'), std::string::npos) << result.error().message;
}

TEST(BenchScalingOptions, TakesRanksInAnyOrder) {
  const ScalingOptions options = options_of({"--ranks", "4,1,2", "--weak", "--set", "model=mlp"});
  EXPECT_EQ(options.ranks, (std::vector<std::int64_t>{1, 2, 4}));
  EXPECT_TRUE(options.weak);
  EXPECT_EQ(options.job_file, "job.yaml");
  EXPECT_EQ(options.sets, std::vector<std::string>{"model=mlp"});
}

TEST(BenchScalingOptions, RefusesInOneSentence) {
  expect_refused(parse_scaling({}), "which job");
  expect_refused(parse_scaling({"job.yaml", "--ranks", "1,2,2"}), "2 twice");
  expect_refused(parse_scaling({"job.yaml", "--ranks", "0,1"}), "0 is no number");
  expect_refused(parse_scaling({"job.yaml", "--ranks", "1,two"}), "two is no number");
  expect_refused(parse_scaling({"job.yaml", "--ranks", "1,,2"}), "is no number");
  expect_refused(parse_scaling({"job.yaml", "--ranks", ""}), "is no number");
  expect_refused(parse_scaling({"job.yaml", "--ranks", "1,-2"}), "-2 is no number");
  expect_refused(parse_scaling({"job.yaml", "--ranks", "99999"}), "99999 is no number");
  expect_refused(parse_scaling({"job.yaml", "--rounds", "0"}), "--rounds");
  expect_refused(parse_scaling({"job.yaml", "--steps", "1"}), "--steps");
  expect_refused(parse_scaling({"job.yaml", "--set", "model"}), "key=value");
  expect_refused(parse_scaling({"job.yaml", "--simulate", "-4"}), "--simulate");
  expect_refused(parse_scaling({"job.yaml", "--bogus"}), "--bogus");
}

TEST(BenchScalingOptions, SuitsThemToTheJobAndTheMachine) {
  const auto settled_ranks = [](const Job& job, std::int64_t cores) {
    const auto options = settled(options_of({}), job, cores);
    return options.ok() ? options->ranks : std::vector<std::int64_t>{};
  };
  EXPECT_EQ(settled_ranks(job_of(1, 64), 8), (std::vector<std::int64_t>{1, 2, 4, 8}));
  EXPECT_EQ(settled_ranks(job_of(1, 3), 8), (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(settled_ranks(job_of(4, 8), 2), (std::vector<std::int64_t>{4}));
  EXPECT_EQ(settled(options_of({"--ranks", "1,2"}), job_of(1, 4), 8)->threads, 4);
  EXPECT_EQ(settled(options_of({"--ranks", "1,4"}), job_of(1, 4), 2)->threads, 1);
  Job job = job_of(1, 4);
  job.threads = 3;
  EXPECT_EQ(settled(options_of({"--ranks", "1,2"}), job, 8)->threads, 3);
  EXPECT_EQ(settled(options_of({"--ranks", "1,2", "--threads", "2"}), job, 8)->threads, 2);
}

TEST(BenchScalingOptions, RefusesWhatTheJobCannotHave) {
  expect_refused(settled(options_of({"--ranks", "1,8"}), job_of(1, 4), 2), "1 to 4 ranks");
  expect_refused(settled(options_of({"--ranks", "1,2"}), job_of(2, 4), 2), "--ranks 1");
  expect_refused(settled(options_of({"--ranks", "1,4", "--simulate", "4"}), job_of(1, 4), 2), "--simulate 4");
  expect_refused(settled(options_of({"--ranks", "1,4", "--simulate", "512"}), job_of(1, 4), 2), "--simulate");
  Job few = job_of(1, 8);
  few.batch = {.global = 4, .micro = 0, .grain = 2};
  expect_refused(settled(options_of({"--ranks", "4"}), few, 2), "--ranks 4");
}

TEST(BenchScaling, GivesEachRankAloneWhatItHasTogether) {
  const Job job = job_of(1, 4);
  for (const TrainingSize& size : {TrainingSize{1, 256}, TrainingSize{2, 256}, TrainingSize{3, 250}}) {
    const auto samples = samples_of_ranks(job, size);
    ASSERT_TRUE(samples.ok());
    ASSERT_EQ(std::ssize(*samples), size.ranks);
    std::int64_t sum = 0;
    for (const std::int64_t one : *samples) {
      EXPECT_GT(one, 0);
      sum += one;
    }
    EXPECT_EQ(sum, size.batch);
  }
}

TEST(BenchScaling, KnowsTheCoresThatItMayUse) {
  const auto cores = own_cores();
  ASSERT_TRUE(cores.ok());
  ASSERT_FALSE(cores->cores.empty());
  for (const Core& core : cores->cores) EXPECT_FALSE(core.cpus.empty());
}

TEST(BenchScaling, TheCeilingDoesWhatAllTrainingsDoTogether) {
  EXPECT_DOUBLE_EQ(ceiling_step_ms({128, 128}, {10, 10}, 256), 10);
  // 128 samples in 10 ms and 128 in 20 ms are 19.2 a ms.
  EXPECT_DOUBLE_EQ(ceiling_step_ms({128, 128}, {10, 20}, 256), 256 / 19.2);
}

/// Steps of `ms`, the first one committed at `begin` seconds.
Commits commits_of(double begin, double ms, std::int64_t steps) {
  Commits commits;
  for (std::int64_t step = 1; step <= steps; ++step)
    commits[step] = begin + static_cast<double>(step - 1) * ms / 1e3;
  return commits;
}

TEST(BenchScaling, OnlyTheTimeInWhichAllTrainCounts) {
  // The second begins 1 s later, and alone the first took half of the time.
  Commits first = commits_of(100, 10, 101);
  for (std::int64_t step = 102; step <= 201; ++step) first[step] = first[step - 1] + 0.020;
  const auto common = common_steps({first, commits_of(101, 20, 301)}, 0);
  ASSERT_TRUE(common);
  EXPECT_NEAR(common->step_ms[0], 20, 1e-6);
  EXPECT_NEAR(common->step_ms[1], 20, 1e-6);
  EXPECT_NEAR(common->overlap, 1.0 / 3, 0.02);
  EXPECT_FALSE(common_steps({commits_of(0, 10, 100), commits_of(50, 10, 100)}, 0)) << "one after the other";
  EXPECT_FALSE(common_steps({commits_of(0, 10, 5)}, 5)) << "all are skipped";
  EXPECT_FALSE(common_steps({{}}, 0));
}

TEST(BenchScaling, TheFirstStepsAreLeftOut) {
  Commits commits = commits_of(100, 10, 20);
  for (auto& [step, time] : commits)
    if (step <= 5) time = 50 + static_cast<double>(step);  // a second each
  const auto common = common_steps({commits}, 6);
  ASSERT_TRUE(common);
  EXPECT_NEAR(common->step_ms[0], 10, 1e-6);
  EXPECT_EQ(common->overlap, 1);
}

TEST(BenchScaling, SaysWhereACeilingIsInDoubt) {
  RoundFigures round;
  round.together.step_ms = 50;
  round.ceiling_step_ms = 40;
  round.ceiling_overlap = 0.25;
  ScalingReport report;
  report.rows = rows_of(ScalingMode::strong, {2}, 256, {{{2, 256}, {round}}});
  ASSERT_EQ(doubts_of(report).size(), 1U);
  EXPECT_NE(doubts_of(report)[0].find("25.0%"), std::string::npos);
  report.rows[0].ceiling_overlap = 0.9;
  EXPECT_TRUE(doubts_of(report).empty());
}

RoundFigures round_of(double step_ms, double ceiling_ms) {
  RoundFigures round;
  round.together.step_ms = step_ms;
  round.together.step_p90_ms = step_ms * 1.1;
  round.together.exposed_ms = step_ms / 10;
  round.ceiling_step_ms = ceiling_ms;
  return round;
}

TEST(BenchScaling, RatiosAreTakenWithinEachRound) {
  // The machine is half as fast in the second round, which no ratio shows.
  const Measurements measurements = {
      {{1, 256}, {round_of(100, 100), round_of(200, 200), round_of(100, 100)}},
      {{2, 256}, {round_of(62.5, 50), round_of(125, 100), round_of(62.5, 50)}}};
  const auto rows = rows_of(ScalingMode::strong, {1, 2}, 256, measurements);
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_DOUBLE_EQ(rows[0].efficiency.value, 1);
  EXPECT_DOUBLE_EQ(rows[0].fraction_of_ceiling.value, 1);
  EXPECT_DOUBLE_EQ(rows[1].step_ms.value, 62.5);
  EXPECT_DOUBLE_EQ(rows[1].step_ms.high, 125);
  EXPECT_DOUBLE_EQ(rows[1].efficiency.value, 0.8);
  EXPECT_DOUBLE_EQ(rows[1].efficiency.low, 0.8);
  EXPECT_DOUBLE_EQ(rows[1].fraction_of_ceiling.value, 0.8);
  EXPECT_DOUBLE_EQ(rows[1].ceiling_efficiency.value, 1);
  EXPECT_DOUBLE_EQ(rows[1].samples_per_second.value, 4096);
  EXPECT_DOUBLE_EQ(rows[1].exposed_ms, 6.25);
  EXPECT_FALSE(rows[1].parts);
}

TEST(BenchScaling, WeakScalingKeepsTheSamplesOfARank) {
  const Measurements measurements = {{{1, 256}, {round_of(100, 100)}}, {{4, 1024}, {round_of(125, 110)}}};
  const auto rows = rows_of(ScalingMode::weak, {1, 4}, 256, measurements);
  EXPECT_EQ(rows[1].size.batch, 1024);
  EXPECT_DOUBLE_EQ(rows[1].efficiency.value, 0.8);
  EXPECT_DOUBLE_EQ(rows[1].samples_per_second.value, 8192);
}

TEST(BenchScaling, ReadsTheSummaryOfATraining) {
  const auto figures = parse_summary(
      R"({"status":"completed","step_ms":{"p50":12.5,"p90":14,"p99":20},"exposed_allreduce_ms":{"p50":0.5},)"
      R"("data_wait_ms":{"p50":0.25}})");
  ASSERT_TRUE(figures.ok());
  EXPECT_EQ(figures->step_ms, 12.5);
  EXPECT_EQ(figures->step_p90_ms, 14);
  EXPECT_EQ(figures->exposed_ms, 0.5);
  EXPECT_EQ(figures->data_wait_ms, 0.25);
  for (const char* bad :
       {"", "[]", "{}", R"({"step_ms":{"p50":0,"p90":0}})", R"({"step_ms":{"p50":-1,"p90":1}})",
        R"({"step_ms":{"p50":1,"p90":1},"exposed_allreduce_ms":3})",
        R"({"step_ms":{"p50":1e300,"p90":1},"exposed_allreduce_ms":{"p50":1},"data_wait_ms":{"p50":1}})"})
    EXPECT_FALSE(parse_summary(bad).ok()) << bad;
  EXPECT_EQ(failure_in(R"({"status":"failed","error":"there is no dataset at x"})"),
            "there is no dataset at x");
  EXPECT_EQ(failure_in("{}"), "");
  EXPECT_EQ(failure_in("torn {"), "");
}

// ---- what a run leaves behind ----

std::string step_line(int step, double forward_us) {
  return concat(R"({"type":"step","time":1795353571.625,"step":)", step,
                R"(,"grains":21,"data":100,"forward":)", forward_us,
                R"(,"backward":17000,"reduce":800,"commit":90,"optimizer":700})", "\n");
}

const std::string worker_lines =
    R"({"type":"worker","version":1,"worker":3,"node":"n1","pid":4711,"time":1795353570.125})"
    "\n"
    R"({"type":"rank","time":1795353571.5,"generation":2,"rank":1,"ranks":3,"step":41})"
    "\n";

TEST(BenchScaling, ReadsThePartsOfStepsFromTelemetry) {
  std::string text = worker_lines + step_line(1, 90000) + step_line(2, 8000) + step_line(3, 9000);
  text += R"({"type":"phase","time":1795353580.0,"phase":"evaluate","took":812000})";
  text += "\nno JSON\n{\"type\":\"step\",\"data\":-1}\n{\"type\":7}\n[]\n" + step_line(4, 10000) +
          step_line(5, 99).substr(0, 50);  // torn
  const auto parts = parse_step_parts(text, 1);
  ASSERT_TRUE(parts);
  EXPECT_DOUBLE_EQ(parts->forward, 9);
  EXPECT_DOUBLE_EQ(parts->backward, 17);
  EXPECT_DOUBLE_EQ(parts->data, 0.1);
  EXPECT_DOUBLE_EQ(parts->reduce, 0.8);
  EXPECT_DOUBLE_EQ(parts->commit, 0.09);
  EXPECT_DOUBLE_EQ(parts->optimizer, 0.7);
  EXPECT_FALSE(parse_step_parts(text, 4)) << "all four are skipped";
  EXPECT_FALSE(parse_step_parts("", 0));
}

TEST(BenchScaling, ReadsSharesFromAJournal) {
  const std::string journal =
      "{\"type\":\"journal\",\"version\":2}\n"
      "{\"type\":\"shares\",\"step\":131,\"generation\":1,\"shares\":[17,17,13,17],\"gain\":0.2}\n"
      "{\"type\":\"shares\",\"step\":0,\"shares\":[1]}\n{\"type\":\"shares\",\"step\":5,\"shares\":[]}\n"
      "{\"type\":\"shares\",\"step\":5,\"shares\":[-1]}\n{\"type\":\"shares\",\"step\":5,\"shares\":[1,\"x\"]"
      "}\n"
      "{\"type\":\"shares\",\"step\":200,\"shares\":[20,20,4,20]}\n{\"type\":\"shares\",\"step\":2";
  const auto changes = parse_share_changes(journal);
  ASSERT_EQ(changes.size(), 2U);
  EXPECT_EQ(changes[0].step, 131);
  EXPECT_EQ(changes[0].shares, (std::vector<std::int64_t>{17, 17, 13, 17}));
  EXPECT_EQ(changes[1].step, 200);
}

TEST(BenchScaling, AnyBytesAreATelemetryFileWithMoreOrFewerSteps) {
  const std::string example = worker_lines + step_line(1, 8000) + step_line(2, 9000);
  const Tally outcome =
      feed({example}, "{}[]\",:0123456789-+eE.\nstepforwad", 7, [](const std::string& text) {
        const auto parts = parse_step_parts(text, 0);
        if (!parts) return false;
        for (const double value :
             {parts->data, parts->forward, parts->backward, parts->reduce, parts->commit, parts->optimizer}) {
          EXPECT_TRUE(std::isfinite(value) && value >= 0);
        }
        return true;
      });
  EXPECT_GT(outcome.good, 1000);
  EXPECT_GT(outcome.bad, 1000);
}

TEST(BenchScaling, AnyBytesAreAJournalWithMoreOrFewerShares) {
  const std::string example = "{\"type\":\"shares\",\"step\":131,\"shares\":[17,17,13,17],\"gain\":0.2}\n";
  const Tally outcome = feed({example}, "{}[]\",:0123456789-+eE.\nshare", 8, [](const std::string& text) {
    const auto changes = parse_share_changes(text);
    for (const ShareChange& change : changes) {
      EXPECT_GE(change.step, 1);
      EXPECT_FALSE(change.shares.empty());
      for (const std::int64_t share : change.shares) EXPECT_GE(share, 0);
    }
    return !changes.empty();
  });
  EXPECT_GT(outcome.good, 1000);
  EXPECT_GT(outcome.bad, 1000);
}

// ---- reports ----

/// A machine on which computing a sample takes 1 ms, 20 ms are the same on any number of ranks, and each rank
/// beyond the first waits 2 ms for the others.
double step_on(double ranks, double batch) {
  return 20 + batch / ranks + (ranks > 1 ? 2 * (ranks - 1) : 0);
}

ScalingReport report_of(const std::vector<std::string>& arguments) {
  ScalingReport report;
  const Job job = job_of(1, 64);
  report.options = *settled(options_of(arguments), job, 4);
  report.job_name = job.name;
  report.model_name = job.model.kind;
  report.batch = job.batch.global;
  report.machine.processor = "Difference Engine <No. 2>";
  report.machine.cores = 4;
  Measurements measurements;
  for (const ScalingMode mode : {ScalingMode::strong, ScalingMode::weak})
    for (const std::int64_t ranks : report.options.ranks) {
      const TrainingSize size = size_of(mode, ranks, report.batch);
      const auto count = static_cast<double>(ranks), batch = static_cast<double>(size.batch);
      const double step = step_on(count, batch);
      RoundFigures round = round_of(step, 20 + batch / count);
      round.together.parts =
          StepParts{1, batch / count / 3, batch / count / 1.5, step - 20 - batch / count, 1, 18};
      round.together.slowest_compute_ms = batch / count;
      round.together.least_reduce_ms = step - 20 - batch / count;
      if (mode == ScalingMode::strong || report.options.weak) measurements[size] = {round, round};
    }
  for (const ScalingRow& row : rows_of(ScalingMode::strong, report.options.ranks, report.batch, measurements))
    report.rows.push_back(row);
  if (report.options.weak)
    for (const ScalingRow& row : rows_of(ScalingMode::weak, report.options.ranks, report.batch, measurements))
      report.rows.push_back(row);
  report.model = fit_model(report.rows, measurements,
                           {.steps = 100, .grain_samples = 1, .simulate = report.options.simulate});
  return report;
}

TEST(BenchScaling, TheModelSeesWhatTheRanksSay) {
  RoundFigures round = round_of(50, 40);
  round.together.data_wait_ms = 1;
  const SizeObservation coarse = observation_of({2, 256}, {round, round}, 100);
  EXPECT_EQ(coarse.steps, 200);
  EXPECT_DOUBLE_EQ(coarse.exposed_reduce_ms, 5);
  EXPECT_DOUBLE_EQ(coarse.compute_ms, 44);
  EXPECT_NEAR(coarse.step_deviation_ms, 5 / 1.2816, 1e-9);
  round.together.parts = StepParts{};
  round.together.slowest_compute_ms = 49;
  round.together.least_reduce_ms = 3;
  const SizeObservation fine = observation_of({2, 256}, {round}, 100);
  EXPECT_DOUBLE_EQ(fine.exposed_reduce_ms, 3);
  EXPECT_DOUBLE_EQ(fine.compute_ms, 47) << "parts are never more than the whole";
}

TEST(BenchScaling, FitsTheModelToAllSizes) {
  const ScalingReport report = report_of({"--ranks", "1,2,4", "--weak", "--simulate", "12"});
  ASSERT_TRUE(report.model.step) << report.model.no_step;
  ASSERT_TRUE(report.model.law) << report.model.no_law;
  EXPECT_NEAR(report.model.step->ms_per_sample.value, 1, 0.2);
  std::vector<std::int64_t> simulated;
  for (const ScalingRow& row : report.rows) {
    ASSERT_TRUE(row.predicted_step_ms);
    const double truth = step_on(static_cast<double>(row.size.ranks), static_cast<double>(row.size.batch));
    EXPECT_NEAR(row.predicted_step_ms->value, truth, 0.2 * truth) << row.size.ranks;
    EXPECT_LE(row.predicted_step_ms->low, row.predicted_step_ms->value);
    EXPECT_GE(row.predicted_step_ms->high, row.predicted_step_ms->value);
    EXPECT_EQ(row.foretold_step_ms.has_value(), !row.simulated);
    if (row.simulated && row.mode == ScalingMode::strong) simulated.push_back(row.size.ranks);
    if (row.simulated && row.mode == ScalingMode::weak) {
      EXPECT_EQ(row.size.batch, row.size.ranks * 256);
    }
  }
  EXPECT_EQ(simulated, (std::vector<std::int64_t>{8, 12}));
}

TEST(BenchScaling, TwoSizesGiveNoScalabilityLawButSaySo) {
  const ScalingReport report = report_of({"--ranks", "1,2"});
  EXPECT_FALSE(report.model.law);
  EXPECT_NE(text_of(report).find("no scalability law: "), std::string::npos) << text_of(report);
  EXPECT_TRUE(to_json(report)["model"]["scalability_law"].is_null());
  EXPECT_EQ(to_json(report)["model"]["missing"].size(), 1U);
}

TEST(BenchScaling, JsonHasTheAgreedKeys) {
  ScalingReport report = report_of({"--ranks", "1,2,4", "--simulate", "8"});
  report.shares = {{1, {32, 32, 32, 32}}};
  const json all = to_json(report);
  ASSERT_EQ(all["rows"].size(), 4U);
  const json& row = all["rows"][2];
  EXPECT_EQ(row["mode"], "strong");
  EXPECT_EQ(row["ranks"], 4);
  EXPECT_EQ(row["simulated"], false);
  EXPECT_DOUBLE_EQ(row["step_ms"].get<double>(), step_on(4, 256));
  EXPECT_DOUBLE_EQ(row["fraction_of_ceiling"].get<double>(), 84 / step_on(4, 256));
  for (const char* key : {"step_ms_low", "step_ms_high", "samples_per_second", "efficiency",
                          "ceiling_step_ms", "exposed_ms", "predicted_step_ms", "foretold_step_ms"})
    EXPECT_TRUE(row[key].is_number()) << key;
  for (const char* part : {"data", "forward", "backward", "reduce", "commit", "optimizer"})
    EXPECT_TRUE(row["parts"][part].is_number()) << part;
  EXPECT_EQ(all["rows"][3]["simulated"], true);
  EXPECT_EQ(all["rows"][3]["ranks"], 8);
  EXPECT_FALSE(all["rows"][3].contains("ceiling_step_ms"));
  EXPECT_TRUE(all["model"]["scalability_law"]["contention"]["value"].is_number());
  EXPECT_TRUE(all["model"]["step_law"]["gamma"]["high"].is_number());
  EXPECT_EQ(all["shares"][0]["shares"][3], 32);
}

TEST(BenchScaling, TheTableSaysWhatIsSimulated) {
  const std::string text = text_of(report_of({"--ranks", "1,2,4", "--weak", "--simulate", "8"}));
  EXPECT_NE(text.find("strong scaling: 256 samples a step\n"), std::string::npos) << text;
  EXPECT_NE(text.find("weak scaling: 256 samples a step for each rank\n"), std::string::npos);
  EXPECT_NE(text.find("  simulated\n"), std::string::npos);
  EXPECT_NE(text.find("scalability law: contention"), std::string::npos);
  EXPECT_NE(text.find("parts of a step"), std::string::npos);
}

TEST(BenchScaling, ThePageHasItsCharts) {
  ScalingReport report = report_of({"--ranks", "1,2,4", "--weak", "--simulate", "8"});
  report.shares = {{1, {32, 32}}, {50, {40, 24}}};
  const std::string page = page_of(report);
  for (const char* title : {"<h3>Efficiency</h3>", "<h3>Throughput</h3>", "<h3>Parts of a step</h3>",
                            "<h3>Shares over time</h3>", "<h2>Weak scaling</h2>", "<td>simulated</td>"})
    EXPECT_NE(page.find(title), std::string::npos) << title;
  EXPECT_NE(page.find("Difference Engine &lt;No. 2&gt;"), std::string::npos);
}

TEST(BenchScaling, ComparesWithAnEarlierRun) {
  ScalingReport report = report_of({"--ranks", "1,2", "--compare", "old.json"});
  json old = to_json(report);
  old["rows"][1]["step_ms"] = 2 * old["rows"][1]["step_ms"].get<double>();
  const auto earlier = parse_earlier(old.dump(), "old.json");
  ASSERT_TRUE(earlier.ok()) << earlier.error().message;
  report.earlier = *earlier;
  const std::string text = text_of(report);
  EXPECT_NE(text.find("compared with old.json"), std::string::npos) << text;
  EXPECT_NE(text.find("2 ranks: "), std::string::npos);
  EXPECT_NE(text.find("200.0% of the speed"), std::string::npos);
  EXPECT_EQ(text.find("another machine"), std::string::npos);
  EXPECT_EQ(to_json(report)["rows"][1]["earlier_step_ms"], old["rows"][1]["step_ms"]);
  report.machine.cores = 64;
  EXPECT_NE(text_of(report).find("another machine"), std::string::npos);
}

TEST(BenchScaling, RefusesToCompareWithAnythingElse) {
  for (const char* bad : {"", "[]", "{}", R"({"rows":7})", R"({"rows":[]})", R"({"rows":[1]})",
                          R"({"rows":[{"mode":"strong","ranks":0,"samples_per_step":1,"step_ms":1}]})",
                          R"({"rows":[{"mode":"odd","ranks":1,"samples_per_step":1,"step_ms":1}]})"})
    expect_refused(parse_earlier(bad, "old.json"), "old.json");
  const std::string example = to_json(report_of({"--ranks", "1,2"})).dump();
  const Tally outcome = feed({example}, "{}[]\",:0123456789-+eE.", 9, [](const std::string& text) {
    const auto earlier = parse_earlier(text, "old.json");
    if (!earlier.ok()) {
      EXPECT_EQ(earlier.error().message.find('\n'), std::string::npos);
      return false;
    }
    for (const EarlierRow& row : earlier->rows) {
      EXPECT_GT(row.step_ms, 0);
      EXPECT_GE(row.size.ranks, 1);
    }
    return true;
  });
  EXPECT_GT(outcome.bad, 1000);
}

}  // namespace
}  // namespace paceline::bench
