// What agents write down of their workers' output, and how it is read while that grows.
#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "logs/choice.hpp"
#include "logs/end.hpp"
#include "logs/line.hpp"
#include "logs/merged.hpp"
#include "logs/reader.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/hash.hpp"
#include "support/temporary_folder.hpp"
#include "worker_output.hpp"

namespace paceline {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using Texts = std::vector<std::string>;

std::string time_at(int second) {
  return log_time(std::chrono::system_clock::time_point(std::chrono::seconds(second)));
}

std::string line_at(int second, std::int64_t rank, const std::string& text) {
  return format_log_line(time_at(second), {rank, rank}, text);
}

// ---- lines

TEST(LogLine, ComesBackAsItWas) {
  const auto time = std::chrono::system_clock::time_point(1795320900s + 123456us);
  EXPECT_EQ(log_time(time), "2026-11-22T04:15:00.123456Z");
  EXPECT_EQ(format_log_line(log_time(time), {3, 3}, "hello"), "2026-11-22T04:15:00.123456Z [rank 3] hello\n");
  for (const LogAuthor& author : {LogAuthor{3, 3}, LogAuthor{7, 3}, LogAuthor{7, {}}})
    for (const char* text : {"", "hello", "] [rank 9] x", "\x1b[31m\xff\t"}) {
      const std::string line = format_log_line(time_at(5), author, text);
      const LogLine expected{time_at(5), author, text};
      EXPECT_EQ(parse_log_line(std::string_view(line).substr(0, line.size() - 1)), expected) << line;
    }
  EXPECT_EQ(log_label({7, 3}), "[rank 3, worker 7]");
  EXPECT_EQ(log_label({7, {}}), "[worker 7]");
}

TEST(LogLine, WhatIsNoneIsTextAlone) {
  for (const char* line : {"", "x", "2026-11-22T04:15:00.123456Z", "2026-11-22T04:15:00.123456Z [rank 3]",
                           "2026-11-22T04:15:00.123456Z [rank x] y", "2026-11-22T04:15:00.12345 [rank 3] y",
                           "2026-11-22T04:15:00.123456Z [rank 3, rank 4] y"})
    EXPECT_EQ(parse_log_line(line), (LogLine{"", std::nullopt, line})) << line;
}

TEST(WithoutControl, LeavesNothingThatATerminalWouldObey) {
  EXPECT_EQ(without_control("a\tb \xc3\xbc \xf0\x9f\x98\x80"), "a\tb \xc3\xbc \xf0\x9f\x98\x80");
  EXPECT_EQ(without_control("\x1b[2J\x1b]0;x\x07"), "?[2J?]0;x?");
  EXPECT_EQ(without_control(std::string("\0\b\x7f", 3)), "???");
  // C1: as a character, and as a byte for terminals that don't know UTF-8. Within a character it is harmless.
  EXPECT_EQ(without_control("\xc2\x9b"
                            "31m"),
            "?31m");
  EXPECT_EQ(without_control("\x9b"
                            "31m"),
            "?31m");
  EXPECT_EQ(without_control("\xc4\x9b"), "\xc4\x9b");
  EXPECT_EQ(without_control("caf\xe9"), "caf\xe9");  // Latin-1
}

Texts cut(const Texts& parts, std::size_t longest = longest_log_line) {
  Texts lines;
  LineCutter cutter(longest);
  const auto keep = [&](std::string_view line) { lines.emplace_back(line); };
  for (const std::string& part : parts) cutter.add(part, keep);
  cutter.end(keep);
  cutter.end(keep);
  return lines;
}

TEST(LineCutter, JoinsWhatWasCut) {
  EXPECT_EQ(cut({"one\ntw", "o\n", "\n", "thr", "ee"}), (Texts{"one", "two", "", "three"}));
  EXPECT_EQ(cut({}), Texts());
  EXPECT_EQ(cut({"a\r\nb\r", "\nc"}), (Texts{"a", "b", "c"}));
}

TEST(LineCutter, EachStateOfAProgressBarIsALine) {
  EXPECT_EQ(cut({"\r 0%", "\r 50%\r100%\n", "done\n"}), (Texts{" 0%", " 50%", "100%", "done"}));
}

TEST(LineCutter, LongLinesArePieces) {
  EXPECT_EQ(cut({"abcdefg\n", "abc\n"}, 3), (Texts{"abc", "def", "g", "abc"}));
  const std::string longer(longest_log_line + 1, 'x');
  EXPECT_EQ(cut({longer + "\n"}), (Texts{longer.substr(1), "x"}));
}

// ---- files

class LogsTest : public testing::Test {
 protected:
  void SetUp() override { fs::create_directories(folder_ / "logs"); }
  std::string in(const std::string& name) const { return folder_ / name; }
  void append(const std::string& name, const std::string& text) const {
    std::ofstream(in("logs/" + name), std::ios::app) << text;
  }
  std::string content(const std::string& name) const { return read_file(in("logs/" + name)).value(); }
  /// All that is there now and was not handed out.
  Texts texts(RunLogs& logs) const {
    EXPECT_TRUE(logs.look().ok());
    return next_texts(logs);
  }
  static Texts next_texts(RunLogs& logs) {
    Texts found;
    while (const std::optional<LogLine> line = logs.next().value()) found.push_back(line->text);
    return found;
  }

