// The report of runs in which everything is known.
#include <gtest/gtest.h>

#include <cmath>

#include "seeing/report_data.hpp"
#include "seeing/report_page.hpp"
#include "seeing/run_totals.hpp"
#include "seeing/series.hpp"
#include "support/seen_run.hpp"

namespace paceline {
namespace {

double use(const TimeUses& uses, TimeUse which) {
  return uses.at(static_cast<std::size_t>(which));
}

ReportData gathered(const SeenRun& run) {
  auto data = gather_report(run.path());
  EXPECT_TRUE(data.ok()) << data.error().message;
  return std::move(data).value();
}

bool has(const std::string& page, const std::string& text) {
  return page.find(text) != std::string::npos;
}

TEST(Series, KeepsMeansLeastAndGreatest) {
  Series few;
  for (int i = 0; i < 10; ++i) few.add(i, 2 * i);
  ASSERT_EQ(few.points().size(), 10u);
  EXPECT_EQ(few.points()[3].mean, 6);
  EXPECT_EQ(few.values_per_point(), 1);
  Series many;
  constexpr int values = 1'000'000;
  for (int i = 0; i < values; ++i) many.add(i, i % 2 == 0 ? 1 : 3);
  EXPECT_LE(many.points().size(), Series::most);
  std::int64_t counted = 0;
  for (const Series::Point& point : many.points()) {
    counted += point.values;
    EXPECT_EQ(point.low, 1);
    EXPECT_EQ(point.high, 3);
    EXPECT_NEAR(point.mean, 2, 1e-9);
  }
  EXPECT_EQ(counted, values);
  many.add(values, std::nan(""));
  EXPECT_EQ(many.points().back().values + 0, many.points().back().values);
}

TEST(RunningMedian, IsNearTheTrueOne) {
  RunningMedian median;
  EXPECT_FALSE(median.value().has_value());
  for (int i = 0; i < 100'001; ++i) median.add((i * 7919) % 100'001);
  EXPECT_NEAR(*median.value(), 50'000, 2500);
  EXPECT_EQ(median.count(), 100'001);
}

TEST(Report, SumsUpWhereTheTimeWent) {
  const SeenRun run;
  run.write_worker({0, "n0"}, 1, 0, 2, 1, 100);
  run.write_worker({1, "n1"}, 1, 1, 2, 1, 100);
  run.line("telemetry/worker-0.jsonl",
           concat(R"({"type":"phase","time":)", SeenRun::exact(SeenRun::begin_of(101)),
                  R"(,"phase":"evaluate","took":250000})"));
  run.line("telemetry/worker-0.jsonl",
           concat(R"({"type":"phase","time":)", SeenRun::exact(SeenRun::begin_of(101) + 0.25),
                  R"(,"phase":"save","took":50000})"));
  run.write_metrics(1, 100);
  run.journal(
      1, {SeenRun::journal_begins(), journal_line(JournalGeneration{1, 1, 0, 2, false, "the job begins"}),
          SeenRun::journal_steps(1, 100), journal_line(JournalEnd{"completed", 100, ""})});
  run.append("summary.json",
             R"({"status":"completed","train_loss":0.01,"eval":{"loss":0.25,"accuracy":0.9}})");
  const ReportData data = gathered(run);
  EXPECT_EQ(data.end.state, "completed");
  EXPECT_EQ(data.steps, 100);
  EXPECT_NEAR(data.training_s, 0.99, 1e-6);
  EXPECT_NEAR(data.rank_seconds, 1.98, 1e-6);
  ASSERT_EQ(data.telemetry.workers.size(), 2u);
  EXPECT_EQ(data.telemetry.steps, 100);
  const TimeUses& uses = data.telemetry.uses_s;
  EXPECT_NEAR(use(uses, TimeUse::compute), 100 * (0.007 + 0.0075), 1e-6);
  EXPECT_NEAR(use(uses, TimeUse::data_wait), 100 * 0.0002, 1e-6);
  // Rank 1 comes last and waits 0.9 ms: so long both do, and rank 0 waits half a millisecond more for it.
  EXPECT_NEAR(use(uses, TimeUse::exposed_reduction), 100 * 0.0018, 1e-6);
  EXPECT_NEAR(use(uses, TimeUse::unequal_finish), 100 * 0.0005, 1e-6);
  EXPECT_NEAR(use(uses, TimeUse::commit), 100 * 0.001, 1e-6);
  EXPECT_NEAR(use(uses, TimeUse::evaluation), 0.25, 1e-6);
  EXPECT_NEAR(use(uses, TimeUse::checkpoints), 0.05, 1e-6);
  EXPECT_NEAR(use(uses, TimeUse::repairs) + use(uses, TimeUse::resizes), 0, 1e-9);
  double all = 0, covered = 0;
  for (const double seconds : uses) all += seconds;
  for (const ReportWorker& worker : data.telemetry.workers) covered += worker.seconds;
  EXPECT_NEAR(all, covered, 1e-6);
  const std::string page = report_page(data);
  for (const char* text : {"small/one", "completed", "unequal finish", "Loss", "Learning rate", "Throughput",
                           "worker 1, n1", "The ranks had equal shares all the time.", "None was found."})
    EXPECT_TRUE(has(page, text)) << text;
}

TEST(Report, RepairsAndResizesAreToldApart) {
  const SeenRun run;
  const SeenRun::Worker worker{0, "n0"};
  run.write_worker(worker, 1, 0, 2, 1, 10);
  const auto phase = [&](std::int64_t after, double took_us) {
    run.line(worker.file(),
             concat(R"({"type":"phase","time":)", SeenRun::exact(SeenRun::begin_of(after + 1) - 0.001),
                    R"(,"phase":"connect","took":)", took_us, "}"));
  };
  phase(10, 300);
  run.write_rank(worker, 2, 0, 1, 10);
  run.write_steps(worker, 0, 11, 20);
  phase(20, 500);
  run.write_rank(worker, 3, 0, 2, 20);
  run.write_steps(worker, 0, 21, 30);
  run.journal(
      1,
      {SeenRun::journal_begins(), journal_line(JournalGeneration{1, 1, 0, 2, false, "the job begins"}),
       SeenRun::journal_steps(1, 10), journal_line(JournalGeneration{2, 1, 10, 1, false, "rank 1 is lost"}),
       SeenRun::journal_steps(11, 20), journal_line(JournalGeneration{3, 1, 20, 2, true, "larger by 1"}),
       SeenRun::journal_steps(21, 30)});
  const ReportData data = gathered(run);
  EXPECT_NEAR(use(data.telemetry.uses_s, TimeUse::repairs), 0.0003, 1e-9);
  EXPECT_NEAR(use(data.telemetry.uses_s, TimeUse::resizes), 0.0005, 1e-9);
  EXPECT_EQ(data.end.state, "not finished");
  const std::string page = report_page(data);
  for (const char* text : {"repair", "resize", "rank 1 is lost", "larger by 1"})
    EXPECT_TRUE(has(page, text)) << text;
}

TEST(Report, EfficiencyIsBesideTheSmallestSize) {
  const SeenRun run;
  // Steps of 10 ms with 2 ranks; with 1 rank they would take 15.
  std::string metrics;
  double time = 100;
  for (int step = 1; step <= 200; ++step) {
    time += step <= 100 ? 0.015 : 0.010;
    metrics +=
        concat(R"({"step":)", step, R"(,"epoch":1,"time":)", SeenRun::exact(time), R"(,"loss":1})", "\n");
  }
  run.append("metrics.jsonl", metrics);
  run.journal(
      1, {SeenRun::journal_begins(), journal_line(JournalGeneration{1, 1, 0, 1, false, "the job begins"}),
          SeenRun::journal_steps(1, 100), journal_line(JournalGeneration{2, 1, 100, 2, true, "larger by 1"}),
          SeenRun::journal_steps(101, 200)});
  const ReportData data = gathered(run);
  ASSERT_EQ(data.sizes.size(), 2u);
  EXPECT_EQ(data.sizes[0].ranks, 1);
  EXPECT_EQ(data.sizes[1].steps, 100);
  EXPECT_NEAR(data.sizes[1].samples_per_second, 6400, 1);
  EXPECT_NEAR(*data.sizes[1].efficiency, 0.75, 1e-3);
  const std::string page = report_page(data);
  EXPECT_TRUE(has(page, "75.0%"));
  EXPECT_TRUE(has(page, "The run has no telemetry"));
}

TEST(Report, ResumedRunsCountWhatIsLeftAndWhatWasDoneAgain) {
  const SeenRun run;
  const std::string one =
      concat(SeenRun::journal_begins(), journal_line(JournalGeneration{1, 1, 0, 1, false, "the job begins"}),
             SeenRun::journal_steps(1, 50));
  run.journal(1, {one});
  run.journal(2, {SeenRun::journal_begins(2, JournalSeal{1, std::ssize(one), 30}),
                  journal_line(JournalGeneration{2, 2, 30, 2, false, "the job is resumed"}),
                  SeenRun::journal_steps(31, 80)});
  run.write_metrics(1, 30);
  std::string rest;
  for (int step = 31; step <= 80; ++step)
    rest += concat(R"({"step":)", step, R"(,"epoch":1,"time":)",
                   SeenRun::exact(SeenRun::begin_of(step) + 3600), "}\n");
  run.append("metrics.jsonl", rest);
  const ReportData data = gathered(run);
  EXPECT_EQ(data.steps, 80);
  EXPECT_EQ(data.steps_again, 20);
  EXPECT_NEAR(data.paused_s, 3600, 0.1);
  EXPECT_NEAR(data.training_s, 0.78, 1e-6);
  ASSERT_EQ(data.sizes.size(), 2u);
  EXPECT_EQ(data.sizes[1].steps, 49);
  EXPECT_TRUE(has(report_page(data), "the job is resumed"));
  RunEvent event;
  event.term = 1;
  event.after_step = 30;
  EXPECT_TRUE(still_counts(data.history, event));
  event.after_step = 31;
  EXPECT_FALSE(still_counts(data.history, event));
  event.term = 2;
  EXPECT_TRUE(still_counts(data.history, event));
}

TEST(Report, EnergyAndCost) {
  const SeenRun run;
  std::filesystem::remove(run / "job.json");
  run.append("job.json", R"({"resize":{"prices":{"cpu":0.36},"power_w":{"cpu":-5}}})");
  // Two workers of a node tell the same joules; 100 in 2 s.
  for (const std::int64_t number : {0, 1}) {
    const SeenRun::Worker worker{number, "n0"};
    run.write_worker(worker, 1, number, 2, 1, 100);
    for (const double at : {0.0, 2.0})
      run.line(worker.file(),
               concat(R"({"type":"sample","time":)", SeenRun::exact(SeenRun::begins + at), R"(,"cpu_s":)", at,
                      R"(,"memory_bytes":1048576,"node_energy_j":)", 1000 + 50 * at, "}"));
  }
  run.write_metrics(1, 101);
  run.journal(
      1, {SeenRun::journal_begins(), journal_line(JournalGeneration{1, 1, 0, 2, false, "the job begins"}),
          SeenRun::journal_steps(1, 101)});
  const ReportData data = gathered(run);
  ASSERT_TRUE(data.telemetry.node_energy_j.has_value());
  EXPECT_NEAR(*data.telemetry.node_energy_j, 100, 1e-6);
  EXPECT_NEAR(*data.telemetry.workers[0].cpu_s, 2, 1e-9);
  EXPECT_TRUE(data.prices.power_w.empty());  // a negative one is none
  const std::string page = report_page(data);
  // 2 ranks, 1 s between the first commit and the last.
  EXPECT_TRUE(has(page, "0.0002000")) << page.substr(0, 20);
  EXPECT_TRUE(has(page, "RAPL"));
  // 101 steps of 64 samples for 100 J, and for 2 MiB over 2 s.
  const RunTotals totals = totals_of(data.telemetry, data.steps, data.batch);
  EXPECT_EQ(totals.useful_samples, 6464);
  EXPECT_NEAR(totals.energy_j.value(), 100, 1e-6);
  EXPECT_NEAR(totals.memory_byte_s, 2 * 2 * 1048576, 1e-3);
  EXPECT_TRUE(has(page, "Resource efficiency eta: 64.64 samples per joule, 1,654,784 samples for each GiB"));
  const auto at_end = totals_at_end(run.path());
  ASSERT_TRUE(at_end.ok() && at_end->has_value());
  EXPECT_EQ((*at_end)->useful_samples, 6464);
}

TEST(Report, TotalsOfWhatWasNotMeasuredAreAbsent) {
  const SeenRun run;
  const SeenRun::Worker one{0, "n0"}, two{1, "n1"};
  const auto sample = [&run](const SeenRun::Worker& worker, double at, const std::string& members) {
    run.line(worker.file(),
             concat(R"({"type":"sample","time":)", SeenRun::exact(SeenRun::begins + at), members, "}"));
  };
  run.write_worker(one, 1, 0, 2, 1, 100);
  run.write_worker(two, 1, 1, 2, 1, 100);
  sample(one, 2, R"(,"memory_bytes":1000,"node_energy_j":10)");
  sample(one, 3, R"(,"cpu_s":1)");  // the memory hasn't changed
  sample(one, 4, R"(,"memory_bytes":3000,"node_energy_j":20)");
  // Another process of this number, which a resume began: nothing was held until then.
  run.line(one.file(), concat(R"({"type":"worker","version":1,"worker":0,"node":"n0","pid":77,"time":)",
                              SeenRun::exact(SeenRun::begins + 100), "}"));
  sample(one, 100, R"(,"memory_bytes":5000)");
  sample(one, 101, R"(,"memory_bytes":5000)");
  run.write_metrics(1, 100);
  run.journal(
      1, {SeenRun::journal_begins(), journal_line(JournalGeneration{1, 1, 0, 2, false, "the job begins"}),
          SeenRun::journal_steps(1, 100)});
  const ReportData data = gathered(run);
  const RunTotals totals = totals_of(data.telemetry, data.steps, data.batch);
  EXPECT_NEAR(totals.memory_byte_s, 2 * 1000 + 5000, 1e-3);
  EXPECT_TRUE(data.telemetry.node_energy_j.has_value());
  EXPECT_FALSE(totals.energy_j.has_value()) << "n1 said nothing of its energy";
  EXPECT_EQ(totals.useful_samples, 6400);
}

TEST(Report, TotalsOfFilesThatWereBegunAnewAreOfTheirSteps) {
  const SeenRun run;
  const SeenRun::Worker worker{0, "n0"};
  run.write_header(worker, ".old");
  run.write_rank(worker, 1, 0, 1, 50, ".old");
  run.write_steps(worker, 0, 51, 60, ".old");
  run.write_header(worker);
  run.write_steps(worker, 0, 61, 100);
  run.write_metrics(1, 100);
  run.journal(
      1, {SeenRun::journal_begins(), journal_line(JournalGeneration{1, 1, 0, 1, false, "the job begins"}),
          SeenRun::journal_steps(1, 100)});
  const ReportData data = gathered(run);
  EXPECT_FALSE(data.telemetry.is_from_the_beginning);
  EXPECT_EQ(totals_of(data.telemetry, data.steps, data.batch).useful_samples, 50 * 64);
}

TEST(Report, ARunWithoutTelemetryHasNoTotals) {
  const SeenRun run;
  const auto totals = totals_at_end(run.path());
  ASSERT_TRUE(totals.ok());
  EXPECT_FALSE(totals->has_value());
}

TEST(Report, PricesOfSeveralKinds) {
  EXPECT_FALSE(price_of_all({}, false, false).has_value());
  EXPECT_EQ(price_of_all({{"cpu", 1}}, true, true), 1);
  EXPECT_EQ(price_of_all({{"cpu", 1}, {"H100", 3}}, false, false), 1);
  EXPECT_EQ(price_of_all({{"cpu", 1}, {"H100", 3}}, true, true), 3);
  EXPECT_FALSE(price_of_all({{"cpu", 1}, {"H100", 3}}, true, false).has_value());
  EXPECT_FALSE(price_of_all({{"A100", 2}, {"cpu", 1}, {"H100", 3}}, true, true).has_value());
}

TEST(Report, SharesStragglersAndDecisionsAreShown) {
  const SeenRun run;
  run.write_metrics(1, 100);
  run.journal(
      1,
      {SeenRun::journal_begins(), journal_line(JournalGeneration{1, 1, 0, 2, false, "the job begins"}),
       SeenRun::journal_steps(1, 50),
       journal_line(JournalShares{51, 1, {40, 24}, 0.2, "rank 1 is the slowest"}),
       R"({"type":"straggler","time":1,"step":60,"generation":1,"worker":1,"rank":1,"node":"<b>n1","part":"data","ratio":2.5,)",
       R"("since":1,"ended":false,"reason":""})", "\n",
       R"({"type":"decision","step":70,"verdict":"hold","target":2,"reason":"no size is better"})", "\n",
       SeenRun::journal_steps(51, 100)});
  const std::string page = report_page(gathered(run));
  for (const char* text :
       {"shares 40, 24: rank 1 is the slowest", "2.5 times as long as usual", "no size is better"})
    EXPECT_TRUE(has(page, text)) << text;
  EXPECT_FALSE(has(page, "<b>n1"));
}

TEST(Report, RunsThatHaveNothingYet) {
  const SeenRun run;
  const std::string page = report_page(gathered(run));
  EXPECT_TRUE(has(page, "No step was committed"));
  run.append("metrics.jsonl", "garbage\n{\"step\":1,\"time\":5}\n{\"step\":");
  run.append("journal/1.jsonl", "garbage\n");
  EXPECT_EQ(gathered(run).steps, 1);
}

}  // namespace
}  // namespace paceline
