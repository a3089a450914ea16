// What `paceline bench allocation` computes: faults from seeds, their rate, statistics, tables and JSON.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "allocation/faults.hpp"
#include "allocation/figures.hpp"
#include "allocation/options.hpp"
#include "allocation/process_figures.hpp"
#include "allocation/report.hpp"
#include "allocation/run_files.hpp"
#include "allocation/tasks.hpp"
#include "paceline/base/text.hpp"
#include "support/temporary_folder.hpp"

namespace paceline::bench {
namespace {

// ---- faults

TEST(BenchAllocationFaults, OfASeedAreAlwaysTheSame) {
  const FaultLaw law{.mean = 3, .steps = 1000, .places = 4};
  EXPECT_EQ(plan_faults(7, law), plan_faults(7, law));
  EXPECT_NE(plan_faults(7, law), plan_faults(8, law));
}

TEST(BenchAllocationFaults, AreInOrderAtStepsOfTheirOwn) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    // More faults than there are steps: those that find no step of their own are left out.
    const FaultPlan plan = plan_faults(seed, {.mean = 40, .steps = 20, .places = 3});
    ASSERT_FALSE(plan.empty());
    for (std::size_t i = 0; i < plan.size(); ++i) {
      EXPECT_GE(plan[i].step, i == 0 ? 1 : plan[i - 1].step + 1);
      EXPECT_LE(plan[i].step, 20);
      EXPECT_GE(plan[i].place, 0);
      EXPECT_LT(plan[i].place, 3);
    }
  }
}

