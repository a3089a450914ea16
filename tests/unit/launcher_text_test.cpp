#include <gtest/gtest.h>

#include <fcntl.h>
#include <unistd.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "display.hpp"
#include "format.hpp"
#include "import_display.hpp"
#include "job_size.hpp"
#include "options.hpp"
#include "paceline/base/text.hpp"
#include "summary.hpp"
#include "worker_output.hpp"

namespace paceline {
namespace {

using namespace std::chrono_literals;

// Step 43 of the second of five epochs of 100 steps.
const ProgressMessage middle{.step = 143,
                             .steps = 500,
                             .epoch = 2,
                             .epochs = 5,
                             .epoch_step = 43,
                             .epoch_steps = 100,
                             .loss = 0.4121,
                             .epoch_loss = 0.4381,
                             .samples_per_second = 8214.4,
                             .seconds_left = 21};

TEST(Format, Numbers) {
  EXPECT_EQ(with_commas(0), "0");
  EXPECT_EQ(with_commas(999.6), "1,000");
  EXPECT_EQ(with_commas(8214.4), "8,214");
  EXPECT_EQ(with_commas(-1234567), "-1,234,567");
  EXPECT_EQ(with_commas(std::numeric_limits<double>::quiet_NaN()), "-");
  EXPECT_EQ(clock_time(21), "0:21");
  EXPECT_EQ(clock_time(725.4), "12:05");
  EXPECT_EQ(clock_time(3723), "1:02:03");
  EXPECT_EQ(clock_time(std::numeric_limits<double>::infinity()), "-");
  EXPECT_EQ(clock_time(-1), "-");
}

TEST(ProgressBar, FitsAndGivesWay) {
  EXPECT_EQ(progress_bar(middle, 79),
            "epoch 2/5 [========>             ]  43%  8,214 samples/s  loss 0.412  0:21 left");
  EXPECT_EQ(progress_bar(middle, 60), "epoch 2/5  43%  8,214 samples/s  loss 0.412  0:21 left");
  EXPECT_EQ(progress_bar(middle, 45), "epoch 2/5  43%  loss 0.412  0:21 left");
  EXPECT_EQ(progress_bar(middle, 30), "epoch 2/5  43%  0:21 left");
  EXPECT_EQ(progress_bar(middle, 5), "epoch");
  for (std::size_t width = 0; width <= 200; ++width) EXPECT_LE(progress_bar(middle, width).size(), width);
}

TEST(ImportBar, FitsAndGivesWay) {
  const ImportProgress images{"train", 1500, 60000, false};
  EXPECT_EQ(import_line(images), "train: 1,500 of 60,000 images");
  EXPECT_EQ(import_bar(images, 79), "train: 1,500 of 60,000 images [..............................]");
  EXPECT_EQ(import_bar({"test", 3 << 20, 4 << 20, true}, 79),
            "test: 3.0 MiB of 4.0 MiB [######################........]");
  EXPECT_EQ(import_bar({"test", 3 << 20, 4 << 20, true}, 36), "test: 3.0 MiB of 4.0 MiB [######...]");
  EXPECT_EQ(import_line({"learning a vocabulary", 0, 0, true}), "learning a vocabulary");
  for (std::size_t width = 0; width <= 100; ++width) EXPECT_LE(import_bar(images, width).size(), width);
  EXPECT_EQ(import_bar({"train", 9, 4, false}, 40), "train: 9 of 4 images [#################]");
}

TEST(ProgressBar, SurvivesNumbersThatCannotBe) {
  EXPECT_NE(progress_bar({}, 80), "");
  EXPECT_NE(progress_bar({.step = 9, .steps = 3, .epoch = 7, .epochs = 5, .loss = 1e300}, 80), "");
  EXPECT_EQ(epoch_steps({.epoch_step = 500, .epoch_steps = 100}).done, 100);
}

/// A display that writes into pipes, for what it says where there is no terminal.
class DisplayTest : public testing::Test {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_NONBLOCK), 0);
    reading_.reset(ends[0]);
    writing_.reset(ends[1]);
  }
  std::string written() {
    char text[65536];
    const ssize_t got = ::read(reading_.get(), text, sizeof text);
    return std::string(text, got > 0 ? static_cast<std::size_t>(got) : 0);
  }
  Display::Options options() { return {.news_fd = writing_.get(), .trouble_fd = writing_.get()}; }

  UniqueFd reading_, writing_;
};

