// What an agent writes down of a run: journal and metrics from what workers report, and generations.

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "generation_file.hpp"
#include "paceline/base/text.hpp"
#include "run_record.hpp"
#include "support/temporary_folder.hpp"

namespace paceline {
namespace {

class Record : public ::testing::Test {
 protected:
  [[nodiscard]] std::string read(const std::string& name) const {
    const Result<std::string> text = read_file(folder_ / name);
    return text.ok() ? *text : text.error().message;
  }
  [[nodiscard]] Result<RunRecord> create() {
    // Two epochs of five steps, the last one short.
    return RunRecord::create(folder_.path(), clock_, {.run = "t", .key = 5, .order = {}}, StepPlan(36, 8, 2));
  }

  SteadyClock clock_;
  TemporaryFolder folder_;
};

StepsMessage steps(std::int64_t first, std::int64_t last) {
  StepsMessage message;
  for (std::int64_t step = first; step <= last; ++step) {
    StepFigures& figures = message.steps.emplace_back();
    figures.step = step;
    figures.epoch = (step - 1) / 5 + 1;
    figures.first = (step - 1) % 5 * 8;
    figures.count = step % 5 == 0 ? 4 : 8;
    figures.consumed = hex_word(static_cast<std::uint64_t>(step) * 11);
    figures.loss = 1.0 / static_cast<double>(step);
  }
  return message;
}

TEST_F(Record, StepsThatAreReportedAgainAreWrittenOnce) {
  auto record = create();
  ASSERT_TRUE(record.ok()) << record.error().message;
  ASSERT_TRUE(record->add(steps(1, 3)).ok());
  ASSERT_TRUE(record->add(steps(2, 6)).ok());  // another rank reports now
  EXPECT_EQ(record->steps(), 6);
  ASSERT_TRUE(record->add(EvalMessage{1, 10, 0.5, 0.75, {}}).ok());
  ASSERT_TRUE(record->add(EvalMessage{1, 10, 0.5, 0.75, {}}).ok());
  ASSERT_TRUE(record->add(steps(5, 10)).ok());
  ASSERT_TRUE(record->end("completed", "").ok());
  const auto journal = read_journal(journal_path(folder_.path(), 1));
  ASSERT_TRUE(journal.ok()) << journal.error().message;
  ASSERT_EQ(journal->steps.size(), 10U);
  for (std::size_t i = 0; i < 10; ++i) {
    EXPECT_EQ(journal->steps[i].step, static_cast<std::int64_t>(i) + 1);
    EXPECT_EQ(journal->steps[i].consumed, (i + 1) * 11);
  }
  EXPECT_EQ(journal->epochs, (std::vector<JournalEpoch>{{1, 5, 36}, {2, 10, 36}}));
  EXPECT_EQ(journal->end, (JournalEnd{"completed", 10, ""}));
  const std::string text = read("journal/1.jsonl");
  EXPECT_EQ(text.find("evaluation"), text.rfind("evaluation"));
  const std::string metrics = read("metrics.jsonl");
  EXPECT_EQ(std::ranges::count(metrics, '\n'), 10);
}

TEST_F(Record, AGapOrNonsenseIsAnError) {
  auto record = create();
  ASSERT_TRUE(record.ok());
  ASSERT_TRUE(record->add(steps(1, 2)).ok());
  EXPECT_EQ(record->add(steps(4, 4)).error().message, "a worker reported step 4 after step 2 of 10");
  StepsMessage odd = steps(3, 3);
  odd.steps[0].consumed = "eleven";
  EXPECT_FALSE(record->add(odd).ok());
  EXPECT_EQ(record->steps(), 2);
  ASSERT_TRUE(record->add(steps(3, 10)).ok());
  EXPECT_FALSE(record->add(steps(11, 11)).ok()) << "the job has no such step";
}

TEST_F(Record, AJournalThatIsThereIsNotWrittenAgain) {
  ASSERT_TRUE(create().ok());
  const auto second = create();
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, ErrorCode::already_exists);
}

const StepPlan plan(36, 8, 2);

/// The numbers of the metrics' lines.
std::vector<std::int64_t> numbers_in(const std::string& metrics) {
  std::vector<std::int64_t> numbers;
  for (std::size_t at = metrics.find("\"step\":"); at != std::string::npos;
       at = metrics.find("\"step\":", at + 1))
    numbers.push_back(std::stoll(metrics.substr(at + 7)));
  return numbers;
}

void append(const std::string& path, const std::string& text) {
  EXPECT_TRUE(write_file_atomically(path, read_file(path).value() + text).ok());
}

TEST_F(Record, ASuccessorKeepsWhatIsThereAndSealsIt) {
  auto first = create();
  ASSERT_TRUE(first.ok());
  ASSERT_TRUE(first->add(steps(1, 6)).ok());
  ASSERT_TRUE(first->add(EvalMessage{1, 10, 0.5, 0.75, {}}).ok());
  ASSERT_TRUE(first->flush().ok());
  append(journal_path(folder_.path(), 1), R"({"type":"step","st)");
  auto second = RunRecord::succeed(folder_.path(), clock_, 2, {}, plan);
  ASSERT_TRUE(second.ok()) << second.error().message;
  EXPECT_EQ(second->steps(), 6);
  EXPECT_EQ(second->key(), 5U);
  // The one before does not know yet, and goes on.
  ASSERT_TRUE(first->add(steps(7, 8)).ok());
  ASSERT_TRUE(first->flush().ok());
  ASSERT_TRUE(second->add(steps(5, 10)).ok());
  ASSERT_TRUE(second->add(EvalMessage{1, 10, 0.5, 0.75, {}}).ok());
  ASSERT_TRUE(second->end("completed", "").ok());
  const auto journal = read_lineage(folder_.path());
  ASSERT_TRUE(journal.ok()) << journal.error().message;
  ASSERT_EQ(journal->steps.size(), 10U);
  EXPECT_EQ(journal->epochs, (std::vector<JournalEpoch>{{1, 5, 36}, {2, 10, 36}}));
  EXPECT_EQ(journal->evaluated, std::vector<std::int64_t>{1}) << "told twice, written once";
  EXPECT_EQ(journal->fault_count, 0);
  EXPECT_EQ(numbers_in(read("metrics.jsonl")), (std::vector<std::int64_t>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}));
}

