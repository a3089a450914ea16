// A run as its ranks saw it, on one clock: from files in which everything is known.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "paceline/base/fd.hpp"
#include "paceline/base/hash.hpp"
#include "seeing/clocks.hpp"
#include "seeing/counters.hpp"
#include "seeing/lines.hpp"
#include "seeing/run_events.hpp"
#include "seeing/telemetry_files.hpp"
#include "seeing/timeline.hpp"
#include "support/mutations.hpp"
#include "support/seen_run.hpp"

namespace paceline {
namespace {

using Json = nlohmann::json;
using Texts = std::vector<std::string>;

// ---- lines

Texts next_lines(LineFile& file) {
  Texts lines;
  EXPECT_TRUE(file.next([&](std::string_view line) { lines.emplace_back(line); }).ok());
  return lines;
}

TEST(LineFile, HandsOnWhatIsWholeAndGoesOn) {
  const SeenRun run;
  LineFile file(run / "x");
  EXPECT_EQ(next_lines(file), Texts());  // not there yet
  run.append("x", "one\n\ntw");
  EXPECT_EQ(next_lines(file), (Texts{"one", ""}));
  run.append("x", "o\nthree");
  EXPECT_EQ(next_lines(file), (Texts{"two"}));
  EXPECT_EQ(next_lines(file), Texts());
}

TEST(LineFile, PassesOverWhatIsTooLong) {
  const SeenRun run;
  const std::string longest(LineFile::most_line_bytes, 'x');
  run.append("x", longest + "\n" + longest + "y\nz\n");
  LineFile file(run / "x");
  EXPECT_EQ(next_lines(file), (Texts{longest, "z"}));
  EXPECT_EQ(file.too_long(), 1);
}

TEST(LineFile, BeginsNearTheEndOrEndsEarly) {
  const SeenRun run;
  run.append("x", "one\ntwo\nthree\n");
  LineFile last(run / "x");
  last.skip_to_last(8);
  EXPECT_EQ(next_lines(last), (Texts{"three"}));
  EXPECT_EQ(last.too_long(), 0);
  LineFile all(run / "x");
  all.skip_to_last(100);
  EXPECT_EQ(next_lines(all), (Texts{"one", "two", "three"}));
  LineFile first(run / "x", 8);
  EXPECT_EQ(next_lines(first), (Texts{"one", "two"}));
  LineFile folder(run / "telemetry");
  EXPECT_FALSE(folder.next([](std::string_view) {}).ok());
}

// ---- telemetry

TEST(TelemetryFiles, ReadsTheExampleOfTheDocument) {
  std::ifstream document(std::string(PACELINE_SOURCE_DIR) + "/docs/telemetry.md");
  std::vector<TelemetryLine> lines;
  for (std::string line; std::getline(document, line);)
    if (line.starts_with("{")) lines.push_back(parse_telemetry_line(line));
  ASSERT_EQ(lines.size(), 7u);
  EXPECT_EQ(std::get<WorkerBegun>(lines[0]).node, "n1");
  EXPECT_EQ(std::get<WorkerBegun>(lines[0]).worker, 3);
  EXPECT_EQ(std::get<RankTaken>(lines[1]).generation, 2);
  const auto& step = std::get<StepTimed>(lines[2]);
  EXPECT_EQ(step.step, 42);
  EXPECT_EQ(step.grains, 21);
  EXPECT_EQ(step.parts_us, (PerPart<double>{120, 9000, 17000, 800, 90, 700}));
  EXPECT_NEAR(step.committed() - step.time, 0.02701, 1e-6);
  EXPECT_NEAR(step.end() - step.time, 0.02771, 1e-6);
  EXPECT_EQ(std::get<PhaseTimed>(lines[3]).phase, "evaluate");
  EXPECT_EQ(std::get<Sampled>(lines[4]).values.at("memory_bytes"), 314572800);
  EXPECT_FALSE(std::get<Sampled>(lines[4]).values.contains("time"));
  EXPECT_FALSE(std::get<Sampled>(lines[5]).values.contains("memory_bytes")) << "it has not changed";
  EXPECT_EQ(std::get<LinesLost>(lines[6]).lines, 17);
}

TEST(TelemetryFiles, WhatIsNotAsItMustBeIsNothing) {
  for (
      const char* line :
      {"x", "[]", R"({"type":"step"})", R"({"type":"rank","time":1,"generation":1,"rank":2,"ranks":2})",
       R"({"type":"worker","time":-1,"worker":1})", R"({"type":"phase","time":1,"phase":"save","took":-1})",
       R"({"type":"step","time":1e300,"step":1,"data":0,"forward":0,"backward":0,"reduce":0,"commit":0,"optimizer":0})",
       R"({"type":"step","time":1,"step":1,"data":1e300,"forward":0,"backward":0,"reduce":0,"commit":0,"optimizer":0})"})
    EXPECT_TRUE(std::holds_alternative<std::monostate>(parse_telemetry_line(line))) << line;
  EXPECT_TRUE(std::holds_alternative<OtherLine>(parse_telemetry_line(R"({"type":"weather"})")));
}

TEST(Fuzz, TelemetryLines) {
  Texts examples;
  std::ifstream document(std::string(PACELINE_SOURCE_DIR) + "/docs/telemetry.md");
  for (std::string line; std::getline(document, line);)
    if (line.starts_with("{")) examples.push_back(line);
  ASSERT_FALSE(examples.empty());
  const Tally outcome = feed(examples, R"({}[]",:0123456789-.eE\tuflsn )", 21, [](const std::string& text) {
    const TelemetryLine line = parse_telemetry_line(text);
    if (const auto* step = std::get_if<StepTimed>(&line)) {
      EXPECT_GE(step->step, 1);
      EXPECT_TRUE(std::isfinite(step->end()));
      EXPECT_GE(step->committed(), step->time);
    }
    if (const auto* rank = std::get_if<RankTaken>(&line)) {
      EXPECT_LT(rank->rank, rank->ranks);
    }
    if (const auto* sample = std::get_if<Sampled>(&line)) {
      Counters counters;
      for (int i = 0; i < 2; ++i)
        counters.take(*sample, [](const CounterKind&, double value) { EXPECT_TRUE(std::isfinite(value)); });
    }
    return !std::holds_alternative<std::monostate>(line);
  });
  EXPECT_GT(outcome.good, 1000);
  EXPECT_GT(outcome.bad, 1000);
}