TEST_F(DisplayTest, PlainLinesEveryFiveSecondsAndForEachEpoch) {
  Display display(options());
  Instant now{};
  for (int i = 0; i < 100; ++i) display.progress(middle, now += 100ms);  // 10 s: at the start none, then two
  display.eval({2, 10000, 0.44, 0.842, {}});
  const std::string line =
      "epoch 2/5, step 143 of 500 (43% of the epoch): loss 0.412, 8,214 samples/s, 0:21 left\n";
  EXPECT_EQ(written(), line + "epoch 2/5: train loss 0.438, test loss 0.440, test accuracy 84.2%\n");
}

TEST_F(DisplayTest, TextHasPerplexityInPlaceOfAccuracy) {
  Display display(options());
  display.progress(middle, Instant{});
  display.eval({2, 10000, 1.5, {}, 4.4817});
  EXPECT_EQ(written(), "epoch 2/5: train loss 0.438, test loss 1.500, test perplexity 4.48\n");
}

TEST_F(DisplayTest, EpochsWithoutEvaluationHaveTheirLine) {
  Display display(options());
  ProgressMessage progress = middle;
  display.progress(progress, Instant{});
  progress.epoch_loss = 0.306;
  display.progress(progress, Instant{} + 1ms);
  progress.epoch = 3;
  display.progress(progress, Instant{} + 2ms);
  EXPECT_EQ(written(), "epoch 2/5: train loss 0.306\n");
}

TEST_F(DisplayTest, QuietLeavesTrouble) {
  Display::Options quiet = options();
  quiet.quiet = true;
  Display display(quiet);
  display.line("news");
  display.progress(middle, Instant{});
  display.eval({1, 1, 1, 1, {}});
  EXPECT_EQ(written(), "");
  display.warning("mind");
  display.error("broken");
  EXPECT_EQ(written(), "paceline: mind\npaceline: broken\n");
}

TEST_F(DisplayTest, AReaderWhoSleepsDoesNotHoldItUp) {
  Display display(options());
  const std::string block(4096, 'x');
  while (::write(writing_.get(), block.data(), block.size()) > 0) continue;
  const auto began = std::chrono::steady_clock::now();
  for (int i = 0; i < 60; ++i) display.line("nobody reads this");
  EXPECT_LT(std::chrono::steady_clock::now() - began, 30s) << "it is waited for once";
  while (!written().empty()) continue;
  display.line("this is read");
  EXPECT_EQ(written(), "this is read\n");
}

TEST(LastLines, KeepsTheLastAndJoinsWhatWasCut) {
  LastLines last(2);
  EXPECT_TRUE(last.lines().empty());
  last.add("one\ntwo\nthr");
  last.add("ee\nfo");
  EXPECT_EQ(last.lines(), (std::deque<std::string>{"three", "fo"}));
  last.add("ur\n");
  EXPECT_EQ(last.lines(), (std::deque<std::string>{"three", "four"}));
}

TEST(LastLines, CutsLongLinesAndHidesControlBytes) {
  LastLines last(3);
  last.add(std::string(100000, 'x') + "\n\x1b[31mred\r\n");
  EXPECT_EQ(last.lines()[0], std::string(400, 'x'));
  EXPECT_EQ(last.lines()[1], "?[31mred");
}

Job job_of(std::int64_t global, std::int64_t most) {
  Job job;
  job.batch.global = global;
  job.ranks.max = most;
  return job;
}

