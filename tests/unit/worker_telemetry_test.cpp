// What a worker writes of its steps and samples, and that training never waits for it.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <csignal>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <sstream>
#include <thread>

#include "paceline/base/fd.hpp"
#include "paceline/base/log.hpp"
#include "support/temporary_folder.hpp"
#include "telemetry.hpp"
#include "telemetry_file.hpp"

namespace paceline {
namespace {

using Json = nlohmann::json;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

const SteadyClock steady_clock;

std::vector<Json> lines_of(const std::string& text) {
  std::vector<Json> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);)
    if (!line.empty()) lines.push_back(Json::parse(line));
  return lines;
}

std::vector<Json> lines_in(const std::string& path) {
  const Result<std::string> text = read_file(path);
  EXPECT_TRUE(text.ok()) << text.error().message;
  return lines_of(text.ok() ? *text : "");
}

std::vector<Json> of_type(const std::vector<Json>& lines, const std::string& type) {
  std::vector<Json> found;
  for (const Json& line : lines)
    if (line["type"] == type) found.push_back(line);
  return found;
}

StepRecord step_record(std::int64_t step) {
  return {Instant(),
          step,
          21,
          672,
          microseconds(120),
          microseconds(9000),
          microseconds(17000),
          microseconds(800),
          microseconds(90),
          microseconds(700)};
}

// ---- the form of the lines --------------------------------------------------------------------------

/// The block of docs/telemetry.md that begins so.
std::string documented(const std::string& beginning) {
  const auto here = std::filesystem::path(__FILE__).parent_path();
  const Result<std::string> text = read_file(here / "../../docs/telemetry.md");
  const std::size_t at = text.ok() ? text->find("```json\n" + beginning) : std::string::npos;
  EXPECT_NE(at, std::string::npos);
  if (at == std::string::npos) return {};
  return text->substr(at + 8, text->find("```", at + 8) - at - 8);
}