TEST(Fuzz, EventsAndMetrics) {
  const Texts examples = {
      SeenRun::journal_begins(3, JournalSeal{2, 1000, 7}),
      journal_line(JournalGeneration{2, 1, 41, 3, true, "larger by 1"}),
      journal_line(JournalShares{41, 2, {17, 17, 13}, 0.2, "rank 2 is the slowest"}),
      journal_line(JournalEvaluation{1, 100, 0.5, 0.9}),
      journal_line(JournalCheckpoint{41, 2, 3, 1000}),
      journal_line(JournalEnd{"failed", 41, "why"}),
      SeenRun::journal_steps(41, 41),
      R"({"type":"straggler","time":1.5,"step":41,"generation":2,"worker":1,"rank":1,"node":"n1","part":"data","ratio":2.5,"since":1.0,"ended":false,"reason":"slow"})",
      R"({"type":"decision","time":1.5,"step":41,"verdict":"grow","target":3,"reason":"it pays"})"};
  const Tally events = feed(examples, R"({}[]",:0123456789-.eE\tuflsn )", 22, [](const std::string& text) {
    EventReader reader;
    const auto event = reader.take(std::string_view(text).substr(0, text.find('\n')));
    for (const char c : event ? event->text : std::string()) EXPECT_GE(static_cast<unsigned char>(c), ' ');
    EXPECT_GE(reader.follows().bytes, 0);
    return event.has_value();
  });
  EXPECT_GT(events.good, 1000);
  EXPECT_GT(events.bad, 1000);
  const Texts metrics = {R"({"step":1,"epoch":1,"time":1.5,"loss":0.5,"accuracy":0.7,"learning_rate":0.1})"};
  const Tally figures = feed(metrics, R"({}[]",:0123456789-.eE )", 23, [](const std::string& text) {
    const auto line = parse_metrics_line(text);
    if (line) {
      EXPECT_GE(line->step, 1);
    }
    if (line && line->loss) {
      EXPECT_TRUE(std::isfinite(*line->loss));
    }
    return line.has_value();
  });
  EXPECT_GT(figures.good, 1000);
  EXPECT_GT(figures.bad, 1000);
}

// ---- clocks