TEST(JobSize, RanksAsTyped) {
  EXPECT_EQ(parse_ranks("").value(), std::nullopt);
  EXPECT_EQ(parse_ranks("3").value(), 3);
  for (const char* bad : {"0", "-1", "two", "3x", "5000", "1:4"}) {
    ASSERT_FALSE(parse_ranks(bad).ok()) << bad;
    EXPECT_NE(parse_ranks(bad).error().message.find(bad), std::string::npos);
  }
}

TEST(JobSize, LimitsAndGrains) {
  EXPECT_TRUE(check_ranks(job_of(256, 4), 4).ok());
  EXPECT_FALSE(check_ranks(job_of(256, 4), 5).ok());
  // One sample is one grain at least, so three ranks cannot share a batch of two.
  EXPECT_TRUE(check_ranks(job_of(2, 4), 2).ok());
  EXPECT_FALSE(check_ranks(job_of(2, 4), 3).ok());
  EXPECT_EQ(default_ranks(job_of(2, 4096), 64), 2);
  EXPECT_EQ(default_ranks(job_of(256, 4), 2), 2);
  EXPECT_EQ(default_ranks(job_of(256, 4), 64), 4);
  Job job = job_of(256, 8);
  job.ranks.min = 3;
  EXPECT_EQ(default_ranks(job, 2), 3);
}

TEST(Summary, ACompletedRunHasEveryFigure) {
  Outcome outcome;
  outcome.status = "completed";
  FinishedMessage run;
  run.steps = 10;
  run.samples = 2560;
  run.seconds = 0.5;
  run.step_ms = {1, 2, 3};
  run.eval = EvalMessage{1, 100, 0.25, 0.5, {}};
  run.weights_sha256 = "abc";
  outcome.finished = run;
  const auto json = nlohmann::json::parse(summary_json({.run_dir = "/r", .ranks = 2}, outcome));
  EXPECT_EQ(json["status"], "completed");
  EXPECT_EQ(json["samples_per_second"], 5120);
  EXPECT_EQ(json["step_ms"]["p99"], 3);
  EXPECT_EQ(json["eval"], nlohmann::json::parse(R"({"loss": 0.25, "accuracy": 0.5})"));
  EXPECT_FALSE(json.contains("error"));
  for (const char* key : {"ranks", "generation", "steps", "epochs", "samples", "seconds", "allreduce_ms",
                          "exposed_allreduce_ms", "data_wait_ms", "train_loss", "weights_sha256",
                          "rebalances", "resizes", "repairs", "run_dir", "peak_memory_bytes"})
    EXPECT_TRUE(json.contains(key)) << key;
}

TEST(Summary, HasTheResourceEfficiencyWhereItIsKnown) {
  Outcome outcome;
  outcome.status = "completed";
  RunFacts facts{.run_dir = "/r"};
  EXPECT_TRUE(nlohmann::json::parse(summary_json(facts, outcome))["resource_efficiency"].is_null());
  facts.totals = RunTotals{.useful_samples = 6000, .memory_byte_s = 3e12};
  const auto without_energy =
      nlohmann::json::parse(summary_json(facts, outcome)).value("resource_efficiency", nlohmann::json());
  EXPECT_EQ(without_energy["useful_samples"], 6000);
  EXPECT_EQ(without_energy["memory_byte_s"], 3e12);
  EXPECT_EQ(without_energy["samples_per_byte_s"], 2e-9);
  EXPECT_TRUE(without_energy["energy_j"].is_null());
  EXPECT_TRUE(without_energy["samples_per_joule"].is_null());
  facts.totals->energy_j = 1500;
  EXPECT_EQ(nlohmann::json::parse(summary_json(facts, outcome))["resource_efficiency"]["samples_per_joule"],
            4);
}