TEST(TelemetryLines, AreThoseOfTheDocument) {
  const auto at = [](std::int64_t ms) { return Instant(milliseconds(ms)); };
  TelemetryLines lines(3, 4711, seconds(1'795'353'570));
  std::string text;
  lines.begin(text, at(125), "n1");
  lines.add(text, RankRecord{at(1500), 2, 1, 3, 41});
  StepRecord step = step_record(42);
  step.began = at(1625);
  lines.add(text, step);
  lines.add(text, PhaseRecord{at(10'000), Phase::evaluate, milliseconds(812)});
  SampleRecord sample{at(10'125), {}};
  sample.sample.cpu_s = 17.5;
  sample.sample.memory_bytes = 314'572'800;
  sample.sample.read_bytes = 51'380'224;
  sample.sample.network_sent_bytes = sample.sample.network_received_bytes = 2'097'152;
  lines.add(text, sample);
  sample.at = at(10'225);
  sample.sample.cpu_s = 17.59;
  sample.sample.network_sent_bytes = 2'099'200;
  lines.add(text, sample);
  lines.add_lost(text, at(21'000), 17);
  EXPECT_EQ(lines_of(text), lines_of(documented(R"({"type":"worker")")));
}

TEST(TelemetryLines, TellAllAgainToAReaderWhoKnowsNothing) {
  TelemetryLines lines(0, 1, {});
  std::string text;
  lines.add(text, RankRecord{Instant(), 7, 1, 2, 40});
  SampleRecord sample{Instant(), {}};
  sample.sample.gpu_busy = 0.5;
  lines.add(text, sample);
  text.clear();
  sample.sample.gpu_busy.reset();
  lines.add(text, sample);
  EXPECT_EQ(lines_of(text)[0]["gpu_busy"], nullptr) << "no more";
  text.clear();
  lines.begin(text, Instant(), "n\"1\\\n");
  lines.add(text, sample);
  const std::vector<Json> told = lines_of(text);
  ASSERT_EQ(told.size(), 3U);
  EXPECT_EQ(told[0]["node"], "n\"1\\?");
  EXPECT_EQ(told[1]["generation"], 7);
  EXPECT_TRUE(told[2].contains("cpu_s") && told[2].contains("wire_bytes") && !told[2].contains("gpu_busy"));
}

TEST(TelemetryLines, ANumberThatIsNoneIsNothing) {
  TelemetryLines lines(0, 1, {});
  std::string text;
  SampleRecord sample{Instant(), {}};
  sample.sample.cpu_s = std::numeric_limits<double>::quiet_NaN();
  sample.sample.gpu_power_w = std::numeric_limits<double>::infinity();
  lines.add(text, sample);
  EXPECT_EQ(lines_of(text)[0]["cpu_s"], nullptr);
  EXPECT_EQ(lines_of(text)[0]["gpu_power_w"], nullptr);
}

// ---- the file ---------------------------------------------------------------------------------------

TEST(TelemetryFile, IsBegunAnewWhenItHasGrownLarge) {
  TemporaryFolder folder;
  TelemetryFile file(folder / "telemetry", 3, 100);
  const std::string line(59, 'x');
  std::vector<bool> begins;
  for (int i = 0; i < 5; ++i) {
    const Result<bool> prepared = file.prepare();
    ASSERT_TRUE(prepared.ok()) << prepared.error().message;
    begins.push_back(*prepared);
    ASSERT_TRUE(file.write(concat(line, i, "\n")).ok());
  }
  EXPECT_EQ(begins, (std::vector<bool>{true, false, true, false, true}));
  EXPECT_EQ(*read_file(folder / "telemetry/worker-3.jsonl"), line + "4\n");
  EXPECT_EQ(*read_file(folder / "telemetry/worker-3.old.jsonl"), line + "2\n" + line + "3\n");
}

TEST(TelemetryFile, GoesOnBehindALineThatWasCutOff) {
  TemporaryFolder folder;
  std::ofstream(folder / "worker-0.jsonl") << "{\"type\":";
  TelemetryFile file(folder.path(), 0, 100);
  ASSERT_TRUE(*file.prepare());
  ASSERT_TRUE(file.write("whole\n").ok());
  EXPECT_EQ(*read_file(folder / "worker-0.jsonl"), "{\"type\":\nwhole\n");
}

TEST(TelemetryFile, WhatCannotBeWrittenIsSaid) {
  TemporaryFolder folder;
  std::ofstream(folder / "taken") << "a file";
  EXPECT_NE(TelemetryFile(folder / "taken", 0, 100).prepare().error().message.find("/taken/worker-0.jsonl"),
            std::string::npos);
  EXPECT_FALSE(TelemetryFile(folder / "no/such", 0, 100).prepare().ok());
  TelemetryFile full("/dev/full", 0, 100);
  EXPECT_FALSE(full.prepare().ok());
}

// ---- the whole --------------------------------------------------------------------------------------

std::atomic<int> warnings = 0;

class Recorder : public ::testing::Test {
 protected:
  void SetUp() override {
    warnings = 0;
    set_log_sink([](LogLevel level, std::string_view) {
      if (level == LogLevel::warning) ++warnings;
    });
    options_.folder = folder_ / "telemetry";
    options_.worker = 3;
    options_.sample_interval = milliseconds(10);
    options_.write_interval = milliseconds(20);
  }
  void TearDown() override { set_log_sink(nullptr); }
  [[nodiscard]] std::vector<Json> lines() const { return lines_in(folder_ / "telemetry/worker-3.jsonl"); }
  [[nodiscard]] static RankRecord rank() { return {steady_clock.now(), 1, 0, 2, 0}; }
  template <class Condition>
  static void wait_for(const Condition& condition) {
    const Deadline deadline(steady_clock, seconds(30));
    while (!condition() && !deadline.passed()) std::this_thread::sleep_for(milliseconds(1));
    EXPECT_TRUE(condition());
  }

  TemporaryFolder folder_;
  TelemetryOptions options_;
  Activity activity_;
};

TEST_F(Recorder, WritesEveryStepInItsOrderAndSamplesBeside) {
  {
    TelemetryRecorder recorder(options_, activity_);
    recorder.enter(rank(), "n1");
    for (int step = 1; step <= 1000; ++step) {
      recorder.committed(step_record(step));
      if (step % 100 == 0) std::this_thread::sleep_for(milliseconds(5));
    }
    const TelemetryRecorder::PhaseSpan span(recorder, Phase::evaluate);
    EXPECT_EQ(activity_.read().phase, "evaluate");
    std::this_thread::sleep_for(milliseconds(30));
  }
  const std::vector<Json> all = lines();
  EXPECT_EQ(all[0]["type"], "worker");
  EXPECT_EQ(all[0]["node"], "n1");
  EXPECT_EQ(all[0]["pid"], ::getpid());
  EXPECT_NEAR(all[0]["time"].get<double>(), static_cast<double>(std::time(nullptr)), 60);
  const std::vector<Json> steps = of_type(all, "step");
  ASSERT_EQ(steps.size(), 1000U);
  for (std::size_t i = 0; i < steps.size(); ++i) ASSERT_EQ(steps[i]["step"], i + 1);
  ASSERT_EQ(of_type(all, "phase").size(), 1U);
  EXPECT_GE(of_type(all, "phase")[0]["took"], 30'000);
  EXPECT_GE(of_type(all, "sample").size(), 3U);
  EXPECT_GT(of_type(all, "sample").back()["cpu_s"], 0);
  EXPECT_TRUE(of_type(all, "lost").empty());
  EXPECT_EQ(warnings, 0);
}

TEST_F(Recorder, HeartbeatsHaveTheSumsOfStepsAndTheLastSample) {
  TelemetryRecorder recorder(options_, activity_);
  recorder.enter(rank(), "n1");
  for (int step = 1; step <= 10; ++step) recorder.committed(step_record(step));
  const Telemetry told = activity_.read().telemetry;
  EXPECT_EQ(told.steps, 10);
  EXPECT_EQ(told.grains, 210);
  EXPECT_EQ(told.samples, 6720);
  EXPECT_NEAR(told.backward_s, 0.17, 1e-9);
  wait_for([&] { return activity_.read().telemetry.cpu_s > 0; });
  EXPECT_GT(activity_.read().telemetry.memory_bytes, 1 << 20);
  const double before = activity_.read().telemetry.cpu_s;
  wait_for([&] { return activity_.read().telemetry.cpu_s > before; });
}

TEST_F(Recorder, ReadsTheGpu) {
  options_.nvml = FAKE_NVML;
  TelemetryRecorder recorder(options_, activity_);
  wait_for([&] { return activity_.read().telemetry.gpu_power_w == 310.5; });
}

TEST_F(Recorder, ADriverThatDoesNotStartIsSaidOnce) {
  options_.nvml = "/nonexistent.so";
  TelemetryRecorder recorder(options_, activity_);
  wait_for([&] { return activity_.read().telemetry.cpu_s > 0; });
  EXPECT_EQ(warnings, 1);
}

TEST_F(Recorder, CountsWhatThereWasNoRoomForAndKeepsTheRank) {
  options_.most_records = 100;
  options_.sample_interval = options_.write_interval = seconds(60);
  {
    TelemetryRecorder recorder(options_, activity_);
    for (int step = 1; step <= 500; ++step) recorder.committed(step_record(step));
    recorder.enter(rank(), "n1");
  }
  const std::vector<Json> all = lines();
  const auto steps = static_cast<std::int64_t>(of_type(all, "step").size());
  ASSERT_EQ(of_type(all, "lost").size(), 1U);
  const auto lost = of_type(all, "lost")[0]["lines"].get<std::int64_t>();
  EXPECT_LE(steps, 100);
  EXPECT_GE(steps + lost, 500);
  EXPECT_LE(steps + lost, 501) << "the one sample may be among them";
  EXPECT_EQ(of_type(all, "rank").size(), 1U);
}

TEST_F(Recorder, AFolderThatCannotBeWrittenIsSaidOnceAndHarmsNobody) {
  std::ofstream(options_.folder) << "a file where the folder should be";
  {
    TelemetryRecorder recorder(options_, activity_);
    recorder.enter(rank(), "n1");
    recorder.committed(step_record(1));
    wait_for([] { return warnings > 0; });
    std::this_thread::sleep_for(milliseconds(100));
    EXPECT_EQ(warnings, 1);
    EXPECT_EQ(activity_.read().telemetry.steps, 1);
    // It can be written again.
    std::filesystem::remove(options_.folder);
    recorder.committed(step_record(2));
    wait_for([&] { return std::filesystem::exists(options_.folder); });
  }
  const std::vector<Json> all = lines();
  ASSERT_GE(all.size(), 4U);
  EXPECT_EQ(all[0]["type"], "worker");
  EXPECT_EQ(all[1]["type"], "rank") << "which was among what was lost";
  EXPECT_EQ(all[2]["type"], "lost");
  EXPECT_GE(all[2].value("lines", 0), 2);
}

// Opening a pipe that nobody reads hangs, as a network filesystem does.
TEST_F(Recorder, AFilesystemThatHangsHoldsUpNobody) {
  std::filesystem::create_directory(options_.folder);
  const std::string path = options_.folder + "/worker-3.jsonl";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  options_.most_records = 100;
  options_.farewell = milliseconds(200);
  const Instant began = steady_clock.now();
  {
    TelemetryRecorder recorder(options_, activity_);
    recorder.enter(rank(), "n1");
    std::this_thread::sleep_for(milliseconds(100));
    for (int step = 1; step <= 1000; ++step) recorder.committed(step_record(step));
    const double before = activity_.read().telemetry.cpu_s;
    wait_for([&] { return activity_.read().telemetry.cpu_s > before; });
    EXPECT_EQ(activity_.read().telemetry.steps, 1000);
  }
  EXPECT_LT(steady_clock.now() - began, seconds(20));
  // It comes back, and lets the thread go that was left behind. (Workers have no SIGPIPE either.)
  std::signal(SIGPIPE, SIG_IGN);
  const UniqueFd reader(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text(1 << 16, ' ');
  ASSERT_GT(::read(reader.get(), text.data(), text.size()), 0);
}

TEST_F(Recorder, NothingIsWrittenOfAWorkerThatNeverWasARank) {
  { TelemetryRecorder recorder(options_, activity_); }
  EXPECT_FALSE(std::filesystem::exists(options_.folder));
}

TEST_F(Recorder, FilesStayWithinTheirBounds) {
  options_.most_file_bytes = 4096;
  options_.sample_interval = seconds(60);
  {
    TelemetryRecorder recorder(options_, activity_);
    recorder.enter(rank(), "n1");
    for (int step = 1; step <= 200; ++step) {
      recorder.committed(step_record(step));
      if (step % 10 == 0) std::this_thread::sleep_for(milliseconds(25));
    }
  }
  for (const char* name : {"/worker-3.jsonl", "/worker-3.old.jsonl"}) {
    EXPECT_LT(std::filesystem::file_size(options_.folder + name), 4096 + 200 * 200);
    const std::vector<Json> all = lines_in(options_.folder + name);
    EXPECT_EQ(all[0]["type"], "worker");
    EXPECT_EQ(all[1]["type"], "rank") << "each file says whose steps these are";
  }
  EXPECT_EQ(of_type(lines(), "step").back()["step"], 200);
}

}  // namespace
}  // namespace paceline