TEST_F(Record, MetricsThatOnlyTheJournalHadAreWrittenWhenTheyAreToldAgain) {
  auto first = create();
  ASSERT_TRUE(first.ok());
  ASSERT_TRUE(first->add(steps(1, 4)).ok());
  ASSERT_TRUE(first->flush().ok());
  ASSERT_TRUE(first->add(steps(5, 5)).ok());  // an epoch's end, which the journal writes at once
  auto second = RunRecord::succeed(folder_.path(), clock_, 2, {}, plan);
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(second->steps(), 5);
  ASSERT_TRUE(second->add(steps(3, 6)).ok());
  ASSERT_TRUE(second->flush().ok());
  EXPECT_EQ(numbers_in(read("metrics.jsonl")), (std::vector<std::int64_t>{1, 2, 3, 4, 5, 6}));
}

TEST_F(Record, AResumedRunGoesOnFromItsCheckpoint) {
  auto first = create();
  ASSERT_TRUE(first.ok());
  ASSERT_TRUE(first->add(steps(1, 9)).ok());
  ASSERT_TRUE(first->add(EvalMessage{1, 10, 0.5, 0.75, {}}).ok());
  ASSERT_TRUE(first->flush().ok());
  append(folder_ / "metrics.jsonl", R"({"step":1)");
  auto second = RunRecord::succeed(folder_.path(), clock_, 4, 3, plan);
  ASSERT_TRUE(second.ok()) << second.error().message;
  EXPECT_EQ(second->steps(), 3);
  EXPECT_EQ(numbers_in(read("metrics.jsonl")), (std::vector<std::int64_t>{1, 2, 3}));
  EXPECT_EQ(second->add(steps(5, 5)).error().message, "a worker reported step 5 after step 3 of 10");
  ASSERT_TRUE(second->add(steps(4, 10)).ok());
  ASSERT_TRUE(second->add(EvalMessage{1, 10, 0.5, 0.75, {}}).ok());
  ASSERT_TRUE(second->end("completed", "").ok());
  const auto journal = read_lineage(folder_.path());
  ASSERT_TRUE(journal.ok());
  EXPECT_EQ(journal->terms, (std::vector<JournalTerm>{{1, 3}, {4, 10}}));
  EXPECT_EQ(journal->steps.size(), 10U);
  EXPECT_EQ(journal->epochs, (std::vector<JournalEpoch>{{1, 5, 36}, {2, 10, 36}}));
  EXPECT_EQ(journal->evaluated, std::vector<std::int64_t>{1});
  EXPECT_EQ(numbers_in(read("metrics.jsonl")).size(), 10U);
}