/// A node whose clock is ahead by `offset(time)`, which wakes up late from every so many'th commit.
CommitTimes commits(std::int64_t first, std::int64_t last, const std::function<double(double)>& offset,
                    std::int64_t late_every = 0) {
  CommitTimes times;
  for (std::int64_t step = first; step <= last; ++step) {
    const double time = 1000 + 0.01 * static_cast<double>(step);
    const double late = late_every > 0 && step % late_every == 0 ? 0.004 : 0;
    times.add({1, step}, time + offset(time) + late);
  }
  return times;
}

TEST(Clocks, MedianLeavesLateOnesOut) {
  const auto none = [](double) { return 0.0; };
  const auto clocks = align_clocks({{"a", commits(1, 500, none)},
                                    {"b", commits(
                                              1, 500, [](double) { return -7.25; }, 3)}},
                                   "a");
  EXPECT_EQ(clocks.at("b").common, 500);
  for (const double time : {900.0, 1002.5, 2000.0})
    EXPECT_NEAR(clocks.at("b").offset.aligned(time - 7.25), time, 1e-9);
  EXPECT_EQ(clocks.at("a").offset.aligned(5), 5);
}

TEST(Clocks, FollowDrift) {
  const auto drifting = [](double time) { return 3 + 1e-4 * (time - 1000); };  // 100 ppm: 5 ms in all
  const auto clocks = align_clocks(
      {{"a", commits(1, 5000, [](double) { return 0.0; })}, {"b", commits(1, 5000, drifting, 5)}}, "a");
  for (const double time : {1002.0, 1010.0, 1025.0, 1048.0})
    EXPECT_NEAR(clocks.at("b").offset.aligned(time + drifting(time)), time, 1e-4);
  EXPECT_NEAR(clocks.at("b").greatest_s - clocks.at("b").least_s, 0.005, 5e-4);
}

TEST(Clocks, OverAnotherNodeAndNotAtAll) {
  const auto clocks = align_clocks({{"a", commits(1, 200, [](double) { return 0.0; })},
                                    {"b", commits(101, 300, [](double) { return 10.0; })},
                                    {"c", commits(201, 300, [](double) { return -5.0; })},
                                    {"d", commits(400, 500, [](double) { return 1.0; })}},
                                   "a");
  EXPECT_NEAR(clocks.at("c").offset.aligned(997), 1002, 1e-9);
  EXPECT_EQ(clocks.at("b").common, 100);
  EXPECT_EQ(clocks.at("d").common, 0);
  EXPECT_EQ(clocks.at("d").offset.aligned(1001), 1001);
}

TEST(Clocks, KeepFewOfMany) {
  CommitTimes one, other;
  for (std::int64_t step = 1; step <= 300'000; ++step) {
    one.add({1, step}, 1.0);
    if (step > 1000) other.add({1, step}, 3.0);
  }
  EXPECT_LE(one.times().size(), CommitTimes::most);
  EXPECT_GT(one.times().size(), CommitTimes::most / 4);
  const auto clocks = align_clocks({{"a", one}, {"b", other}}, "a");
  EXPECT_GT(clocks.at("b").common, 1000);
  EXPECT_EQ(clocks.at("b").offset.aligned(3), 1);
}

// ---- counters

TEST(Counters, RatesOfSumsAndLevels) {
  Counters counters;
  std::vector<std::pair<std::string, double>> seen;
  const auto keep = [&](const CounterKind& kind, double value) { seen.emplace_back(kind.member, value); };
  counters.take({10.0, {{"cpu_s", 5}, {"memory_bytes", 1 << 20}, {"unknown", 7}}}, keep);
  counters.take({10.5, {{"cpu_s", 5.75}}}, keep);
  counters.take({11.0, {}}, keep);                // nothing changed: no CPU was used
  counters.take({11.5, {{"cpu_s", 0.1}}}, keep);  // another process: begins anew
  counters.take({12.0, {{"cpu_s", 0.6}, {"memory_bytes", 3 << 20}}}, keep);
  const std::vector<std::pair<std::string, double>> expected = {
      {"memory_bytes", 1}, {"cpu_s", 1.5}, {"cpu_s", 0}, {"cpu_s", 1}, {"memory_bytes", 3}};
  EXPECT_EQ(seen, expected);
}

// ---- the timeline

