// The arithmetic of `paceline bench elastic`, from lines as a run writes them.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "elastic/figures.hpp"
#include "elastic/options.hpp"
#include "elastic/report.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

/// Steps of 100 ms from time 1000 on: step 1 at 1000.1.
Commits steady(std::int64_t steps) {
  Commits commits;
  for (std::int64_t step = 1; step <= steps; ++step) commits[step] = 1000 + 0.1 * static_cast<double>(step);
  return commits;
}

/// All from `step` on come so much later.
Commits delayed(Commits commits, std::int64_t step, double seconds) {
  for (auto at = commits.lower_bound(step); at != commits.end(); ++at) at->second += seconds;
  return commits;
}

TEST(BenchElastic, SpreadsByNearestRank) {
  std::vector<double> values;
  for (int i = 20; i >= 1; --i) values.push_back(i);
  const Spread spread = spread_of(values);
  EXPECT_EQ(spread.count, 20U);
  EXPECT_EQ(spread.median, 10.5);
  EXPECT_EQ(spread.p90, 18);
  EXPECT_EQ(spread.p99, 20);
  EXPECT_EQ(spread.least, 1);
  EXPECT_EQ(spread.most, 20);
  EXPECT_EQ(spread_of({7}).p99, 7);
  EXPECT_EQ(spread_of({}).count, 0U);
}

TEST(BenchElastic, ReadsCommits) {
  const Commits commits = parse_commits(
      "{\"step\":1,\"epoch\":1,\"time\":10.5,\"loss\":2.0}\n"
      "{\"step\":2,\"epoch\":1,\"time\":10.75,\"loss\":\"nan\"}\n"
      "no line of ours\n"
      "{\"step\":3,\"epoch\":1,\"ti");
  EXPECT_EQ(commits, (Commits{{1, 10.5}, {2, 10.75}}));
  EXPECT_EQ(gap_of(commits, 2), 0.25);
  EXPECT_EQ(gap_of(commits, 1), std::nullopt);
  EXPECT_EQ(gap_of(commits, 3), std::nullopt);
}

TEST(BenchElastic, FindsThePauseAndWhatIsUsual) {
  const Commits commits = delayed(steady(60), 31, 0.5);
  EXPECT_NEAR(*gap_of(commits, 31), 0.6, 1e-9);
  EXPECT_NEAR(*usual_gap(commits, 31), 0.1, 1e-9);
  EXPECT_NEAR(*usual_gap(commits, 31, 1), 0.1, 1e-9);
  EXPECT_EQ(usual_gap(commits, 200), std::nullopt);
  EXPECT_NEAR(*median_gap(commits, 31, 31), 0.6, 1e-9);
}

TEST(BenchElastic, TakesGapsWholeWhereTheyReachBeyondTheWindow) {
  const Commits commits = delayed(steady(60), 31, 0.5);  // nothing from 1003 to 1003.6
  EXPECT_NEAR(greatest_gap(commits, 1003.2, 1003.3), 0.6, 1e-9);
  EXPECT_NEAR(greatest_gap(commits, 1001, 1004), 0.6, 1e-9);
  EXPECT_NEAR(greatest_gap(commits, 1000.5, 1002.95), 0.1, 1e-9);
  EXPECT_NEAR(last_commit(commits, 1003.3), 1003, 1e-9);
  // What lies before the gap in which something happened is undisturbed.
  EXPECT_NEAR(greatest_gap(commits, 1000.3, last_commit(commits, 1003.3)), 0.1, 1e-9);
  EXPECT_EQ(greatest_gap({}, 0, 1), 0);
  EXPECT_EQ(last_commit(commits, 900), 0);
}

TEST(BenchElastic, ReadsHowGenerationsBegan) {
  const auto beginnings = parse_beginnings(
      "paceline info: generation 2 goes on after step 120: 0 bytes of state came in 0 ms\n"
      "paceline info: generation 3 goes on after step 140: 46596176 bytes of state came in 9.5 ms\n"
      "paceline warning: generation 3 is over\n"
      "paceline info: generation 3 goes on after step 140: 46596176 bytes of state came in 4.25 ms\n"
      "paceline info: generation 4 goes on after step");
  ASSERT_EQ(beginnings.size(), 2U);
  EXPECT_EQ(beginnings.at(2).bytes, 0);
  EXPECT_EQ(beginnings.at(3).after_step, 140);
  EXPECT_EQ(beginnings.at(3).bytes, 46596176);
  EXPECT_NEAR(beginnings.at(3).seconds, 0.00425, 1e-12);
}

