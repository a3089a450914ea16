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
  const auto journal = read_journal(folder_ / "journal.jsonl");
  ASSERT_TRUE(journal.ok()) << journal.error().message;
  ASSERT_EQ(journal->steps.size(), 10U);
  for (std::size_t i = 0; i < 10; ++i) {
    EXPECT_EQ(journal->steps[i].step, static_cast<std::int64_t>(i) + 1);
    EXPECT_EQ(journal->steps[i].consumed, (i + 1) * 11);
  }
  EXPECT_EQ(journal->epochs, (std::vector<JournalEpoch>{{1, 5, 36}, {2, 10, 36}}));
  EXPECT_EQ(journal->end, (JournalEnd{"completed", 10, ""}));
  const std::string text = read("journal.jsonl");
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
