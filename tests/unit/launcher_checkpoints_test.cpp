// The coordinator's side of checkpoints: parts that ranks report, in every order in which they can come, and
// what becomes of them.

#include <gtest/gtest.h>

#include "checkpoints.hpp"
#include "paceline/base/fd.hpp"
#include "support/checkpoints.hpp"

namespace paceline {
namespace {

using checkpoint_testing::expect_ok;
using checkpoint_testing::expect_part;
using checkpoint_testing::make_checkpoint;
using checkpoint_testing::newest_of;
using checkpoint_testing::RunDirectory;
using checkpoint_testing::small_sizes;
using checkpoint_testing::State;

Job small_job() {
  return parse_job(
             "name: t\ndata: {train: a}\nmodel: cnn\nbatch: {global: 8}\nepochs: 9\ncheckpoint: "
             "{every_steps: 2, "
             "keep: 2}\n",
             "t", {})
      .value();
}

class Keeper : public ::testing::Test {
 protected:
  void SetUp() override {
    auto record =
        RunRecord::create(run_.path(), clock_, {.run = "t", .key = 5, .order = {}}, StepPlan(400, 8, 1));
    ASSERT_TRUE(record.ok()) << record.error().message;
    record_.emplace(std::move(*record));
    keeper_.emplace(run_.path(), small_job(), *record_,
                    [this](const std::string& w) { warnings_.push_back(w); });
    form(1, {10, 11});
  }

  void form(std::int64_t generation, const std::vector<WorkerId>& workers) {
    GenerationRecord record;
    record.generation = generation;
    record.term = 1;
    for (const WorkerId worker : workers) record.members.push_back({worker, "n", "h", 1});
    keeper_->on_generation(record);
  }

  /// The run comes to `step`.
  void train_to(std::int64_t step) {
    StepsMessage message;
    for (std::int64_t next = record_->steps() + 1; next <= step; ++next) {
      StepFigures& figures = message.steps.emplace_back();
      figures.step = next;
      figures.epoch = 1;
      figures.first = 8 * (next - 1);
      figures.count = 8;
      figures.consumed = hex_word(1);
    }
    expect_ok(record_->add(message));
  }

  /// What a rank does, and says that it did.
  CheckpointMessage written(std::int64_t step, std::int64_t rank, std::int64_t ranks = 2,
                            std::int64_t generation = 1) {
    const State state(small_sizes, step);
    const auto view = state.view();
    const auto part = write_checkpoint_part(run_.path(), {step, 1, generation}, rank, ranks, view);
    expect_ok(part);
    CheckpointMessage message;
    message.step = step;
    message.generation = generation;
    message.rank = rank;
    message.ranks = ranks;
    message.offset = part->slice.offset;
    message.bytes = part->slice.bytes;
    for (const std::uint64_t checksum : part->checksums) message.checksums += hex_word(checksum).substr(2);
    if (rank == 0) message.layout = state.layout();
    return message;
  }

  /// All ranks of generation 1, from the last to the first.
  void checkpoint(std::int64_t step) {
    train_to(step);
    expect_ok(keeper_->on_part(11, written(step, 1)));
    expect_ok(keeper_->on_part(10, written(step, 0)));
  }

  [[nodiscard]] std::size_t lines_of_journal(const std::string& type) const {
    const std::string text = read_file(journal_path(run_.path(), 1)).value();
    const std::string mark = concat("\"type\":\"", type, "\"");
    std::size_t count = 0;
    for (std::size_t at = text.find(mark); at != std::string::npos; at = text.find(mark, at + 1)) ++count;
    return count;
  }