class TimelineTest : public testing::Test {
 protected:
  Json trace(const StepRange& range = {}) {
    const auto facts = write_timeline(run_.path(), run_ / "out.json", range);
    EXPECT_TRUE(facts.ok()) << facts.error().message;
    facts_ = facts.ok() ? *facts : TimelineFacts{};
    return Json::parse(read_file(run_ / "out.json").value());
  }
  /// Events of a kind and name, in order.
  static std::vector<Json> events(const Json& trace, const std::string& kind, const std::string& name = "") {
    std::vector<Json> found;
    for (const Json& event : trace.at("traceEvents"))
      if (event.at("ph") == kind && (name.empty() || event.at("name") == name)) found.push_back(event);
    return found;
  }
  static std::string thread_name(const Json& trace, const Json& event) {
    for (const Json& name : events(trace, "M", "thread_name"))
      if (name.at("pid") == event.at("pid") && name.at("tid") == event.at("tid"))
        return name.at("args").at("name");
    return "?";
  }

  SeenRun run_;
  TimelineFacts facts_;
};

TEST_F(TimelineTest, PutsAllRanksOnOneClock) {
  run_.write_worker({0, "n0", 0}, 1, 0, 2, 1, 300);
  run_.write_worker({1, "n1", 12.5}, 1, 1, 2, 1, 300);
  run_.journal(
      1, {SeenRun::journal_begins(), journal_line(JournalGeneration{1, 1, 0, 2, false, "the job begins"}),
          SeenRun::journal_steps(1, 300)});
  const Json json = trace();
  EXPECT_EQ(facts_.workers, 2);
  EXPECT_EQ(facts_.steps, 600);
  EXPECT_EQ(facts_.first_step, 1);
  EXPECT_EQ(facts_.last_step, 300);
  ASSERT_EQ(facts_.clocks.size(), 2u);
  EXPECT_EQ(facts_.clocks[1].common, 300);
  EXPECT_NEAR(facts_.clocks[1].least_s, 12.5, 1e-5);
  for (const int step : {1, 150, 300}) {
    const auto slices = events(json, "X", concat("step ", step));
    ASSERT_EQ(slices.size(), 2u);
    EXPECT_NE(slices[0].at("pid"), slices[1].at("pid"));
    EXPECT_NEAR(slices[0].at("ts").get<double>(), slices[1].at("ts").get<double>(), 3);
    EXPECT_EQ(slices[0].at("dur"), 9000);
    EXPECT_EQ(slices[0].at("args").at("grains"), 16);
  }
  EXPECT_EQ(events(json, "X", "backward").size(), 600u);
  const auto generation = events(json, "X", "generation 1: 2 ranks, the job begins");
  ASSERT_EQ(generation.size(), 1u);
  EXPECT_EQ(thread_name(json, generation[0]), "generations");
  EXPECT_NEAR(generation[0].at("dur").get<double>(), 3e6, 0.02e6);
}

TEST_F(TimelineTest, PartsFillTheirStepWithoutOverlap) {
  run_.write_worker({0, "n0", 0}, 1, 0, 1, 1, 50);
  const Json json = trace();
  std::int64_t step_begin = 0, step_end = -1, part_end = 0, parts = 0;
  for (const Json& event : events(json, "X")) {
    const std::int64_t begin = event.at("ts"), end = begin + event.at("dur").get<std::int64_t>();
    if (event.at("name").get<std::string>().starts_with("step")) {
      EXPECT_GE(begin, step_end);
      if (step_end >= 0) {
        EXPECT_EQ(part_end, step_end);
      }
      step_begin = part_end = begin;
      step_end = end;
    } else {
      EXPECT_EQ(begin, part_end);
      EXPECT_GE(begin, step_begin);
      EXPECT_LE(end, step_end);
      part_end = end;
      ++parts;
    }
  }
  EXPECT_EQ(parts, 300);
}

TEST_F(TimelineTest, NodeWithoutCommonStepsIsNamed) {
  run_.write_worker({0, "n0", 0}, 1, 0, 1, 1, 50);
  run_.write_worker({1, "n1", 100}, 2, 0, 1, 60, 90);
  trace();
  ASSERT_EQ(facts_.clocks.size(), 2u);
  EXPECT_EQ(facts_.clocks[1].node, "n1");
  EXPECT_EQ(facts_.clocks[1].common, 0);
}

