#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <random>

#include "paceline/base/text.hpp"
#include "paceline/job/journal.hpp"

namespace paceline {
namespace {

JournalHeader some_header() {
  JournalHeader header{.run = "small/r1", .key = 0x0123456789abcdef, .order = {}};
  header.order["kind"] = "lanes";
  header.order["seed"] = std::int64_t{-3};
  return header;
}

JournalStep step_of(std::int64_t step) {
  return {step, 1, 8 * (step - 1), 8, 0xfedcba9876543210U + static_cast<std::uint64_t>(step)};
}

std::string some_text() {
  return journal_line(some_header()) + journal_line(step_of(1)) + journal_line(step_of(2)) +
         journal_line(JournalEpoch{1, 2, 16}) + journal_line(JournalEvaluation{1, 10, 0.5, 0.25}) +
         journal_line(JournalCheckpoint{2, 1, 3, 4096}) +
         journal_line(JournalEnd{"failed", 2, "line one\nline two"});
}

/// What reading says is wrong; empty where nothing is.
std::string error_of(const std::string& text) {
  const Result<Journal> journal = parse_journal(text, "j");
  return journal.ok() ? "" : journal.error().message;
}

std::string fault_of(const std::string& line) {
  const Result<Journal> journal = parse_journal(journal_line(some_header()) + line + "\n", "j");
  if (!journal.ok()) return journal.error().message;
  EXPECT_EQ(journal->fault_count, static_cast<std::int64_t>(journal->faults.size()));
  return journal->faults.empty() ? "" : concat(journal->faults[0].line, ": ", journal->faults[0].what);
}

TEST(JournalReader, GivesBackWhatWasWritten) {
  const Result<Journal> journal = parse_journal(some_text(), "j");
  ASSERT_TRUE(journal.ok()) << journal.error().message;
  EXPECT_EQ(journal->header.run, "small/r1");
  EXPECT_EQ(journal->header.key, 0x0123456789abcdefU);
  EXPECT_EQ(journal->header.order, some_header().order);
  EXPECT_EQ(journal->steps, (std::vector<JournalStep>{step_of(1), step_of(2)}));
  EXPECT_EQ(journal->epochs, (std::vector<JournalEpoch>{{1, 2, 16}}));
  EXPECT_EQ(journal->evaluated, std::vector<std::int64_t>{1});
  EXPECT_EQ(journal->bytes, std::ssize(some_text()));
  EXPECT_EQ(journal->end, (JournalEnd{"failed", 2, "line one\nline two"}));
  EXPECT_FALSE(journal->torn_end);
  EXPECT_EQ(journal->fault_count, 0);
}

TEST(JournalReader, ReadsTheExampleOfItsPage) {
  const std::string page = read_file(PACELINE_DOCS "/journal.md").value();
  const std::size_t begin = page.find("```json\n") + 8;
  const std::string example = page.substr(begin, page.find("```", begin) - begin);
  const Result<Journal> journal = parse_journal(example, "docs/journal.md");
  ASSERT_TRUE(journal.ok()) << journal.error().message;
  EXPECT_EQ(journal->fault_count, 0);
  EXPECT_EQ(journal->steps.size(), 2U);
  ASSERT_TRUE(journal->end.has_value());
  EXPECT_EQ(journal->end->steps, 1175);
  // And the writer writes just that.
  EXPECT_EQ(example,
            journal_line(journal->header) +
                journal_line(JournalGeneration{1, 1, 0, 4, false, "the job begins", 1795353569.281}) +
                journal_line(journal->steps[0]) + journal_line(journal->steps[1]) +
                journal_line(journal->epochs[0]) +
                journal_line(JournalEvaluation{1, 10000, 0.39, 0.858, 1795353581.75}) +
                journal_line(JournalShares{131,
                                           1,
                                           {17, 17, 13, 17},
                                           0.2,
                                           "rank 2 is the slowest; with other shares a step takes "
                                           "32 ms instead of 40 ms: 20% less",
                                           1795353574.402}) +
                journal_line(JournalStraggler{126, 1, 2, 2, "n1", "compute", "slow_compute", 1.5,
                                              1795353572.9, false,
                                              "rank 2 on node n1 computes 1.5 times as long on a grain "
                                              "as the other ranks",
                                              1795353573.85}) +
                journal_line(JournalCheckpoint{235, 1, 4, 824512, 1795353581.9}) +
                journal_line(JournalEnd{"completed", 1175, "", 1795353630.125}));
}

TEST(JournalReader, PassesOverWhatItDoesNotKnow) {
  EXPECT_EQ(fault_of(R"({"type":"something else","ranks":[1,2,{"a":null}]})"), "");
  EXPECT_EQ(fault_of(R"({"type":"epoch","epoch":1,"steps":1,"samples":1,"later":true})"), "");
}

TEST(JournalReader, LeavesATornEndOut) {
  const std::string whole = some_text();
  for (std::size_t cut = journal_line(some_header()).size(); cut < whole.size(); ++cut) {
    const Result<Journal> journal = parse_journal(whole.substr(0, cut), "j");
    ASSERT_TRUE(journal.ok()) << journal.error().message;
    EXPECT_EQ(journal->fault_count, 0) << cut;
    EXPECT_EQ(journal->torn_end, whole[cut - 1] != '\n') << cut;
    EXPECT_EQ(journal->bytes, static_cast<std::int64_t>(whole.rfind('\n', cut - 1)) + 1) << cut;
  }
}

TEST(JournalReader, AnEndIsNoneWhereTheRunWentOn) {
  const Result<Journal> journal = parse_journal(some_text() + journal_line(step_of(3)), "j");
  ASSERT_TRUE(journal.ok());
  EXPECT_FALSE(journal->end.has_value());
}

TEST(JournalReader, RefusesWhatIsNoJournal) {
  const std::string lost =
      "j has no journal's header in its first line: it is not a journal, or its "
      "beginning was lost";
  EXPECT_EQ(error_of(""), lost);
  EXPECT_EQ(error_of("hello"), lost);
  EXPECT_EQ(error_of("\n"), lost);
  EXPECT_EQ(error_of(journal_line(step_of(1))), lost);
  EXPECT_EQ(error_of(std::string(3 << 20, 'x')), lost);
  EXPECT_EQ(error_of(journal_line(some_header()).substr(0, 60)), lost);
  JournalHeader later = some_header();
  later.version = 3;
  EXPECT_EQ(error_of(journal_line(later)), "j is a journal of version 3, and this program reads version 2");
  EXPECT_EQ(error_of(R"({"type":"journal","version":2,"run":"a","term":1,"key":"0x12","order":{}})"
                     "\n"),
            R"(j:1: this is no journal's header: its "key" is not 0x and 16 hexadecimal digits)");
  EXPECT_EQ(error_of(R"({"type":"journal","version":2,"run":"a","term":1,"key":"0x0123456789abcdef"})"
                     "\n"),
            R"(j:1: this is no journal's header: it has no "order")");
  EXPECT_NE(
      error_of(
          R"({"type":"journal","version":2,"run":"a","term":1,"key":"0x0123456789abcdef","order":{"a":[]}})"
          "\n"),
      "");
}

TEST(JournalReader, ALaterTermSaysWhatItGoesOnFrom) {
  JournalHeader header = some_header();
  header.term = 3;
  header.follows = {2, 4711, 12};
  const Result<Journal> journal = parse_journal(journal_line(header) + journal_line(step_of(13)), "j");
  ASSERT_TRUE(journal.ok()) << journal.error().message;
  EXPECT_EQ(journal->header.term, 3);
  EXPECT_EQ(journal->header.follows, header.follows);
  header.follows->term = 3;
  EXPECT_EQ(error_of(journal_line(header)), "j:1: a journal of term 3 cannot follow one of term 3");
  header.follows->bytes = 0;
  EXPECT_EQ(
      error_of(journal_line(header)),
      "j:1: this is no journal's header: of its \"follows\": its \"bytes\" is not a whole number from 1");
  // Of a run whose coordinators had died before they had a journal.
  header.follows.reset();
  EXPECT_EQ(parse_journal(journal_line(header), "j").value().header.follows, std::nullopt);
}

TEST(JournalReader, NamesTheLinesThatAreWrong) {
  const std::string step = R"({"type":"step","step":1,"epoch":1,"first":0,"count":8,"consumed":")";
  EXPECT_EQ(fault_of(step + R"(0x0123456789abcdef"})"), "");
  EXPECT_EQ(fault_of(step + R"(0x0123456789ABCDEF"})"),
            R"(2: its "consumed" is not 0x and 16 hexadecimal digits)");
  EXPECT_EQ(fault_of(step), "2: it is not JSON");
  EXPECT_EQ(fault_of(""), "2: it is not JSON");
  EXPECT_EQ(fault_of("[1]"), "2: it is no JSON object");
  EXPECT_EQ(fault_of("{}"), R"(2: it has no "type")");
  EXPECT_EQ(fault_of(R"({"type":"end","status":"completed"})"), R"(2: it has no "steps")");
  for (const char* number : {"-1", "0.5", "1e3", "\"3\"", "9007199254740993", "99999999999999999999"})
    EXPECT_EQ(fault_of(concat(R"({"type":"end","status":"x","steps":)", number, "}")),
              R"(2: its "steps" is not a whole number from 0)")
        << number;
  EXPECT_EQ(fault_of(R"({"type":"end","status":"\u001b[2J","steps":1})"),
            R"(2: its "status" is not a plain string)");
  EXPECT_EQ(fault_of(std::string(100'000, '[')), "2: it is not JSON");
  EXPECT_EQ(fault_of(std::string(3 << 20, ' ')), "2: it is too long");
  EXPECT_EQ(fault_of(journal_line(some_header())).substr(0, 25), "2: it is a second header:");
}

TEST(JournalReader, KeepsTheFirstFaultsAndCountsAll) {
  std::string text = journal_line(some_header());
  for (int i = 0; i < 1000; ++i) text += "?\n";
  const Result<Journal> journal = parse_journal(text + journal_line(step_of(1)), "j");
  ASSERT_TRUE(journal.ok());
  EXPECT_EQ(journal->faults.size(), 20U);
  EXPECT_EQ(journal->fault_count, 1000);
  EXPECT_EQ(journal->steps.size(), 1U) << "the rest is read";
}

// Bytes from outside: with any bytes changed there is a journal or an error.
TEST(JournalReader, DamagedBytesNeverCrash) {
  const std::string whole = some_text();
  std::mt19937 random(5);
  for (int round = 0; round < 3000; ++round) {
    std::string damaged = whole;
    for (int i = 0; i < 3; ++i) damaged[random() % damaged.size()] = static_cast<char>(random());
    const Result<Journal> journal = parse_journal(damaged, "j");
    EXPECT_TRUE(!journal.ok() || journal->steps.size() <= 5);
  }
}

class JournalFile : public ::testing::Test {
 protected:
  JournalFile() { std::filesystem::remove(path_); }
  ~JournalFile() override { std::filesystem::remove(path_); }
  [[nodiscard]] std::string content() const { return read_file(path_).value(); }
  const std::string path_ =
      std::filesystem::temp_directory_path() / concat("paceline-journal-", ::getpid(), ".jsonl");
  ManualClock clock_;
};

TEST_F(JournalFile, QuickStepsAreWrittenTogetherAndSlowOnesAtOnce) {
  auto writer = JournalWriter::create(path_, clock_, some_header());
  ASSERT_TRUE(writer.ok()) << writer.error().message;
  std::string expected = journal_line(some_header());
  EXPECT_EQ(content(), expected);
  clock_.advance(std::chrono::milliseconds(1));
  ASSERT_TRUE(writer->add(step_of(1)).ok());
  EXPECT_EQ(content(), expected);
  clock_.advance(std::chrono::seconds(1));
  ASSERT_TRUE(writer->add(step_of(2)).ok());
  expected += journal_line(step_of(1)) + journal_line(step_of(2));
  EXPECT_EQ(content(), expected);
  ASSERT_TRUE(writer->add(step_of(3)).ok());
  ASSERT_TRUE(writer->add(JournalEpoch{1, 3, 24}).ok());
  expected += journal_line(step_of(3)) + journal_line(JournalEpoch{1, 3, 24});
  EXPECT_EQ(content(), expected);
  const Result<Journal> journal = read_journal(path_);
  ASSERT_TRUE(journal.ok());
  EXPECT_EQ(journal->steps.size(), 3U);
}

TEST_F(JournalFile, IsNeverWrittenAgain) {
  ASSERT_TRUE(JournalWriter::create(path_, clock_, some_header()).ok());
  const auto second = JournalWriter::create(path_, clock_, some_header());
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, ErrorCode::already_exists);
  EXPECT_NE(second.error().message.find("is there already"), std::string::npos);
  EXPECT_EQ(content(), journal_line(some_header()));
  for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::temp_directory_path()))
    EXPECT_FALSE(entry.path().string().starts_with(path_ + ".")) << entry.path() << " was left";
}

TEST_F(JournalFile, LongOnesAreReadInBlocks) {
  auto writer = JournalWriter::create(path_, clock_, some_header());
  ASSERT_TRUE(writer.ok());
  for (std::int64_t step = 1; step <= 10'000; ++step) ASSERT_TRUE(writer->add(step_of(step)).ok());
  ASSERT_TRUE(writer->flush().ok());
  const Result<Journal> journal = read_journal(path_);
  ASSERT_TRUE(journal.ok());
  EXPECT_EQ(journal->fault_count, 0);
  ASSERT_EQ(journal->steps.size(), 10'000U);
  EXPECT_EQ(journal->steps.back(), step_of(10'000));
}

TEST_F(JournalFile, AMissingOneIsNamed) {
  const Result<Journal> journal = read_journal(path_);
  ASSERT_FALSE(journal.ok());
  EXPECT_EQ(journal.error().code, ErrorCode::not_found);
  EXPECT_NE(journal.error().message.find(path_), std::string::npos);
}

// Each test's run has a folder of its own with journals in it; the last argument are a journal's steps.
class Lineage : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = std::filesystem::temp_directory_path() / "paceline-lineage-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    run_ = name;
    std::filesystem::create_directory(concat(run_, "/", journal_folder));
  }
  void TearDown() override { std::filesystem::remove_all(run_); }

  /// A journal of `term` with these steps; gives its size.
  std::int64_t write(std::int64_t term, std::optional<JournalSeal> follows, std::int64_t first,
                     std::int64_t last, JournalHeader header = some_header()) {
    header.term = term;
    header.follows = follows;
    std::string text = journal_line(header);
    for (std::int64_t step = first; step <= last; ++step) {
      text += journal_line(step_of(step));
      if (step % 4 == 0)
        text += journal_line(JournalEpoch{step / 4, step, 32}) +
                journal_line(JournalEvaluation{step / 4, 1, 1, {}});
    }
    EXPECT_TRUE(write_file_atomically(journal_path(run_, term), text).ok());
    return std::ssize(text);
  }
  void append(std::int64_t term, const std::string& text) {
    const std::string path = journal_path(run_, term);
    EXPECT_TRUE(write_file_atomically(path, read_file(path).value() + text).ok());
  }
  [[nodiscard]] std::vector<std::int64_t> steps() const {
    const Result<Journal> journal = read_lineage(run_);
    std::vector<std::int64_t> numbers;
    if (!journal.ok())
      ADD_FAILURE() << journal.error().message;
    else
      for (const JournalStep& step : journal->steps) numbers.push_back(step.step);
    return numbers;
  }
  [[nodiscard]] std::string error() const {
    const Result<Journal> journal = read_lineage(run_);
    return journal.ok() ? "" : journal.error().message;
  }

  std::string run_;
};

using Numbers = std::vector<std::int64_t>;

TEST_F(Lineage, TheFirstJournalMayBeOfALaterTerm) {
  const std::int64_t bytes = write(2, {}, 1, 5);
  EXPECT_EQ(steps(), (Numbers{1, 2, 3, 4, 5}));
  write(1, {}, 1, 3);  // of the coordinator of term 1, who wakes up
  EXPECT_EQ(steps(), (Numbers{1, 2, 3, 4, 5}));
  write(4, {{2, bytes, 5}}, 6, 7);
  EXPECT_EQ(steps(), (Numbers{1, 2, 3, 4, 5, 6, 7}));
}

TEST_F(Lineage, OneTermIsItsJournal) {
  write(1, {}, 1, 5);
  EXPECT_EQ(steps(), (Numbers{1, 2, 3, 4, 5}));
  const Journal journal = read_lineage(run_).value();
  EXPECT_EQ(journal.terms, (std::vector<JournalTerm>{{1, 5}}));
  EXPECT_EQ(journal.evaluated, Numbers{1});
}

TEST_F(Lineage, ASuccessorGoesOnWhereTheSealIs) {
  const std::int64_t sealed = write(1, {}, 1, 3);
  append(1, journal_line(step_of(4)) + R"({"type":"st)");  // of one that did not know that it was succeeded
  write(2, JournalSeal{1, sealed, 3}, 4, 5);
  EXPECT_EQ(steps(), (Numbers{1, 2, 3, 4, 5}));
  const Journal journal = read_lineage(run_).value();
  EXPECT_EQ(journal.fault_count, 0);
  EXPECT_FALSE(journal.torn_end);
  EXPECT_EQ(journal.header.term, 2);
}

TEST_F(Lineage, AResumedRunLeavesOutWhatCameAfterItsCheckpoint) {
  const std::int64_t first = write(1, {}, 1, 9);
  append(1, journal_line(JournalEnd{"stopped", 9, ""}));
  const std::int64_t second = write(2, JournalSeal{1, first, 6}, 7, 8);
  write(5, JournalSeal{2, second, 3}, 4, 4);  // terms of those that came to nothing are missing
  EXPECT_EQ(steps(), (Numbers{1, 2, 3, 4}));
  const Journal journal = read_lineage(run_).value();
  EXPECT_EQ(journal.terms, (std::vector<JournalTerm>{{1, 3}, {2, 3}, {5, 4}}));
  EXPECT_EQ(journal.epochs, (std::vector<JournalEpoch>{{1, 4, 32}}));
  EXPECT_EQ(journal.evaluated, Numbers{1});
  EXPECT_FALSE(journal.end.has_value()) << "the run went on";
}

TEST_F(Lineage, WhatDoesNotFitTogetherIsAnError) {
  EXPECT_NE(error().find("journal/1.jsonl: No such file"), std::string::npos) << error();
  const std::int64_t sealed = write(1, {}, 1, 3);
  write(2, JournalSeal{1, sealed - 1, 3}, 4, 4);
  EXPECT_NE(error().find(concat("goes on from ", sealed - 1, " bytes of ")), std::string::npos) << error();
  write(2, JournalSeal{1, sealed + 1, 3}, 4, 4);
  EXPECT_NE(error().find(concat("goes on from ", sealed + 1, " bytes of ")), std::string::npos) << error();
  JournalHeader other = some_header();
  other.key = 6;
  write(2, JournalSeal{1, sealed, 3}, 4, 4, other);
  EXPECT_NE(error().find("they are not of the same run"), std::string::npos) << error();
  other = some_header();
  other.order["seed"] = std::int64_t{4};
  write(2, JournalSeal{1, sealed, 3}, 4, 4, other);
  EXPECT_NE(error().find("they are not of the same run"), std::string::npos) << error();
  std::filesystem::rename(journal_path(run_, 1), journal_path(run_, 3));
  EXPECT_NE(error().find("the file was renamed"), std::string::npos) << error();
  std::filesystem::remove(journal_path(run_, 3));
  EXPECT_NE(error().find("journal/1.jsonl: No such file"), std::string::npos) << error();
}

TEST_F(Lineage, ASeamThatLeavesStepsOutIsAFault) {
  const std::int64_t sealed = write(1, {}, 1, 3);
  write(2, JournalSeal{1, sealed, 5}, 6, 6);
  const Journal journal = read_lineage(run_).value();
  ASSERT_EQ(journal.fault_count, 1);
  EXPECT_EQ(journal.faults[0].term, 2);
  EXPECT_EQ(journal.faults[0].what, "it goes on after step 5, and those before end with step 3");
}

TEST_F(Lineage, OtherFilesAreNoJournals) {
  write(1, {}, 1, 2);
  for (const char* name :
       {"02.jsonl", "2.jsonl.new-17-0", "x.jsonl", "0.jsonl", "99999999999999999999.jsonl"})
    ASSERT_TRUE(write_file_atomically(concat(run_, "/", journal_folder, "/", name), "x").ok());
  EXPECT_EQ(newest_term(run_).value(), 1);
  EXPECT_EQ(steps(), (Numbers{1, 2}));
}

}  // namespace
}  // namespace paceline