TEST(BenchAllocationFaults, AreAPoissonProcess) {
  constexpr int seeds = 20'000;
  constexpr double mean = 1.5;
  double faults = 0, without = 0, second_half = 0, first_place = 0;
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    const FaultPlan plan = plan_faults(seed, {mean, 10'000, 2});
    faults += static_cast<double>(plan.size());
    without += plan.empty() ? 1 : 0;
    for (const Fault& fault : plan) {
      second_half += fault.step > 5000 ? 1 : 0;
      first_place += fault.place == 0 ? 1 : 0;
    }
  }
  EXPECT_NEAR(faults / seeds, mean, 0.03);
  EXPECT_NEAR(without / seeds, std::exp(-mean), 0.01);
  EXPECT_NEAR(second_half / faults, 0.5, 0.01);
  EXPECT_NEAR(first_place / faults, 0.5, 0.01);
}

TEST(BenchAllocationFaults, AHigherRateBringsTheSameOnesForward) {
  const FaultPlan few = plan_faults(11, {2, 1'000'000, 5}), many = plan_faults(11, {4, 1'000'000, 5});
  ASSERT_GE(many.size(), few.size());
  for (std::size_t i = 0; i < few.size(); ++i) {
    EXPECT_EQ(many[i].place, few[i].place);
    EXPECT_NEAR(2.0 * static_cast<double>(many[i].step), static_cast<double>(few[i].step), 4);
  }
}

TEST(BenchAllocationFaults, HitWhoeverIsInThePlace) {
  const FaultPlan plan = {{10, 1}, {20, 1}, {30, 0}};
  EXPECT_EQ(faults_of_ranks(plan, {.ranks = 2}), "1:data@10:kill,2:data@20:kill,0:data@30:kill");
  // After a resume workers have other numbers.
  EXPECT_EQ(faults_of_ranks({{20, 0}, {30, 0}}, {2, 5}), "5:data@20:kill,7:data@30:kill");
  EXPECT_EQ(fault_of_job({10, 1}, {3, 4}), "4:data@10:kill,5:data@10:kill,6:data@10:kill");
  const Crew crew{2, 5};
  EXPECT_EQ(place_of(6, plan, crew), 1);
  EXPECT_EQ(place_of(7, plan, crew), 1);
  EXPECT_EQ(place_of(9, plan, crew), 0);
  EXPECT_EQ(place_of(10, plan, crew), -1);
}

// ---- calibration

TEST(BenchAllocationCalibration, PredictsWhatAStaticRunTakes) {
  const StaticCosts costs{.run_s = 4, .step_s = 0.03, .restart_s = 1, .checkpoint_steps = 20};
  EXPECT_DOUBLE_EQ(predicted_seconds({}, costs), 4);
  // Steps 41 to 50 are done again: the one in which it was lost counts as not begun.
  EXPECT_DOUBLE_EQ(predicted_seconds({{51, 0}}, costs), 4 + 1 + 10 * 0.03);
  EXPECT_DOUBLE_EQ(predicted_seconds({{41, 0}}, costs), 5);
  EXPECT_DOUBLE_EQ(predicted_seconds({{1, 0}, {51, 1}}, costs), 6.3);
}

TEST(BenchAllocationCalibration, FindsTheRateAtWhichSoManyFail) {
  // One fault is one too many, so that 5% fail where 95% have none: the mean is -ln(.95).
  const StaticCosts costs{.run_s = 1, .step_s = 0, .restart_s = 1, .checkpoint_steps = 10};
  const CalibrationTask task{
      .first_seed = 1, .seeds = 20'000, .steps = 10'000, .places = 2, .deadline_s = 1.5};
  const Calibration found = calibrate(task, costs);
  EXPECT_NEAR(found.mean, 0.0513, 0.006);
  EXPECT_NEAR(found.predicted, 0.05, 0.001);
  // Two faults must come together: 1 - exp(-m) (1 + m) = 0.05.
  CalibrationTask later = task;
  later.deadline_s = 2.5;
  EXPECT_NEAR(calibrate(later, costs).mean, 0.355, 0.02);
}

TEST(BenchAllocationCalibration, OfSeedsThatAreRunIsExact) {
  const StaticCosts costs{.run_s = 4, .step_s = 0.03, .restart_s = 1.2, .checkpoint_steps = 20};
  const CalibrationTask task{.first_seed = 1, .seeds = 100, .steps = 100, .places = 2, .deadline_s = 6};
  const Calibration found = calibrate(task, costs);
  int late = 0;
  for (std::uint64_t seed = 1; seed <= 100; ++seed)
    late += predicted_seconds(plan_faults(seed, {found.mean, 100, 2}), costs) > 6 ? 1 : 0;
  EXPECT_EQ(late, std::lround(found.predicted * 100));
  EXPECT_NEAR(found.predicted, 0.05, 0.011);
}

TEST(BenchAllocationCalibration, OfAJobThatIsLateAnywaySaysSo) {
  const StaticCosts costs{.run_s = 10, .step_s = 0, .restart_s = 1, .checkpoint_steps = 10};
  const CalibrationTask task{.seeds = 100, .steps = 100, .places = 2, .deadline_s = 6};
  EXPECT_EQ(calibrate(task, costs).predicted, 1);
}

// ---- statistics

TEST(BenchAllocation, WilsonIntervals) {
  // Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
  const RateInterval many = wilson_interval(81, 263);
  EXPECT_NEAR(many.low, 0.2553, 5e-5);
  EXPECT_NEAR(many.high, 0.3662, 5e-5);
  const RateInterval none = wilson_interval(0, 20);
  EXPECT_EQ(none.low, 0);
  EXPECT_NEAR(none.high, 0.1611, 5e-5);
  const RateInterval all = wilson_interval(20, 20);
  EXPECT_EQ(all.high, 1);
  EXPECT_NEAR(all.low, 1 - 0.1611, 5e-5);
  EXPECT_EQ(wilson_interval(0, 0).low, 0);
  EXPECT_EQ(wilson_interval(0, 0).high, 1);
}

std::string generation(double time, std::int64_t ranks, bool planned) {
  return concat(R"({"type":"generation","generation":1,"ranks":)", ranks, R"(,"planned":)",
                planned ? "true" : "false", R"(,"time":)", time, "}\n");
}

TEST(BenchAllocation, PlacesAreHeldWhileTheirRanksAreReplaced) {
  EXPECT_DOUBLE_EQ(held_rank_seconds("", 2, 100, 110), 20);
  const std::string repaired =
      generation(101, 2, false) + generation(103, 1, false) + generation(105, 2, true);
  EXPECT_DOUBLE_EQ(held_rank_seconds(repaired, 2, 100, 110), 20);
  // Given up after four seconds, and taken again after two more.
  const std::string resized = generation(104, 1, true) + "{\"type\":\"gener\n" + generation(106, 2, true);
  EXPECT_DOUBLE_EQ(held_rank_seconds(resized, 2, 100, 110), 4 * 2 + 2 * 1 + 4 * 2);
  // A resume begins with all ranks again; times beyond the run's don't count.
  EXPECT_DOUBLE_EQ(held_rank_seconds(generation(102, 1, true) + generation(105, 2, false), 2, 100, 110),
                   2 * 2 + 3 * 1 + 5 * 2);
  EXPECT_DOUBLE_EQ(held_rank_seconds(generation(90, 1, true) + generation(120, 2, true), 2, 100, 110), 10);
}

JobRun job_run(double seconds, double cost, bool completed = true) {
  JobRun run;
  run.completed = completed;
  run.seconds = seconds;
  run.cost = cost;
  run.launches = 1;
  run.totals = {.useful_samples = 1000, .energy_j = {}, .memory_byte_s = 1e9};
  return run;
}

JobRuns three_seeds() {
  JobRuns runs;
  runs.reference = {.completed = true, .seconds = 4, .cost = 8};
  runs.by_way[0] = {job_run(5, 10), job_run(7, 14), job_run(6, 12)};
  runs.by_way[1] = {job_run(4, 10), job_run(3.5, 7), job_run(1, 1, false)};
  runs.by_way[2] = {job_run(2.5, 5), job_run(3.5, 7), job_run(6, 12)};
  return runs;
}

TEST(BenchAllocation, ComparesRunsOfOneSeed) {
  const JobRuns runs = three_seeds();
  EXPECT_DOUBLE_EQ(runs.deadline_s(), 6);
  const WayFigures fixed = figures_of(Way::fixed, runs);
  EXPECT_EQ(fixed.runs, 3);
  EXPECT_EQ(fixed.failures, 1) << "7 s is late, 6 s is not";
  EXPECT_DOUBLE_EQ(fixed.time_ratio.value(), 1);
  EXPECT_DOUBLE_EQ(fixed.seconds.median, 6);
  // sqrt(4/5 8/10) = 0.8 and sqrt(4/6 8/12) = 2/3, and one of three failed.
  EXPECT_NEAR(fixed.score.value(), 2.0 / 3 * std::sqrt(0.8 * 2 / 3), 1e-12);
  const WayFigures policy = figures_of(Way::policy, runs);
  EXPECT_EQ(policy.failures, 1) << "one that did not complete, however quickly";
  EXPECT_EQ(policy.seconds.count, 2U);
  EXPECT_DOUBLE_EQ(policy.time_ratio.value(), (4.0 / 5 + 3.5 / 7) / 2);
  EXPECT_DOUBLE_EQ(policy.cost_ratio.value(), (10.0 / 10 + 7.0 / 14) / 2);
  EXPECT_EQ(policy.totals.useful_samples, 3000);
  EXPECT_FALSE(policy.totals.energy_j.has_value());
  EXPECT_EQ(policy.launches, 3);
  const WayFigures balanced = figures_of(Way::policy_and_balance, runs);
  EXPECT_EQ(balanced.failures, 0);
  EXPECT_DOUBLE_EQ(balanced.time_ratio.value(), 0.5);
}

TEST(BenchAllocation, NothingComesOfNoRuns) {
  const WayFigures figures = figures_of(Way::policy, JobRuns{});
  EXPECT_EQ(figures.runs, 0);
  EXPECT_FALSE(figures.time_ratio || figures.score);
  EXPECT_EQ(figures.failure_rate.high, 1);
}

TEST(BenchAllocation, EnergyIsOfAllOrNone) {
  const RunTotals with{.useful_samples = 10, .energy_j = 5, .memory_byte_s = 2};
  const RunTotals without{.useful_samples = 1, .energy_j = {}, .memory_byte_s = 1};
  EXPECT_EQ(added(with, with).energy_j, 10);
  EXPECT_FALSE(added(with, without).energy_j.has_value());
  EXPECT_EQ(added(with, without).useful_samples, 11);
}

TEST(BenchAllocation, RatesAreOfTheTimeInWhichAllAreAtWork) {
  Commits early, late;
  for (int i = 0; i <= 100; ++i) early[i + 1] = 10 + 0.1 * i;  // until 20
  for (int i = 0; i <= 100; ++i) late[i + 1] = 15 + 0.2 * i;   // from 15 on
  const auto rate = common_rate({early, late});
  ASSERT_TRUE(rate);
  EXPECT_NEAR(rate->began, 15, 1e-9);
  EXPECT_NEAR(rate->ended, 20, 1e-9);
  EXPECT_NEAR(rate->grains_per_second, 15, 0.5);
  EXPECT_FALSE(common_rate({early, {}}));
  EXPECT_FALSE(common_rate({}));
  EXPECT_FALSE(common_rate({early, Commits{{1, 30.0}, {2, 31.0}}})) << "one began when the other had ended";
}

TEST(BenchAllocation, EnergyIsThatOfTheInterval) {
  std::string telemetry;
  for (int i = 0; i < 10; ++i)
    telemetry += concat(R"({"type":"sample","time":)", 100 + i, R"(,"node_energy_j":)", 50 * i, "}\n",
                        R"({"type":"sample","time":)", 100 + i, R"(,"cpu_s":3})", "\n");
  EXPECT_EQ(energy_between(telemetry, 102.5, 106.5), 150) << "from 103 to 106";
  EXPECT_EQ(energy_between(telemetry + R"({"node_energy_j":nul)", 0, 1000), 450);
  EXPECT_FALSE(energy_between(telemetry, 103, 103)) << "one sample";
  EXPECT_FALSE(energy_between(R"({"type":"sample","time":1,"cpu_s":3})", 0, 1000));
}

TEST(BenchAllocation, ScoresTasksBesideOneJobAlone) {
  EXPECT_DOUBLE_EQ(tasks_score(1, 50, 50).value(), 1);
  // Ten jobs do twice as much for ten times as many ranks.
  EXPECT_DOUBLE_EQ(tasks_score(10, 100, 50).value(), std::sqrt(2 * 0.2));
  EXPECT_FALSE(tasks_score(10, 0, 50));
  EXPECT_FALSE(tasks_score(10, 50, 0));
}

TEST(BenchAllocation, JobsThatDoNotFitAreNamed) {
  constexpr double mib = 1 << 20;
  EXPECT_EQ(why_not_fitting(10, 100 * mib, 2000 * mib), "");
  EXPECT_EQ(why_not_fitting(16, 100 * mib, 2000 * mib), "");
  EXPECT_NE(why_not_fitting(17, 100 * mib, 2000 * mib).find("17 jobs need 1.7 GiB"), std::string::npos)
      << why_not_fitting(17, 100 * mib, 2000 * mib);
  EXPECT_EQ(why_not_fitting(1000, 1e12, std::nullopt), "");
}

// ---- what runs leave

TEST(BenchAllocation, ReadsLogsAndSummaries) {
  const TemporaryFolder folder;
  const auto write = [&](const std::string& name, const std::string& text) {
    std::ofstream(folder / name) << text;
  };
  EXPECT_EQ(highest_worker(folder.path()), -1);
  write("rank-000.log", "PACELINE_FAULTS: signal 9 at data of step 3\n");
  write("rank-011.log", "paceline warning: PACELINE_FAULTS: signal 9 at data of step 30\n");
  write("rank-012.log", "all is well\n");
  write("all-0.log", "PACELINE_FAULTS: signal 9 at data of step 3\n");
  EXPECT_EQ(highest_worker(folder.path()), 12);
  EXPECT_EQ(faults_in(folder.path(), 0), 2);
  EXPECT_EQ(faults_in(folder.path(), 11), 1);
  EXPECT_EQ(faults_in(folder.path(), 12), 0);
  JobRun run;
  run.repairs = 1;
  ASSERT_TRUE(add_summary(R"({"repairs":2,"resizes":1,"rebalances":4,"resource_efficiency":
      {"useful_samples":640,"energy_j":null,"memory_byte_s":2.5}})",
                          run)
                  .ok());
  EXPECT_EQ(run.repairs, 3);
  EXPECT_EQ(run.rebalances, 4);
  EXPECT_EQ(run.totals.useful_samples, 640);
  EXPECT_EQ(run.totals.memory_byte_s, 2.5);
  EXPECT_FALSE(run.totals.energy_j.has_value());
  EXPECT_TRUE(add_summary(R"({"resource_efficiency":null})", run).ok());
  EXPECT_FALSE(add_summary("no JSON", run).ok());
}