TEST_F(TimelineTest, EventsStandWhereTheyHappened) {
  run_.write_worker({0, "n0", 0}, 1, 0, 2, 1, 100);
  run_.write_worker({1, "n1", -3}, 1, 1, 2, 1, 100);
  const std::string straggler =
      R"({"type":"straggler","step":51,"generation":1,"worker":1,"rank":1,"node":"n1","part":"backward","ratio":2.0,)";
  run_.journal(
      1, {SeenRun::journal_begins(), SeenRun::journal_steps(1, 40),
          journal_line(JournalCheckpoint{40, 1, 2, 4096}), SeenRun::journal_steps(41, 50),
          journal_line(JournalShares{51, 1, {20, 12}, 0.2, "rank 1 is the slowest"}),
          concat(straggler, R"("time":)", SeenRun::exact(SeenRun::begin_of(60)), R"(,"since":)",
                 SeenRun::exact(SeenRun::begin_of(51)),
                 R"(,"ended":false,"reason":"rank 1 on n1 is slow: its core is shared"})", "\n"),
          R"({"type":"decision","step":55,"verdict":"hold","target":2,"reason":"no size is better"})", "\n",
          concat(straggler, R"("time":)", SeenRun::exact(SeenRun::begin_of(80)),
                 R"(,"ended":true,"reason":"over"})", "\n")});
  const Json json = trace();
  const double origin = json.at("otherData").at("begins_unix_s");
  const auto us = [&](double time) { return (time - origin) * 1e6; };
  const auto checkpoint = events(json, "i", "checkpoint of step 40, 4.0 KiB");
  ASSERT_EQ(checkpoint.size(), 1u);
  EXPECT_NEAR(checkpoint[0].at("ts").get<double>(), us(SeenRun::begin_of(40) + 0.008), 5);
  EXPECT_EQ(thread_name(json, checkpoint[0]), "checkpoints and evaluations");
  const auto shares = events(json, "i", "shares 20, 12: rank 1 is the slowest");
  ASSERT_EQ(shares.size(), 1u);
  EXPECT_NEAR(shares[0].at("ts").get<double>(), us(SeenRun::begin_of(50) + 0.008), 5);
  EXPECT_EQ(shares[0].at("args").at("shares"), Json({20, 12}));
  const std::string text = "rank 1 on n1 is slow: its core is shared";
  const auto slow = events(json, "X", text);
  ASSERT_EQ(slow.size(), 1u);
  EXPECT_NEAR(slow[0].at("ts").get<double>(), us(SeenRun::begin_of(51)), 5);
  EXPECT_NEAR(slow[0].at("dur").get<double>(), 290'000, 5);
  ASSERT_EQ(events(json, "i", text).size(), 1u);
  EXPECT_EQ(thread_name(json, events(json, "i", text)[0]), "rank 1");
  EXPECT_EQ(events(json, "i", "decision: hold, 2 ranks: no size is better").size(), 1u);
  EXPECT_EQ(facts_.unplaced, 0);
}

TEST_F(TimelineTest, StepsThatWereDoneAgainStandTwice) {
  const SeenRun::Worker first{0, "n0", 0};
  run_.write_worker(first, 1, 0, 1, 1, 50);
  // Ten seconds later another launch goes on from step 30.
  run_.write_worker({1, "n0", 10}, 2, 0, 1, 31, 60);
  const std::string one =
      concat(SeenRun::journal_begins(), journal_line(JournalGeneration{1, 1, 0, 1, false, "a"}),
             SeenRun::journal_steps(1, 40), journal_line(JournalCheckpoint{40, 1, 1, 1024}));
  run_.journal(1, {one, SeenRun::journal_steps(41, 50)});
  run_.journal(2, {SeenRun::journal_begins(2, JournalSeal{1, std::ssize(one), 30}),
                   journal_line(JournalGeneration{2, 2, 30, 1, false, "b"}), SeenRun::journal_steps(31, 60),
                   journal_line(JournalCheckpoint{40, 2, 1, 2048})});
  const Json json = trace();
  EXPECT_EQ(events(json, "X", "step 40").size(), 2u);
  const auto resumed = events(json, "i", "coordinator of term 2 goes on after step 30");
  ASSERT_EQ(resumed.size(), 1u);
  EXPECT_NEAR(resumed[0].at("ts").get<double>(),
              events(json, "i", "rank 0 of 1, generation 2").at(0).at("ts").get<double>(), 1);
  const auto before = events(json, "i", "checkpoint of step 40, 1.0 KiB");
  const auto after = events(json, "i", "checkpoint of step 40, 2.0 KiB");
  ASSERT_TRUE(before.size() == 1 && after.size() == 1);
  EXPECT_NEAR(after[0].at("ts").get<double>() - before[0].at("ts").get<double>(), 10e6, 10);
}

TEST_F(TimelineTest, RotatedFilesGoOnAndTheGenerationIsFoundElsewhere) {
  const SeenRun::Worker zero{0, "n0", 0}, one{1, "n1", 4};
  run_.write_worker(zero, 3, 0, 2, 1, 100);
  run_.write_header(one, ".old");
  run_.write_steps(one, 1, 20, 60, ".old");
  run_.write_header(one);
  run_.write_steps(one, 1, 61, 100);
  std::filesystem::create_directory(run_ / "generations");
  run_.append(
      "generations/3.json",
      R"({"version":1,"generation":3,"term":1,"base_step":0,"planned":false,"reason":"x","donors":[],)"
      R"("members":[{"worker":0,"node":"n0","host":"h","port":1},{"worker":1,"node":"n1","host":"h","port":2}]})");
  const Json json = trace();
  EXPECT_EQ(facts_.clocks.at(1).common, 81);
  EXPECT_NEAR(facts_.clocks.at(1).least_s, 4, 1e-5);
  EXPECT_EQ(thread_name(json, events(json, "X", "step 30").at(1)), "rank 1");
}

TEST_F(TimelineTest, OnlyTheStepsThatAreAskedFor) {
  run_.write_worker({0, "n0", 0}, 1, 0, 1, 1, 100);
  run_.line("telemetry/worker-0.jsonl",
            concat(R"({"type":"phase","time":)", SeenRun::exact(SeenRun::begin_of(101)),
                   R"(,"phase":"evaluate","took":500})"));
  Json json = trace({10, 20});
  EXPECT_EQ(facts_.steps, 11);
  EXPECT_EQ(facts_.first_step, 10);
  EXPECT_EQ(facts_.last_step, 20);
  EXPECT_TRUE(events(json, "X", "evaluate").empty());
  EXPECT_EQ(events(json, "X", "step 10").at(0).at("ts"), 0);
  json = trace({100, std::nullopt});
  EXPECT_EQ(facts_.steps, 1);
  json = trace();
  EXPECT_EQ(events(json, "X", "evaluate").size(), 1u);
  const auto none = write_timeline(run_.path(), run_ / "none.json", {200, 300});
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().message, "the run's telemetry has no step from 200 to 300");
  EXPECT_FALSE(std::filesystem::exists(run_ / "none.json"));
}