TEST_F(Record, WhoeverIsSlowerToSucceedIsRefused) {
  auto first = create();
  ASSERT_TRUE(first.ok());
  ASSERT_TRUE(first->add(steps(1, 2)).ok());
  ASSERT_TRUE(first->flush().ok());
  ASSERT_TRUE(RunRecord::succeed(folder_.path(), clock_, 3, {}, plan).ok());
  for (const std::int64_t term : {3, 2, 1}) {
    const auto late = RunRecord::succeed(folder_.path(), clock_, term, {}, plan);
    ASSERT_FALSE(late.ok()) << term;
    EXPECT_EQ(late.error().code, ErrorCode::already_exists);
  }
  const auto beyond = RunRecord::succeed(folder_.path(), clock_, 4, 7, plan);
  ASSERT_FALSE(beyond.ok());
  EXPECT_EQ(beyond.error().code, ErrorCode::mismatch);
  EXPECT_NE(beyond.error().message.find("end with step 2, so the run cannot go on from step 7"),
            std::string::npos);
  EXPECT_EQ(newest_term(folder_.path()).value(), 3) << "it left a journal";
}

GenerationRecord generation(std::int64_t number) {
  GenerationRecord record;
  record.generation = number;
  record.term = 3;
  record.base_step = 41;
  record.members = {{4, "n1", "127.0.0.1", 40123}, {7, "n\"2", "10.0.0.2", 1}};
  record.donors = {0};
  record.reason = "since worker 2 was lost";
  return record;
}

using Outcome = RecordWritten::Result;

TEST_F(Record, AGenerationIsWrittenOnceAndOurOwnIsRecognised) {
  const RecordWritten written = write_generation(folder_.path(), generation(2));
  EXPECT_EQ(written.result, Outcome::written) << written.why;
  EXPECT_EQ(written.generation, 2);
  EXPECT_EQ(read("generations/2.json"), generation_json(generation(2)));
  // The answer was lost, and it is tried again.
  EXPECT_EQ(write_generation(folder_.path(), generation(2)).result, Outcome::written);
  // Somebody else's is left as it is.
  GenerationRecord other = generation(2);
  other.term = 4;
  EXPECT_EQ(write_generation(folder_.path(), other).result, Outcome::exists);
  EXPECT_EQ(read("generations/2.json"), generation_json(generation(2)));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_ / "generations"), {}), 1)
      << "something was left beside it";
}

TEST_F(Record, AGenerationThatCannotBeWrittenSaysWhy) {
  std::filesystem::remove_all(folder_.path());
  const RecordWritten failed = write_generation(folder_.path(), generation(2));
  EXPECT_EQ(failed.result, Outcome::failed);
  EXPECT_NE(failed.why.find("generations: No such file or directory"), std::string::npos) << failed.why;
}

}  // namespace
}  // namespace paceline