TEST(BenchElastic, ReadsWhenCheckpointsWerePublished) {
  std::string journal = "{\"type\":\"journal\",\"version\":2}\n";
  for (int step = 1; step <= 20; ++step) {
    journal += concat("{\"type\":\"step\",\"step\":", step, "}\n");
    if (step == 14) journal += "{\"type\":\"checkpoint\",\"step\":10,\"generation\":1}\n";
  }
  const auto spans = parse_checkpoints(journal);
  ASSERT_EQ(spans.size(), 1U);
  EXPECT_EQ(spans[0].step, 10);
  EXPECT_EQ(spans[0].published_after, 14);
}

TEST(BenchElastic, ComparesStepsBesideACheckpointWithFreeOnes) {
  Commits commits = delayed(steady(40), 11, 0.02);  // the copy
  for (std::int64_t step = 11; step <= 14; ++step) commits = delayed(std::move(commits), step, 0.005);
  const auto overlap = overlap_of(commits, {10, 14}, 30);
  ASSERT_TRUE(overlap);
  EXPECT_EQ(overlap->overlapped, 4);
  EXPECT_NEAR(overlap->ratio, 1.05, 1e-9);
  EXPECT_NEAR(overlap->copy_seconds, 0.025, 1e-9);
  EXPECT_EQ(overlap_of(commits, {10, 28}, 30), std::nullopt);  // none are free
  EXPECT_EQ(overlap_of(commits, {50, 54}, 70), std::nullopt);
}

TEST(BenchElastic, ComparesRunsOfStepsInTurn) {
  // Steps are counted from 0 where they are told of or not: of 8, 0 to 3 are told of, 4 to 7 are quiet.
  Commits commits{{0, 0}};
  double time = 0;
  for (std::int64_t step = 0; step < 32; ++step) {
    const bool told = step / 4 % 2 == 0;
    const bool first_of_run = step % 4 < 2;
    time += first_of_run ? 5 : told ? 0.11 : 0.1;
    commits[step + 1] = time;
  }
  for (const double ratio : alternation_ratios(commits, 4, 0)) EXPECT_NEAR(ratio, 1.1, 1e-9);
  EXPECT_EQ(alternation_ratios(commits, 4, 0).size(), 4U);
  EXPECT_EQ(alternation_ratios(commits, 4, 9).size(), 2U);
  for (const double ratio : alternation_ratios(commits, 4, 0, 2)) EXPECT_NEAR(ratio, 1, 1e-9);
  EXPECT_EQ(alternation_ratios(commits, 4, 0, 2).size(), 3U);
  EXPECT_TRUE(alternation_ratios({}, 4, 0).empty());
}

TEST(BenchElastic, SaysWhetherATargetIsMet) {
  const Target below{"pause", "ms", 80, 100};
  const Target above{"share", "", 0.6, 0.7, true};
  EXPECT_TRUE(below.met());
  EXPECT_FALSE(above.met());
  const PartReport report{
      "resize", "what it is", {{"pause", "ms", {60, 80, 90}}, {"none", "ms", {}}}, {below, above}};
  const std::string table = table_of(report);
  EXPECT_NE(table.find("pause at most 100 ms: 80.0, met"), std::string::npos) << table;
  EXPECT_NE(table.find("share at least 0.70: 0.60, missed"), std::string::npos) << table;
  const auto json = to_json(report);
  EXPECT_EQ(json["figures"][0]["median"], 80);
  EXPECT_EQ(json["figures"][0]["values"].size(), 3U);
  EXPECT_EQ(json["targets"][1]["met"], false);
}

TEST(BenchElastic, RefusesWhatItCannotMeasure) {
  for (const std::vector<std::string>& bad : std::vector<std::vector<std::string>>{{"--ranks", "1"},
                                                                                   {"--only", "kill,nothing"},
                                                                                   {"--kills", "0"},
                                                                                   {"--images", "10"},
                                                                                   {"--model", "gpt"}}) {
    const auto options = parse_elastic(bad);
    ASSERT_FALSE(options.ok()) << bad[0];
    EXPECT_EQ(options.error().code, ErrorCode::invalid_argument) << bad[0];
    EXPECT_EQ(options.error().message.find('\n'), std::string::npos) << options.error().message;
  }
  const auto some = parse_elastic({"--only", "kill,resize"});
  ASSERT_TRUE(some.ok());
  EXPECT_TRUE(some->wants("resize"));
  EXPECT_FALSE(some->wants("cost"));
  EXPECT_TRUE(ElasticOptions{}.wants("cost"));
}

}  // namespace
}  // namespace paceline::bench