TEST_F(TimelineTest, BadLinesAreCountedAndHarmNothing) {
  run_.write_worker({0, "n0", 0}, 1, 0, 1, 1, 10);
  run_.append("telemetry/worker-0.jsonl",
              "garbage\n\n{\"type\":\"weather\"}\n{\"type\":\"lost\",\"time\":1,\"lines\":5}\n{\"ty");
  run_.append("telemetry/worker-x.jsonl", "not ours\n");
  run_.append("journal/1.jsonl", "\xff\xfe garbage\n");
  trace();
  EXPECT_EQ(facts_.unreadable, 1);
  EXPECT_EQ(facts_.lost, 5);
  EXPECT_EQ(facts_.steps, 10);
}

TEST_F(TimelineTest, RefusesWhatItCannotDo) {
  const auto none = write_timeline(run_.path(), run_ / "out.json", {});
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().code, ErrorCode::not_found);
  run_.line("telemetry/worker-0.jsonl",
            R"({"type":"worker","version":2,"worker":0,"node":"n0","pid":1,"time":1})");
  const auto newer = write_timeline(run_.path(), run_ / "out.json", {});
  ASSERT_FALSE(newer.ok());
  EXPECT_EQ(newer.error().code, ErrorCode::unsupported);
  std::filesystem::remove(run_ / "telemetry/worker-0.jsonl");
  run_.write_worker({0, "n0", 0}, 1, 0, 1, 1, 10);
  const auto nowhere = write_timeline(run_.path(), run_ / "no/out.json", {});
  ASSERT_FALSE(nowhere.ok());
  EXPECT_EQ(nowhere.error().code, ErrorCode::io);
  // A folder of that name can't be replaced; nothing half-written is left beside it.
  const auto folder = write_timeline(run_.path(), run_ / "telemetry", {});
  EXPECT_FALSE(folder.ok());
  for (const auto& entry : std::filesystem::directory_iterator(run_.path()))
    EXPECT_EQ(entry.path().string().find("partial"), std::string::npos) << entry.path();
}

}  // namespace
}  // namespace paceline
