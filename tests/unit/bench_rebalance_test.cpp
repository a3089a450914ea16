// `paceline bench rebalance`: its traces, its replay, and what comes out of the measured ones.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"
#include "rebalance/options.hpp"
#include "rebalance/report.hpp"
#include "support/mutations.hpp"

namespace paceline::bench {
namespace {

constexpr const char* workers_head = ",worker,gpu,time,batch_time_norm\n";
constexpr const char* stages_head = "step,dp_rank,pp_stage,n_microbatches,forward_s,backward_s\n";

/// Two workers, the second of which takes three times as long, for so many iterations.
std::string uneven_trace(int iterations) {
  std::string text = workers_head;
  for (int i = 0; i < iterations; ++i)
    text += concat(2 * i, ",0,25,", i + 1, ",100\n", 2 * i + 1, ",1,25,", i + 1, ",300\n");
  return text;
}

RebalanceOptions options_for(const std::string& trace, std::int64_t grains, std::int64_t iterations = 0) {
  RebalanceOptions options;
  options.trace = trace;
  options.grains = grains;
  options.iterations = iterations;
  return options;
}

std::string error_of(const std::string& text) {
  const Result<Trace> trace = parse_trace(text, "t.csv");
  return trace.ok() ? "parsed" : trace.error().message;
}

TEST(BenchRebalance, ReadsWorkersInAnyOrder) {
  const Result<Trace> trace =
      parse_trace(concat(workers_head, "9,7,25,20,4\r\n0,3,25,10,1\n1,7,25,10,2.5\n2,3,50,20,3"), "t.csv");
  ASSERT_TRUE(trace.ok()) << trace.error().message;
  EXPECT_EQ(trace->workers, (std::vector<std::int64_t>{3, 7}));
  ASSERT_EQ(trace->iterations.size(), 2U);
  EXPECT_EQ(trace->iterations[0].number, 10);
  EXPECT_EQ(trace->iterations[0].times, (std::vector<double>{1, 2.5}));
  EXPECT_EQ(trace->iterations[1].times, (std::vector<double>{3, 4}));
  EXPECT_TRUE(trace->iterations[0].stages.empty());
  EXPECT_TRUE(trace->notes.empty());
}

TEST(BenchRebalance, ARanksTimeIsItsSlowestStages) {
  const Result<Trace> trace =
      parse_trace(concat(stages_head, "1,0,0,4,0.5,1\n1,0,1,4,1,1\n1,1,0,4,2,1\n1,1,1,4,1,1\n",
                         "2,0,0,4,1,1\n2,0,1,4,1,1\n", "2,1,0,4,1,1\n2,1,1,4,1,1\n"),
                  "t.csv");
  ASSERT_TRUE(trace.ok()) << trace.error().message;
  EXPECT_EQ(trace->iterations[0].times, (std::vector<double>{2, 3}));
  EXPECT_EQ(trace->iterations[0].stages, (std::vector<std::vector<double>>{{1.5, 2}, {3, 2}}));
}

TEST(BenchRebalance, LeavesOutAFewIncompleteIterationsAndSaysSo) {
  std::string text = uneven_trace(20) + "40,0,25,21,100\n";
  const Result<Trace> trace = parse_trace(text, "t.csv");
  ASSERT_TRUE(trace.ok());
  EXPECT_EQ(trace->iterations.size(), 20U);
  ASSERT_EQ(trace->notes.size(), 1U);
  EXPECT_EQ(trace->notes[0], "1 of 21 iterations (the first is 21) lacks a worker, and is left out");
  text += "41,0,25,22,100\n42,0,25,23,100\n";
  EXPECT_EQ(error_of(text),
            "t.csv: 3 of 23 iterations (the first is 21) lack a worker, and are left out: too many");
}

TEST(BenchRebalance, RefusesByLineAndColumn) {
  const std::string good = uneven_trace(3);
  const auto with = [&](const std::string& line) { return error_of(good + line + "\n"); };
  EXPECT_EQ(with("6,0,25,4,-1"), "t.csv:8: batch_time_norm is -1, and not a time above 0 and up to 1e+09");
  for (const char* time : {"0", "nan", "inf", "1e10", "", "12x", " 5", "1e999", "+5"})
    EXPECT_TRUE(with(concat("6,0,25,4,", time)).starts_with("t.csv:8: batch_time_norm is ")) << time;
  EXPECT_EQ(with("6,-1,25,4,1"), "t.csv:8: worker is -1, and not a whole number from 0 to 4095");
  EXPECT_TRUE(with("x,0,25,4,1").starts_with("t.csv:8: the first column is x"));
  EXPECT_TRUE(with("6,0,25,4.5,1").starts_with("t.csv:8: time is 4.5"));
  EXPECT_EQ(with("6,0,25,3,1"), "t.csv:8: iteration 3 has this worker a second time");
  EXPECT_EQ(with("6,0,25,4"), "t.csv:8: 5 columns were expected, and there are 4");
  EXPECT_EQ(with(""), "t.csv:8: 5 columns were expected, and there are 1");
  EXPECT_TRUE(error_of("worker,time\n").starts_with("t.csv:1: no trace begins with "));
  EXPECT_TRUE(error_of("").find("two iterations of two workers") != std::string::npos);
  EXPECT_TRUE(error_of(workers_head).find("there are 0 of 0") != std::string::npos);
  EXPECT_TRUE(error_of(uneven_trace(1)).find("there are 1 of 2") != std::string::npos);
  const std::string stage = concat(stages_head, "1,0,0,4,1,1\n");
  EXPECT_TRUE(
      error_of(stage + "1,1,0,8,1,1\n").starts_with("t.csv:3: n_microbatches is 8, and not 4 as elsewhere"));
  EXPECT_TRUE(error_of(stage + "1,1,0,0,1,1\n").starts_with("t.csv:3: n_microbatches is 0"));
  EXPECT_TRUE(error_of(stage + "1,1,0,4,1,-1\n").starts_with("t.csv:3: backward_s is -1"));
}

TEST(BenchRebalance, DamagedTracesAreRefusedOrStillMakeSense) {
  const std::vector<std::string> examples = {
      uneven_trace(4), concat(stages_head, "1,0,0,4,0.5,1\n1,1,0,4,2,1\n2,0,0,4,1,1\n2,1,0,4,1,1\n")};
  const Tally tally = feed(examples, "0123456789,.-+einfa\n\r", 20261101, [](const std::string& input) {
    const Result<Trace> trace = parse_trace(input, "t.csv");
    if (!trace.ok()) {
      EXPECT_TRUE(trace.error().message.starts_with("t.csv:")) << trace.error().message;
      EXPECT_EQ(trace.error().message.find('\n'), std::string::npos);
      return false;
    }
    EXPECT_GE(trace->iterations.size(), 2U);
    for (const TraceIteration& iteration : trace->iterations) {
      EXPECT_EQ(iteration.times.size(), trace->workers.size());
      EXPECT_TRUE(std::ranges::all_of(iteration.times, [](double time) { return time > 0 && time <= 2e9; }));
    }
    if (trace->workers.size() > 100) return true;
    const RebalanceReport report = evaluate(*trace, options_for("t.csv", 4));
    for (const LawResult& law : report.laws) EXPECT_LE(law.fraction_of_ideal, 1 + 1e-9) << law.law;
    return true;
  });
  EXPECT_GT(tally.good, 1000);
  EXPECT_GT(tally.bad, 1000);
}

/// Equal shares take 300; 12 and 4 grains take 75 each, which is ideal.
TEST(BenchRebalance, ReplaysByClosedForm) {
  const Trace trace = parse_trace(uneven_trace(100), "t.csv").value();
  const RebalanceReport report = evaluate(trace, options_for("t.csv", 8));
  ASSERT_EQ(report.laws.size(), 5U);
  const LawResult& equal = report.laws[0];
  EXPECT_EQ(equal.law, "equal");
  EXPECT_NEAR(equal.fraction_of_ideal, 0.5, 1e-12);
  EXPECT_EQ(equal.fraction_of_steps_moving, 0);
  EXPECT_EQ(equal.steps_to_95_percent, std::nullopt);
  const LawResult& average = report.laws[2];  // moves after the first
  EXPECT_NEAR(average.fraction_of_ideal, 100.0 * 150 / (300 + 99 * 150), 1e-12);
  EXPECT_NEAR(average.fraction_of_steps_moving, 0.01, 1e-12);
  EXPECT_EQ(average.steps_to_95_percent, 1);
  EXPECT_LT(report.laws[1].fraction_of_ideal, 0.8);  // swings
  EXPECT_GT(report.laws[1].fraction_of_steps_moving, 0.9);
  EXPECT_EQ(report.laws[4].law, "paceline");
  EXPECT_GT(report.laws[4].fraction_of_ideal, 0.95);
}

TEST(BenchRebalance, ReportsInBothForms) {
  const RebalanceOptions options = options_for("some trace.csv", 8, 50);
  const RebalanceReport report = evaluate(parse_trace(uneven_trace(100), "t.csv").value(), options);
  const std::string table = table_of(report, options);
  EXPECT_NE(table.find("2 ranks, 50 iterations, 8 grains for each rank"), std::string::npos) << table;
  EXPECT_NE(table.find("never"), std::string::npos);
  const auto json = to_json(report, options);
  EXPECT_EQ(json["trace"], "some trace.csv");
  EXPECT_EQ(json["ranks"], 2);
  EXPECT_EQ(json["iterations"], 50);
  EXPECT_EQ(json["grains_per_rank"], 8);
  EXPECT_EQ(json["laws"].size(), 5U);
  EXPECT_EQ(json["laws"][0]["steps_to_95_percent"], nullptr);
  EXPECT_EQ(json["fraction_of_ideal"], json["laws"][4]["fraction_of_ideal"]);
  EXPECT_TRUE(json["fraction_of_steps_moving"].is_number());
  EXPECT_TRUE(json["steps_to_95_percent"].is_number());
}

TEST(BenchRebalance, OptionsAreChecked) {
  EXPECT_NE(parse_rebalance({}).error().message.find("--trace FILE"), std::string::npos);
  for (const std::vector<std::string>& bad : std::vector<std::vector<std::string>>{
           {"--trace", "x", "--grains", "0"}, {"--trace", "x", "--iterations", "1"}, {"--trace"}, {"x"}}) {
    const auto options = parse_rebalance(bad);
    ASSERT_FALSE(options.ok());
    EXPECT_EQ(options.error().code, ErrorCode::invalid_argument);
    EXPECT_EQ(options.error().message.find('\n'), std::string::npos);
  }
  EXPECT_EQ(parse_rebalance({"--trace", "x"})->grains, 16);
}

// ---- the measured traces ---------------------------------------------------------------------------

/// Their folder: PACELINE_TRACES, or beside the sources.
class MeasuredTraces : public testing::Test {
 protected:
  RebalanceReport report_of(const std::string& file, std::int64_t iterations = 0) {
    const std::string path = concat(folder, "/", file);
    const Result<std::string> text = read_file(path, std::size_t{64} << 20);
    if (!text.ok()) {
      missing = text.error().message;
      return {};
    }
    const Result<Trace> trace = parse_trace(*text, file);
    EXPECT_TRUE(trace.ok()) << trace.error().message;
    return evaluate(*trace, options_for(file, 16, iterations));
  }
  std::string folder = environment("PACELINE_TRACES").value_or(PACELINE_TRACES_BESIDE);
  std::string missing;
};

TEST_F(MeasuredTraces, OurLawIsAheadWithFewMoves) {
  const RebalanceReport job_1 = report_of("job_1_norm.csv"), job_4 = report_of("job_4_norm.csv", 3000);
  if (!missing.empty()) GTEST_SKIP() << missing;
  // That the replay counts as the one that the published figures come from.
  EXPECT_NEAR(job_1.laws[0].fraction_of_ideal, 0.897, 0.001);
  EXPECT_NEAR(job_4.laws[0].fraction_of_ideal, 0.265, 0.001);
  EXPECT_NEAR(job_1.laws[1].fraction_of_ideal, 0.657, 0.001);
  EXPECT_NEAR(job_1.laws[2].fraction_of_ideal, 0.938, 0.001);
  EXPECT_NEAR(job_4.laws[2].fraction_of_ideal, 0.884, 0.001);
  EXPECT_NEAR(job_1.laws[3].fraction_of_ideal, 0.925, 0.001);
  EXPECT_NEAR(job_4.laws[3].fraction_of_ideal, 0.880, 0.001);
  EXPECT_GE(job_1.laws[4].fraction_of_ideal, 0.925);
  EXPECT_GE(job_4.laws[4].fraction_of_ideal, 0.880);
  EXPECT_LT(job_1.laws[4].fraction_of_steps_moving, 0.05);
  EXPECT_LT(job_4.laws[4].fraction_of_steps_moving, 0.05);
}

TEST_F(MeasuredTraces, SlowWorkersAreMovedAwayFromAndSlowStagesNamed) {
  const RebalanceReport worker = report_of("compute-AR.csv"), stages = report_of("compute-ST.csv");
  if (!missing.empty()) GTEST_SKIP() << missing;
  EXPECT_LT(worker.laws[0].fraction_of_ideal, 0.52);
  EXPECT_GT(worker.laws[4].fraction_of_ideal, 0.94);
  EXPECT_EQ(worker.verdicts.count("stages_uneven"), 0U);
  EXPECT_GT(stages.laws[4].fraction_of_ideal, 0.99);
  EXPECT_EQ(stages.laws[4].fraction_of_steps_moving, 0);
  EXPECT_EQ(
      stages.verdicts,
      (std::map<std::string, std::int64_t>{{"stages_uneven", static_cast<std::int64_t>(stages.iterations)}}));
}

}  // namespace
}  // namespace paceline::bench
