// The audit on journals in which each fault was planted. The order of an epoch is a rotation of the samples,
// and a sample's checksum its number, so that everything expected is known without the code under test.

#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>

#include "audit.hpp"
#include "audit_report.hpp"
#include "paceline/base/text.hpp"
#include "paceline/data/consumed.hpp"

namespace paceline {
namespace {

constexpr std::int64_t samples = 100;
constexpr std::int64_t batch = 8;
constexpr std::int64_t per_epoch = 13;  // the last one has 4 samples
constexpr std::uint64_t key = 0x5eed;

std::int64_t sample_at(std::int64_t epoch, std::int64_t position) {
  return (position + 10 * epoch) % samples;
}

std::uint64_t checksum(std::int64_t sample) {
  return static_cast<std::uint64_t>(1000 + sample);
}

using Order = std::function<std::int64_t(std::int64_t epoch, std::int64_t position)>;

/// `step` as a run in that order would have written it.
JournalStep committed(std::int64_t step, std::int64_t epoch, std::int64_t first, std::int64_t count,
                      const Order& order = sample_at) {
  ConsumedHash hash(key);
  for (std::int64_t position = first; position < first + count; ++position)
    hash.add(epoch, position, checksum(order(epoch, position)));
  return {step, epoch, first, count, hash.value()};
}

JournalStep right(std::int64_t step) {
  const std::int64_t epoch = (step - 1) / per_epoch + 1;
  const std::int64_t first = (step - 1) % per_epoch * batch;
  return committed(step, epoch, first, std::min(batch, samples - first));
}

/// A run of so many steps, of a job of three epochs, in which nothing is wrong.
Journal run_of(std::int64_t steps) {
  Journal journal;
  journal.header.key = key;
  for (std::int64_t step = 1; step <= steps; ++step) {
    journal.steps.push_back(right(step));
    if (step % per_epoch == 0) journal.epochs.push_back({step / per_epoch, step, samples});
  }
  if (steps == 3 * per_epoch) journal.end = {"completed", steps, ""};
  return journal;
}

AuditReport audited(const Journal& journal, bool with_samples = true, std::int64_t last_epoch = 0) {
  std::vector<std::uint64_t> checksums(samples);
  for (std::int64_t sample = 0; sample < samples; ++sample)
    checksums[static_cast<std::size_t>(sample)] = checksum(sample);
  AuditGround ground;
  ground.samples = samples;
  ground.epochs = 3;
  ground.batch = batch;
  ground.last_epoch = last_epoch;
  if (with_samples) ground.checksums = checksums;
  ground.samples_at = [](std::int64_t epoch, std::int64_t first, std::int64_t count) {
    std::vector<std::int64_t> found;
    for (std::int64_t i = 0; i < count; ++i) found.push_back(sample_at(epoch, first + i));
    return found;
  };
  const Result<AuditReport> report = audit(journal, ground);
  EXPECT_TRUE(report.ok());
  return report.ok() ? *report : AuditReport{};
}

/// "kind: message" of each fault.
std::vector<std::string> faults_of(const Journal& journal) {
  std::vector<std::string> texts;
  const AuditReport report = audited(journal);
  EXPECT_EQ(report.faults.count, static_cast<std::int64_t>(report.faults.list.size()));
  for (const AuditFault& fault : report.faults.list)
    texts.push_back(concat(to_string(fault.kind), ": ", fault.message));
  return texts;
}

using Texts = std::vector<std::string>;

void erase_step(Journal& journal, std::int64_t step) {
  std::erase_if(journal.steps, [&](const JournalStep& one) { return one.step == step; });
}

JournalStep& step_in(Journal& journal, std::int64_t step) {
  return journal.steps[static_cast<std::size_t>(step - 1)];
}

TEST(Audit, ProvesARunInWhichNothingIsWrong) {
  const AuditReport report = audited(run_of(39));
  EXPECT_EQ(report.faults.count, 0);
  EXPECT_EQ(report.epochs, 3);
  EXPECT_EQ(report.steps, 39);
  EXPECT_EQ(report.samples, 300);
  EXPECT_EQ(report.positions, 100);
  EXPECT_TRUE(report.compared);
  EXPECT_FALSE(report.unfinished.has_value());
}

// Three epochs of which the last has 5 of its 13 steps, as the job's `steps: 31` says.
TEST(Audit, ProvesAJobThatEndsWithinAnEpochAndFindsAHoleThere) {
  Journal journal = run_of(31);
  journal.epochs.push_back({3, 31, 5 * batch});
  journal.end = {"completed", 31, ""};
  const AuditReport report = audited(journal, true, 5 * batch);
  EXPECT_EQ(report.faults.count, 0);
  EXPECT_EQ(report.epochs, 3);
  EXPECT_EQ(report.samples, 2 * samples + 5 * batch);
  ASSERT_TRUE(report.cut_short.has_value());
  EXPECT_EQ(report.cut_short->positions, 5 * batch);
  erase_step(journal, 31);
  EXPECT_GT(audited(journal, true, 5 * batch).faults.count, 0) << "its last step is missing";
  EXPECT_GT(audited(journal).faults.count, 0) << "without `steps` the epoch is not finished";
}

TEST(Audit, ChecksWhatThereIsOfAnEpochThatDidNotEnd) {
  const AuditReport report = audited(run_of(13 + 4));
  EXPECT_EQ(report.faults.count, 0);
  EXPECT_EQ(report.epochs, 1);
  ASSERT_TRUE(report.unfinished.has_value());
  EXPECT_EQ(report.unfinished->epoch, 2);
  EXPECT_EQ(report.unfinished->steps, 4);
  EXPECT_EQ(report.unfinished->positions, 32);
  Journal wrong = run_of(13 + 4);
  step_in(wrong, 16).consumed ^= 1;
  EXPECT_EQ(audited(wrong).faults.count, 1);
}

TEST(Audit, AnEpochWithAllItsStepsIsFinishedWhetherItsLineWasWrittenOrNot) {
  Journal journal = run_of(26);
  journal.epochs.pop_back();
  const AuditReport report = audited(journal);
  EXPECT_EQ(report.epochs, 2);
  EXPECT_FALSE(report.unfinished.has_value());
}

TEST(Audit, AJournalWithoutStepsProvesNothingAndHasNoFault) {
  EXPECT_EQ(audited(run_of(0)).faults.count, 0);
  EXPECT_EQ(audited(run_of(0)).epochs, 0);
}

TEST(Audit, FindsAHole) {
  Journal journal = run_of(39);
  erase_step(journal, 3);
  EXPECT_EQ(faults_of(journal),
            Texts{"hole: positions 16 to 23 of epoch 1 were never used: step 3 is missing"});
  erase_step(journal, 4);
  erase_step(journal, 13);
  erase_step(journal, 14);
  EXPECT_EQ(faults_of(journal),
            (Texts{"hole: positions 16 to 31 of epoch 1 were never used: steps 3 to 4 are missing",
                   "hole: positions 96 to 99 of epoch 1 were never used: steps 13 to 14 are missing",
                   "hole: positions 0 to 7 of epoch 2 were never used: steps 13 to 14 are missing"}));
}

TEST(Audit, FindsAHoleBehindNumbersThatWereMadeToFit) {
  Journal journal = run_of(39);
  erase_step(journal, 3);
  for (JournalStep& step : journal.steps)
    if (step.step > 3) --step.step;
  journal.end->steps = 38;
  EXPECT_EQ(faults_of(journal), Texts{"hole: positions 16 to 23 of epoch 1 were never used"});
}

TEST(Audit, FindsALostEnd) {
  Journal journal = run_of(39);
  journal.steps.resize(37);
  EXPECT_EQ(faults_of(journal),
            Texts{"hole: positions 88 to 99 of epoch 3 were never used: steps 38 to 39 are missing"});
  journal.steps.resize(26);
  journal.epochs.resize(2);
  EXPECT_EQ(faults_of(journal), (Texts{"hole: no step of epoch 3 is in the journal",
                                       "hole: steps 27 to 39 are missing from the journal"}));
  journal.end = {"stopped", 28, ""};
  EXPECT_EQ(faults_of(journal), Texts{"hole: steps 27 to 28 are missing from the journal"});
}

TEST(Audit, FindsAStepThatWasCommittedTwice) {
  Journal journal = run_of(39);
  journal.steps.insert(journal.steps.begin() + 5, right(5));
  EXPECT_EQ(faults_of(journal), (Texts{"repeat: step 5 stands in the journal more than once",
                                       "repeat: positions 32 to 39 of epoch 1 were used more than once: by "
                                       "step 5 and by step 5 again"}));
}

TEST(Audit, FindsPositionsThatAnotherStepUsedAgain) {
  Journal journal = run_of(39);
  step_in(journal, 9) = committed(9, 1, 16, 8);  // what step 3 had
  EXPECT_EQ(faults_of(journal),
            (Texts{"repeat: positions 16 to 23 of epoch 1 were used more than once: by step 3 and by step 9",
                   "hole: positions 64 to 71 of epoch 1 were never used"}));
}

TEST(Audit, FindsRangesThatOverlap) {
  Journal journal = run_of(39);
  step_in(journal, 3) = committed(3, 1, 15, 8);
  EXPECT_EQ(faults_of(journal),
            (Texts{"repeat: position 15 of epoch 1 was used more than once: by step 2 and by step 3",
                   "hole: position 23 of epoch 1 was never used"}));
}

TEST(Audit, FindsRangesThatDoNotFit) {
  Journal journal = run_of(39);
  step_in(journal, 13) = committed(13, 1, 96, 8, [](auto, auto) { return 0; });
  EXPECT_EQ(faults_of(journal),
            (Texts{"range: step 13 used positions to 103 of epoch 1, whose last one is 99",
                   "hole: positions 96 to 99 of epoch 1 were never used"}));
  step_in(journal, 13) = right(13);
  step_in(journal, 39).epoch = 4;
  EXPECT_EQ(faults_of(journal), (Texts{"range: step 39 is of epoch 4, but the job has 3",
                                       "hole: positions 96 to 99 of epoch 3 were never used"}));
  // Two steps of other sizes than the batch, which tile the epoch all the same.
  journal = run_of(39);
  step_in(journal, 1) = committed(1, 1, 0, 5);
  step_in(journal, 2) = committed(2, 1, 5, 11);
  EXPECT_EQ(faults_of(journal),
            (Texts{"range: step 1 used 5 positions, from 0 of epoch 1, where the global batch is 8",
                   "range: step 2 used 11 positions, from 5 of epoch 1, where the global batch is 8"}));
}

/// The only fault, of a step that used something else.
void expect_consumed_fault(const Journal& journal, std::int64_t step) {
  const AuditReport report = audited(journal);
  ASSERT_EQ(report.faults.count, 1);
  EXPECT_EQ(report.faults.list[0].kind, AuditFaultKind::consumed);
  EXPECT_EQ(report.faults.list[0].step, step);
  EXPECT_EQ(report.faults.list[0].count, batch);
}

TEST(Audit, FindsASampleThatWasSwappedWithAnother) {
  Journal journal = run_of(39);
  step_in(journal, 20) = committed(20, 2, 48, 8, [](std::int64_t epoch, std::int64_t position) {
    return sample_at(epoch, position == 50 ? 51 : position == 51 ? 50 : position);  // within the step
  });
  expect_consumed_fault(journal, 20);
  EXPECT_EQ(audited(journal).faults.list[0].message,
            concat("step 20 did not use the samples of its positions, 48 to 55 of epoch 2: its hash is ",
                   hex_word(step_in(journal, 20).consumed), ", theirs is ", hex_word(right(20).consumed)));
}

TEST(Audit, FindsASampleThatWasUsedTwiceInTheStep) {
  Journal journal = run_of(39);
  step_in(journal, 20) = committed(20, 2, 48, 8, [](std::int64_t epoch, std::int64_t position) {
    return sample_at(epoch, position == 50 ? 51 : position);
  });
  expect_consumed_fault(journal, 20);
}

TEST(Audit, FindsAnotherEpochsOrder) {
  Journal journal = run_of(39);
  step_in(journal, 20) =
      committed(20, 2, 48, 8, [](std::int64_t, std::int64_t position) { return sample_at(1, position); });
  expect_consumed_fault(journal, 20);
}

TEST(Audit, FindsARankWhoseSamplesDidNotCount) {
  Journal journal = run_of(39);
  step_in(journal, 7).consumed -= committed(7, 1, 48, 4).consumed;
  expect_consumed_fault(journal, 7);
}

TEST(Audit, FindsAChangedByte) {
  Journal journal = run_of(13);
  // Sample 30 has changed since: it stands at position 20 of epoch 1, in step 3.
  std::vector<std::uint64_t> checksums;
  for (std::int64_t sample = 0; sample < samples; ++sample)
    checksums.push_back(sample == 30 ? 7 : checksum(sample));
  AuditGround ground{samples, 3, batch, nullptr, checksums};
  ground.samples_at = [](std::int64_t epoch, std::int64_t first, std::int64_t count) {
    std::vector<std::int64_t> found(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) found[static_cast<std::size_t>(i)] = sample_at(epoch, first + i);
    return found;
  };
  const auto report = audit(journal, ground);
  ASSERT_TRUE(report.ok());
  ASSERT_EQ(report->faults.count, 1);
  EXPECT_EQ(report->faults.list[0].step, 3);
}

TEST(Audit, FindsLinesThatContradictEachOther) {
  Journal journal = run_of(39);
  journal.epochs[1].samples = 99;
  journal.end->steps = 38;
  EXPECT_EQ(faults_of(journal),
            (Texts{"journal: epoch 2 is said to have used 99 samples, where an epoch has 100",
                   "journal: the run is said to have ended after 38 steps, but step 39 is in the journal"}));
  journal = run_of(39);
  std::swap(step_in(journal, 4), step_in(journal, 5));
  EXPECT_EQ(faults_of(journal), Texts{"journal: step 4 stands after step 5"});
  journal = run_of(39);
  erase_step(journal, 20);
  journal.faults = {{1, 22, "it is not JSON"}};
  journal.fault_count = 1;
  EXPECT_EQ(faults_of(journal),
            (Texts{"journal: line 22 of journal/1.jsonl can't be used: it is not JSON",
                   "hole: positions 48 to 55 of epoch 2 were never used: step 20 is missing"}));
}

TEST(Audit, ChecksTheRangesWithoutTheDataset) {
  Journal journal = run_of(39);
  step_in(journal, 4).consumed ^= 1;
  const AuditReport report = audited(journal, false);
  EXPECT_FALSE(report.compared);
  EXPECT_EQ(report.faults.count, 0);
  EXPECT_EQ(report.samples, 300);
}

TEST(Audit, NamesTheFirstFaultsAndCountsAll) {
  Journal journal = run_of(39);
  for (JournalStep& step : journal.steps) step.consumed ^= 1;
  const AuditReport report = audited(journal);
  EXPECT_EQ(report.faults.list.size(), 20U);
  EXPECT_EQ(report.faults.count, 39);
}

// A journal from anywhere: numbers at their limits, nothing in order. It must end, soon and with faults.
TEST(Audit, WildNumbersAreOnlyFaults) {
  constexpr std::int64_t most = std::int64_t{1} << 53;
  Journal journal;
  for (std::int64_t i = 0; i < 20'000; ++i) {
    journal.steps.push_back({most - 2 * i, 1 + i % 5, i % 200, i % 3 == 0 ? most : 1 + i % 300, 1});
    journal.epochs.push_back({most - i, 1, most});
  }
  journal.end = {"completed", most, ""};
  EXPECT_GT(audited(journal).faults.count, 20'000);
}

TEST(AuditReport, SaysWhatIsProvedAndWhatIsNot) {
  AuditResult result{.run = "/runs/a", .report = audited(run_of(39)), .end = "completed"};
  EXPECT_EQ(proof_text(result),
            "proved: 3 epochs, 39 steps, 300 samples; each of the 100 positions of every "
            "epoch was used exactly once, for the sample that belongs there");
  auto json = nlohmann::json::parse(audit_json(result));
  EXPECT_EQ(json["status"], "proved");
  EXPECT_EQ(json["samples"], 300);
  EXPECT_EQ(json["faults"], 0);
  result = {.run = "/runs/a", .report = audited(run_of(17)), .end = "", .torn_end = true};
  EXPECT_EQ(proof_text(result),
            "proved: 1 epoch, 13 steps, 100 samples; each of the 100 positions of every "
            "epoch was used exactly once, for the sample that belongs there\n"
            "epoch 2 has not ended: 4 steps used 32 positions, each once\n"
            "the journal's last line is cut off, and was left out\n"
            "the journal has no end: the run was killed, or is still going on");
  EXPECT_EQ(nlohmann::json::parse(audit_json(result))["unfinished"]["positions"], 32);
  Journal wrong = run_of(39);
  erase_step(wrong, 3);
  result = {.run = "/runs/a", .report = audited(wrong), .end = "completed"};
  EXPECT_EQ(fault_summary(result), "/runs/a: not proved, 1 fault");
  json = nlohmann::json::parse(audit_json(result));
  EXPECT_EQ(json["status"], "not proved");
  EXPECT_EQ(json["first_faults"][0]["kind"], "hole");
  EXPECT_EQ(json["first_faults"][0]["first"], 16);
}

}  // namespace
}  // namespace paceline