TEST(BenchAllocation, ReadsProcesses) {
  const ProcessMemory own = memory_of(::getpid());
  EXPECT_GT(own.resident, own.anonymous);
  EXPECT_GT(own.anonymous, 0);
  EXPECT_EQ(memory_of(-1).resident, 0);
  EXPECT_EQ(worker_number(::getpid()), std::nullopt);
  EXPECT_TRUE(children_of(::getpid()).empty());
  EXPECT_GT(available_memory().value_or(0), own.anonymous);
}

// ---- options

TEST(BenchAllocationOptions, HaveTheDefaultsOfAFullRun) {
  const auto options = parse_allocation({});
  ASSERT_TRUE(options.ok()) << options.error().message;
  EXPECT_EQ(options->runs, 100);
  EXPECT_EQ(options->tasks, (std::vector<std::int64_t>{10, 50, 100}));
  EXPECT_TRUE(options->wants("jobs") && options->wants("tasks"));
  const auto some = parse_allocation({"--only", "tasks", "--tasks", "50,2"});
  ASSERT_TRUE(some.ok());
  EXPECT_EQ(some->tasks, (std::vector<std::int64_t>{2, 50}));
  EXPECT_FALSE(some->wants("jobs"));
}

TEST(BenchAllocationOptions, AreRefusedInOneSentence) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> bad = {
      {{"--tasks", "10,none"}, "none"},
      {{"--tasks", "10,10"}, "twice"},
      {{"--tasks", "0"}, "0"},
      {{"--runs", "0"}, "--runs"},
      {{"--slow", "rank=2,factor=2"}, "there is no rank 2"},
      {{"--slow", "half"}, "rank=1,factor=2"},
      {{"--checkpoint-steps", "200"}, "no checkpoint would be written"},
      {{"--images", "100"}, "--images 100 is less than one batch"},
      {{"--batch", "2", "--ranks", "4", "--slow", "rank=0,factor=2"}, "no sample"},
      {{"--only", "tasks", "--runs", "5"}, "--runs means nothing"},
      {{"--only", "jobs", "--tasks", "5"}, "--tasks means nothing"},
      {{"--objective", "luck"}, "luck"},
      {{"--static-failures", "2"}, "--static-failures"}};
  for (const auto& [arguments, word] : bad) {
    const auto options = parse_allocation(arguments);
    ASSERT_FALSE(options.ok()) << word;
    EXPECT_EQ(options.error().code, ErrorCode::invalid_argument);
    EXPECT_NE(options.error().message.find(word), std::string::npos) << options.error().message;
    EXPECT_EQ(options.error().message.find('\n'), std::string::npos) << options.error().message;
  }
}