TEST(Summary, OfTextHasPerplexity) {
  Outcome outcome;
  outcome.eval = EvalMessage{1, 100, 0.25, {}, 1.5};
  const auto json = nlohmann::json::parse(summary_json({.action = "eval"}, outcome));
  EXPECT_EQ(json["eval"], nlohmann::json::parse(R"({"loss": 0.25, "perplexity": 1.5})"));
}

TEST(Summary, AJobThatEndsWithinItsFirstEpochCountsStepsAlone) {
  Outcome outcome;
  outcome.status = "completed";
  FinishedMessage run;
  run.steps = 7;
  run.samples = 70;
  run.seconds = 1;
  outcome.finished = run;
  EXPECT_EQ(summary_text({}, outcome).substr(0, 43), "completed: 7 steps, 70 samples in 1.0 s (70");
}

TEST(Summary, AFailedRunSaysWhoAndHowFar) {
  Outcome outcome;
  outcome.progress = middle;
  outcome.failure = {.rank = 1, .node = "h1", .sentence = "rank 1 died", .last_words = {"bad \xff byte"}};
  const auto json = nlohmann::json::parse(summary_json({.ranks = 2}, outcome));
  EXPECT_EQ(json["status"], "failed");
  EXPECT_EQ(json["error"], "rank 1 died");
  EXPECT_EQ(json["rank"], 1);
  EXPECT_EQ(json["node"], "h1");
  EXPECT_EQ(json["steps"], 143);
  EXPECT_EQ(failure_text(*outcome.failure, "/log"), "rank 1 died; its last words (/log):\n  bad \xff byte");
  outcome.failure->last_words.clear();
  EXPECT_EQ(failure_text(*outcome.failure, "/log"), "rank 1 died; it said nothing");
}

TEST(CommandLine, SetTakesOneValueWhereverItStands) {
  const char* arguments[] = {"paceline", "train", "--set", "a.b=c=d", "job.yaml", "--set", "e={f: 1}"};
  const Result<Command> command = parse_command_line(7, arguments);
  ASSERT_TRUE(command.ok());
  const auto& train = std::get<TrainOptions>(*command);
  EXPECT_EQ(train.job_file, "job.yaml");
  ASSERT_EQ(train.overrides.size(), 2U);
  EXPECT_EQ(train.overrides[0].key, "a.b");
  EXPECT_EQ(train.overrides[0].value, "c=d");
  EXPECT_EQ(train.overrides[1].value, "{f: 1}");
}

TEST(CommandLine, BenchReadsItsArgumentsItself) {
  const char* arguments[] = {"paceline", "bench", "allreduce", "--ranks", "--help"};
  const Result<Command> command = parse_command_line(5, arguments);
  ASSERT_TRUE(command.ok());
  EXPECT_EQ(std::get<BenchArguments>(*command).arguments,
            (std::vector<std::string>{"allreduce", "--ranks", "--help"}));
}

TEST(CommandLine, BadUsageIsOneSentence) {
  const std::vector<std::vector<const char*>> cases = {
      {"paceline"},
      {"paceline", "tarin", "job.yaml"},
      {"paceline", "train"},
      {"paceline", "train", "job.yaml", "--set", "nothing"},
      {"paceline", "train", "job.yaml", "--threads", "0"},
      {"paceline", "export", "run", "--format", "gif", "--out", "x"},
      {"paceline", "data", "import"}};
  for (const auto& arguments : cases) {
    const Result<Command> command = parse_command_line(static_cast<int>(arguments.size()), arguments.data());
    ASSERT_FALSE(command.ok());
    EXPECT_EQ(command.error().code, ErrorCode::invalid_argument);
    EXPECT_EQ(command.error().message.find('\n'), std::string::npos);
  }
  const char* slip[] = {"paceline", "tarin"};
  EXPECT_NE(parse_command_line(2, slip).error().message.find("did you mean train"), std::string::npos);
}

}  // namespace
}  // namespace paceline