  using Names = std::set<std::string>;
  RunDirectory run_;
  SteadyClock clock_;
  std::optional<RunRecord> record_;
  std::optional<CheckpointKeeper> keeper_;
  std::vector<std::string> warnings_;
};

TEST_F(Keeper, PublishesWhenAllRanksHaveReported) {
  train_to(4);
  expect_ok(keeper_->on_part(11, written(4, 1)));
  EXPECT_EQ(run_.names(), Names{".step-000000004.term-1.gen-1"});
  expect_ok(keeper_->on_part(10, written(4, 0)));
  EXPECT_EQ(run_.names(), Names{"step-000000004.term-1"});
  EXPECT_EQ(lines_of_journal("checkpoint"), 1U);
  std::vector<std::string> passed_over;
  const auto checkpoint = open_newest_checkpoint(run_.path(), passed_over);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.error().message;
  EXPECT_EQ(checkpoint->manifest.job_fingerprint, job_fingerprint(small_job()));
  EXPECT_EQ(checkpoint->manifest.scalars.at("journal_key"), CheckpointValue(hex_word(5)));
  EXPECT_EQ(checkpoint->manifest.scalars.at("job.batch.global"), CheckpointValue(std::int64_t{8}));
  State read(small_sizes, 0);
  expect_ok(read_state(*checkpoint, read.place()));
  EXPECT_TRUE(read == State(small_sizes, 4));
  EXPECT_TRUE(warnings_.empty());
}

TEST_F(Keeper, RanksThatGoOnUnderAnotherCoordinatorWriteCheckpointsOfItsTerm) {
  checkpoint(4);
  auto second = RunRecord::succeed(run_.path(), clock_, 2, {}, StepPlan(400, 8, 1));
  expect_ok(second);
  record_.emplace(std::move(*second));
  keeper_.emplace(run_.path(), small_job(), *record_,
                  [this](const std::string& w) { warnings_.push_back(w); });
  form(1, {10, 11});
  train_to(8);
  const CheckpointMessage last = written(8, 1), first = written(8, 0);
  const CheckpointMessage next = written(12, 1);  // while that of before is published
  std::ignore = written(12, 1, 2, 0);             // by ranks that are long gone
  expect_ok(keeper_->on_part(11, last));
  expect_ok(keeper_->on_part(10, first));
  EXPECT_EQ(run_.names(),
            (Names{"step-000000004.term-1", "step-000000008.term-2", ".step-000000012.term-1.gen-1"}));
  train_to(12);
  expect_ok(keeper_->on_part(11, next));
  expect_ok(keeper_->on_part(10, written(12, 0)));
  EXPECT_EQ(run_.names(), (Names{"step-000000008.term-2", "step-000000012.term-2"}));
  EXPECT_TRUE(warnings_.empty());
  std::vector<std::string> passed_over;
  const auto newest = open_newest_checkpoint(run_.path(), passed_over);
  EXPECT_EQ(newest.value().manifest.id, (CheckpointId{12, 2, 1}));
}

TEST_F(Keeper, WhatANewerGenerationHasBegunDoesNotEndTheJob) {
  auto second = RunRecord::succeed(run_.path(), clock_, 2, {}, StepPlan(400, 8, 1));
  expect_ok(second);
  record_.emplace(std::move(*second));
  keeper_.emplace(run_.path(), small_job(), *record_,
                  [this](const std::string& w) { warnings_.push_back(w); });
  form(1, {10, 11});
  train_to(4);
  expect_ok(keeper_->on_part(11, written(4, 1)));
  const CheckpointMessage late = written(4, 0);
  const State state(small_sizes, 8);
  const auto view = state.view();
  expect_ok(write_checkpoint_part(run_.path(), {8, 2, 2}, 0, 1, view));  // by generation 2, of this term
  expect_ok(keeper_->on_part(10, late));
  EXPECT_TRUE(run_.names().contains("step-000000004.term-2"));
}

TEST_F(Keeper, KeepsSoManyAsTheJobSays) {
  for (const std::int64_t step : {2, 4, 6, 8}) checkpoint(step);
  EXPECT_EQ(run_.names(), (Names{"step-000000006.term-1", "step-000000008.term-1"}));
}

TEST_F(Keeper, GivesUpWhereARankIsLostThatHasNotReported) {
  train_to(4);
  expect_ok(keeper_->on_part(11, written(4, 1)));
  const CheckpointMessage late = written(4, 0);
  keeper_->on_lost(10);
  EXPECT_EQ(run_.names(), Names{});
  expect_ok(keeper_->on_part(10, late));
  expect_ok(keeper_->on_part(11, late));
  EXPECT_EQ(run_.names(), Names{});
  ASSERT_FALSE(warnings_.empty());
  EXPECT_EQ(warnings_[0], "the checkpoint of step 4 is given up: rank 0 was lost while it wrote its part");
  checkpoint(6);
  EXPECT_EQ(run_.names(), Names{"step-000000006.term-1"});
}

TEST_F(Keeper, SaysNothingOfWhatRanksHaveInHandWhenTheJobIsDone) {
  train_to(4);
  expect_ok(keeper_->on_part(11, written(4, 1)));
  keeper_->on_lost(10, true);
  keeper_->on_lost(11, true);
  EXPECT_EQ(run_.names(), Names{});
  EXPECT_TRUE(warnings_.empty());
}

TEST_F(Keeper, ARankThatIsLostAfterItHasReportedIsNotMissed) {
  train_to(4);
  expect_ok(keeper_->on_part(11, written(4, 1)));
  keeper_->on_lost(11);
  form(2, {10, 12});
  expect_ok(keeper_->on_part(10, written(4, 0)));
  EXPECT_EQ(run_.names(), Names{"step-000000004.term-1"});
}

TEST_F(Keeper, GivesUpWhatARankCouldNotWrite) {
  train_to(4);
  expect_ok(keeper_->on_part(10, written(4, 0)));
  CheckpointMessage failed;
  failed.step = 4;
  failed.generation = failed.rank = 1;
  failed.ranks = 2;
  failed.error = "no space left on device";
  expect_ok(keeper_->on_part(11, failed));
  EXPECT_EQ(run_.names(), Names{});
  ASSERT_EQ(warnings_.size(), 1U);
  EXPECT_EQ(warnings_[0],
            "the checkpoint of step 4 is given up: rank 1 could not write its part: no space left on device");
}

TEST_F(Keeper, ALaterStepOvertakesAnEarlierOne) {
  train_to(8);
  expect_ok(keeper_->on_part(10, written(4, 0)));
  expect_ok(keeper_->on_part(10, written(8, 0)));
  EXPECT_EQ(run_.names(), Names{".step-000000008.term-1.gen-1"});
  const CheckpointMessage late = written(4, 1);
  expect_ok(keeper_->on_part(11, late));
  expect_ok(keeper_->on_part(11, written(8, 1)));
  EXPECT_EQ(run_.names(), Names{"step-000000008.term-1"})
      << "what the late one made is tidied up with the rest";
}

TEST_F(Keeper, TheSameStepOfALaterGenerationIsTheSameState) {
  checkpoint(4);
  form(2, {11, 12});
  expect_ok(keeper_->on_part(11, written(4, 0, 2, 2)));
  expect_ok(keeper_->on_part(12, written(4, 1, 2, 2)));
  EXPECT_EQ(run_.names(), Names{"step-000000004.term-1"});
  EXPECT_TRUE(warnings_.empty());
}

TEST_F(Keeper, WhatIsNoPartOfItsIsLeftAlone) {
  train_to(4);
  expect_ok(keeper_->on_part(10, written(4, 1)));     // it is rank 0
  expect_ok(keeper_->on_part(10, written(4, 0, 3)));  // of 2
  EXPECT_EQ(warnings_.size(), 2U);
  CheckpointMessage unknown = written(4, 0, 2, 7);
  expect_ok(keeper_->on_part(10, unknown));  // of a generation that is not its own
  EXPECT_EQ(newest_of(run_.path()).step, -1);
  CheckpointMessage odd = written(4, 0);
  odd.checksums = "zz";
  expect_ok(keeper_->on_part(10, odd));
  ASSERT_EQ(warnings_.size(), 3U);
  expect_part(warnings_[2], "checksums that are none");
}

TEST_F(Keeper, ACheckpointNeedsTheJournalOfItsSteps) {
  train_to(3);
  expect_ok(keeper_->on_part(10, written(4, 0)));
  expect_ok(keeper_->on_part(11, written(4, 1)));
  EXPECT_EQ(run_.names(), Names{});
  ASSERT_EQ(warnings_.size(), 1U);
  expect_part(warnings_[0], "its ranks have reported steps only up to 3");
}

TEST_F(Keeper, WhoeverWasSucceededLearnsItHere) {
  make_checkpoint(run_.path(), {2, 2, 1});
  train_to(4);
  expect_ok(keeper_->on_part(10, written(4, 0)));
  const Status published = keeper_->on_part(11, written(4, 1));
  ASSERT_FALSE(published.ok());
  EXPECT_EQ(published.error().code, ErrorCode::mismatch);
  EXPECT_EQ(lines_of_journal("checkpoint"), 0U);
}

TEST_F(Keeper, AtTheEndNothingHalfDoneIsLeft) {
  train_to(4);
  expect_ok(keeper_->on_part(10, written(4, 0)));
  keeper_->on_end();
  EXPECT_EQ(run_.names(), Names{});
  EXPECT_TRUE(warnings_.empty());
}

TEST(Checksums, AreReadFromDigits) {
  EXPECT_EQ(parse_checksums(""), std::vector<std::uint64_t>{});
  EXPECT_EQ(parse_checksums("00000000000000010123456789abcdef"),
            (std::vector<std::uint64_t>{1, 0x0123456789abcdef}));
  EXPECT_EQ(parse_checksums("0123"), std::nullopt);
  EXPECT_EQ(parse_checksums("0123456789ABCDEF"), std::nullopt);
}

}  // namespace
}  // namespace paceline