// ---- reports

JobsReport jobs_report() {
  JobsReport report;
  report.references = 3;
  report.undisturbed_s = 4;
  report.slow_only_s = 5;
  report.costs = {5, 0.04, 1.25, 20};
  report.calibration = {0.355, 0.05};
  report.runs = three_seeds();
  return report;
}

TEST(BenchAllocationReport, PrintsWhatWasPublishedBesideIt) {
  const std::string text = table_of(jobs_report());
  for (const char* part : {"static", "policy and balancing", "1.00 (1)", "0.65 (0.75)", "0.50 (0.583)",
                           "1, 33.3% (5.00%)", "P_m", "samples per joule", "to 79.2%"})
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  const std::string calibration = calibration_text(jobs_report(), {});
  for (const char* part : {"takes 4.00 s", "longer than 6.00 s", "1.25 s to start again", "40.0 ms", "0.35",
                           "5.00% of the time"})
    EXPECT_NE(calibration.find(part), std::string::npos) << part << "\n" << calibration;
}

TEST(BenchAllocationReport, HasEverythingAsJson) {
  const auto json = to_json(jobs_report());
  EXPECT_EQ(json["reference"]["deadline_s"], 6);
  EXPECT_EQ(json["calibration"]["faults_per_run"], 0.355);
  EXPECT_EQ(json["calibration"]["undisturbed_s"], 4);
  ASSERT_EQ(json["ways"].size(), 3U);
  const auto& policy = json["ways"][1];
  EXPECT_EQ(policy["way"], "policy");
  EXPECT_EQ(policy["failures"], 1);
  EXPECT_EQ(policy["published"]["time_ratio"], 0.75);
  EXPECT_TRUE(policy["resource_efficiency"]["samples_per_joule"].is_null());
  EXPECT_EQ(policy["resource_efficiency"]["samples_per_byte_s"], 1e-6);
  EXPECT_EQ(json["runs"]["static"].size(), 3U);
  EXPECT_EQ(json["runs"]["policy"][2]["completed"], false);
}

TEST(BenchAllocationReport, NamesNumbersOfTasksThatWereLeftOut) {
  TasksReport report;
  report.memory = {100 << 20, 50 << 20};
  report.grains_per_second_alone = 400;
  report.rows = {{.tasks = 10, .grains_per_second = 800, .seconds = 9, .score = 0.5},
                 {.tasks = 100, .skipped = "there is no room"}};
  const std::string text = table_of(report);
  EXPECT_NE(text.find("100: left out, since there is no room"), std::string::npos) << text;
  EXPECT_NE(text.find("800"), std::string::npos);
  EXPECT_NE(text.find("50.0 MiB of its own"), std::string::npos) << text;
  const auto json = to_json(report);
  EXPECT_EQ(json["rows"][0]["published_tasks_per_second"], 100);
  EXPECT_TRUE(json["rows"][0]["skipped"].is_null());
  EXPECT_EQ(json["rows"][1]["skipped"], "there is no room");
  EXPECT_FALSE(json["rows"][1].contains("grains_per_second"));
}

}  // namespace
}  // namespace paceline::bench