  TemporaryFolder folder_;
};

TEST_F(LogsTest, AgentsWriteWholeLinesWithTheRankOfThatMoment) {
  MergedLog log(folder_.path(), 0);
  log.begin();
  log.begin();
  EXPECT_EQ(content("all-0.log"), "");
  MergedLines first(log, 0), second(log, 4);
  first.set_rank(0);
  first.add("from 0\nand");
  second.add("early\n");
  second.set_rank(2);
  second.add("later\n");
  first.add(" more");
  first.end();
  std::vector<LogLine> lines;
  for (const std::string& line : split(content("all-0.log"), '\n'))
    if (!line.empty()) lines.push_back(parse_log_line(line));
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_EQ(lines[0].text, "from 0");
  EXPECT_EQ(lines[1].author, (LogAuthor{4, std::nullopt}));
  EXPECT_EQ(lines[2].author, (LogAuthor{4, 2}));
  EXPECT_EQ(lines[3].text, "and more");
  EXPECT_LE(lines[0].time, lines[3].time);
}

TEST_F(LogsTest, EachAgentHasAFileOfItsOwn) {
  for (int i = 0; i < 3; ++i) MergedLog(folder_.path(), 5).begin();
  for (const char* name : {"logs/all-5.log", "logs/all-5-2.log", "logs/all-5-3.log"})
    EXPECT_TRUE(fs::exists(in(name))) << name;
  EXPECT_TRUE(is_merged_log("all-5-2.log"));
  EXPECT_FALSE(is_merged_log("rank-000.log"));
  EXPECT_FALSE(is_merged_log("all-0.log.1"));
}

TEST_F(LogsTest, AWorkersOutputGoesToBothLogs) {
  MergedLog log(folder_.path(), 0);
  log.begin();
  Result<WorkerOutput> output = WorkerOutput::open(in("logs/rank-001.log"), MergedLines(log, 1));
  ASSERT_TRUE(output.ok());
  output->set_rank(1);
  ASSERT_TRUE(write_all(output->writing_end().get(), "\x1b[1mbold\nrest", "pipe").ok());
  output->copy();
  EXPECT_EQ(content("rank-001.log"), "\x1b[1mbold\nrest");
  EXPECT_NE(content("all-0.log").find(" [rank 1] \x1b[1mbold\n"), std::string::npos);
  EXPECT_EQ(content("all-0.log").find("rest"), std::string::npos);
  output->end();
  EXPECT_NE(content("all-0.log").find(" [rank 1] rest\n"), std::string::npos);
}

TEST_F(LogsTest, AreMergedByTime) {
  append("all-0.log", line_at(1, 0, "a") + line_at(4, 0, "d"));
  append("all-1.log", line_at(2, 1, "b") + line_at(3, 1, "c") + line_at(5, 1, "e"));
  append("rank-000.log", "not this\n");
  RunLogs logs(folder_.path());
  EXPECT_EQ(texts(logs), (Texts{"a", "b", "c", "d", "e"}));
  EXPECT_EQ(texts(logs), Texts());
  ASSERT_TRUE(logs.rewind().ok());
  EXPECT_EQ(next_texts(logs), (Texts{"a", "b", "c", "d", "e"}));
}

TEST_F(LogsTest, TheOrderWithinAFileIsKeptWhateverTheClockDid) {
  append("all-0.log", line_at(5, 0, "first") + "no line of ours\n" + line_at(1, 0, "second"));
  append("all-1.log", line_at(3, 1, "other"));
  RunLogs logs(folder_.path());
  EXPECT_EQ(texts(logs), (Texts{"other", "first", "no line of ours", "second"}));
}

TEST_F(LogsTest, GrowAndGetCompany) {
  RunLogs logs(folder_.path());
  ASSERT_TRUE(logs.look().ok());
  EXPECT_TRUE(logs.empty());
  const std::string line = line_at(1, 0, "one");
  append("all-0.log", line.substr(0, 30));
  EXPECT_EQ(texts(logs), Texts());
  EXPECT_FALSE(logs.empty());
  append("all-0.log", line.substr(30));
  append("all-1.log", line_at(2, 1, "two") + line_at(3, 1, "torn").substr(0, 41));
  EXPECT_EQ(texts(logs), (Texts{"one", "two"}));
  EXPECT_EQ(logs.rest()->text, "torn");
  EXPECT_EQ(logs.rest(), std::nullopt);
}

TEST_F(LogsTest, OnlyWhatWasThereAtTheLookIsRead) {
  append("all-0.log", line_at(1, 0, "one"));
  RunLogs logs(folder_.path());
  ASSERT_TRUE(logs.look().ok());
  append("all-0.log", line_at(2, 0, "two"));
  EXPECT_EQ(next_texts(logs), Texts{"one"});
  EXPECT_EQ(texts(logs), Texts{"two"});
}

TEST_F(LogsTest, MayBeCut) {
  append("all-0.log", line_at(1, 0, "one") + line_at(2, 0, "two"));
  RunLogs logs(folder_.path());
  EXPECT_EQ(texts(logs).size(), 2U);
  fs::resize_file(in("logs/all-0.log"), 0);
  EXPECT_EQ(texts(logs), Texts());
  append("all-0.log", line_at(3, 0, "three"));
  EXPECT_EQ(texts(logs), Texts{"three"});
}

TEST_F(LogsTest, MayBeReplacedOrRemoved) {
  append("all-0.log", line_at(1, 0, "one"));
  RunLogs logs(folder_.path());
  EXPECT_EQ(texts(logs), Texts{"one"});
  fs::rename(in("logs/all-0.log"), in("logs/all-0.log.1"));
  append("all-0.log.1", line_at(2, 0, "two") + line_at(3, 0, "torn").substr(0, 41));
  EXPECT_EQ(texts(logs), Texts{"two"});  // agents still write there
  append("all-0.log", line_at(4, 0, "new"));
  Texts found;
  for (int i = 0; i < 3; ++i)
    for (const std::string& text : texts(logs)) found.push_back(text);
  EXPECT_EQ(found, (Texts{"torn", "new"}));
  fs::remove(in("logs/all-0.log"));
  EXPECT_EQ(texts(logs), Texts());
}

TEST_F(LogsTest, LinesOfAnyLengthAreReadInPieces) {
  append("all-0.log", line_at(1, 0, std::string(longest_log_line, 'x')) + line_at(2, 0, "short"));
  append("all-1.log", std::string(3 * longest_log_line, 'y') + "\n");
  RunLogs logs(folder_.path());
  const Texts found = texts(logs);
  std::size_t foreign = 0;
  for (const std::string& text : found)
    if (text.starts_with('y')) foreign += text.size();
  EXPECT_EQ(foreign, 3 * longest_log_line);
  EXPECT_EQ(found[found.size() - 2], std::string(longest_log_line, 'x'));
  EXPECT_EQ(found.back(), "short");
}

TEST_F(LogsTest, AnyBytesAreReadToTheirEnd) {
  SplitMix64 random(7);
  for (int round = 0; round < 200; ++round) {
    std::string bytes = line_at(1, 0, "one") + line_at(2, 3, "two");
    for (int i = 0; i < 4; ++i)
      bytes[random.below(bytes.size())] = static_cast<char>("\n\0[]rank, 09Z\xff"[random.below(14)]);
    std::ofstream(in("logs/all-0.log"), std::ios::trunc) << bytes;
    RunLogs logs(folder_.path());
    std::size_t lines = texts(logs).size();
    while (logs.rest()) ++lines;
    EXPECT_GE(lines, 1U);
  }
}

// ---- which lines, and for how long

TEST(LineChoice, TheLastOfEachRank) {
  LineChoice choice(std::nullopt, 2);
  const std::vector<LogAuthor> lines = {{0, 0}, {1, 1}, {0, 0}, {7, {}}, {0, 0}, {4, 1}, {1, {}}};
  EXPECT_TRUE(choice.must_count());
  for (const LogAuthor& author : lines) choice.count(author);
  std::vector<bool> wanted;
  for (const LogAuthor& author : lines) wanted.push_back(choice.wants(author));
  EXPECT_EQ(wanted, (std::vector<bool>{false, true, true, true, true, true, true}));
  EXPECT_TRUE(choice.wants({0, 0}));  // what comes later
  EXPECT_TRUE(choice.wants({9, 9}));
}

TEST(LineChoice, OneRankWhoeverHadIt) {
  LineChoice choice(1, 0);
  EXPECT_FALSE(choice.must_count());
  EXPECT_TRUE(choice.wants({1, 1}));
  EXPECT_TRUE(choice.wants({4, 1}));
  EXPECT_FALSE(choice.wants({1, 0}));
  EXPECT_FALSE(choice.wants({1, {}}));
}

TEST_F(LogsTest, TheFirstRankOfAWorkerIsInTheGenerations) {
  fs::create_directories(in("generations"));
  const auto write = [this](int number, const std::vector<int>& workers) {
    std::string members;
    for (const int worker : workers)
      members +=
          concat(members.empty() ? "" : ",", R"({"worker":)", worker, R"(,"node":"n","host":"","port":0})");
    std::ofstream(in(concat("generations/", number, ".json")))
        << R"({"generation":)" << number
        << R"(,"term":1,"base_step":0,"planned":false,"donors":[0],"reason":"","members":[)" << members
        << "]}";
  };
  RankHistory history(folder_.path());
  ASSERT_TRUE(history.read().ok());
  EXPECT_EQ(history.ranks(), 0);
  write(1, {0, 1, 2});
  write(2, {0, 2});
  ASSERT_TRUE(history.read().ok());
  EXPECT_EQ(history.ranks(), 3);
  EXPECT_EQ(history.first_rank(2), 2);
  EXPECT_EQ(history.first_rank(3), std::nullopt);
  write(3, {0, 2, 3});
  ASSERT_TRUE(history.read().ok());
  EXPECT_EQ(history.first_rank(3), 2);
}

TEST_F(LogsTest, ARunHasEndedWhenNobodyHoldsItAndItHasASummary) {
  ManualClock clock;
  std::ofstream(in("job.json")) << "{}";
  std::ofstream(in("lock")) << "process 1\n";
  UniqueFd held(::open(in("lock").c_str(), O_RDWR));
  ASSERT_EQ(::flock(held.get(), LOCK_EX | LOCK_NB), 0);
  RunEnd end(folder_.path(), clock);
  EXPECT_FALSE(end.is_reached());
  std::ofstream(in("summary.json")) << "{}";
  EXPECT_FALSE(end.is_reached());
  held.reset();
  EXPECT_TRUE(end.is_reached());
  EXPECT_TRUE(end.has_summary());
  // One that goes on has written its job anew; its summary is the old one.
  fs::last_write_time(in("summary.json"), fs::last_write_time(in("job.json")) - 1s);
  RunEnd resumed(folder_.path(), clock);
  EXPECT_FALSE(resumed.is_reached());
}

TEST_F(LogsTest, ARunThatWasKilledHasEndedAfterAWhile) {
  ManualClock clock;
  std::ofstream(in("job.json")) << "{}";
  std::ofstream(in("lock")) << "process 1\n";
  RunEnd end(folder_.path(), clock);
  EXPECT_FALSE(end.is_reached());
  clock.advance(9s);
  EXPECT_FALSE(end.is_reached());
  clock.advance(2s);
  EXPECT_TRUE(end.is_reached());
  EXPECT_FALSE(end.has_summary());
}

}  // namespace
}  // namespace paceline
