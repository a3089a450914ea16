// Who is slow, in which part of the step, and since when: against simulated jobs with fixed seeds, and
// against reports made by hand; docs/stragglers.md.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>
#include <random>
#include <string>

#include "paceline/base/text.hpp"
#include "paceline/sched/straggler_detector.hpp"
#include "support/straggler_simulation.hpp"

namespace paceline {
namespace {

using testing::ObservedEvent;
using testing::PlantedFault;
using testing::simulate;
using testing::SimulatedJob;
using testing::SimulationResult;
using Kind = StragglerEvent::Kind;
using What = PlantedFault::What;

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

std::string told(const std::vector<ObservedEvent>& events) {
  std::string text;
  for (const ObservedEvent& observed : events)
    text += concat(observed.at_s, " s: ", observed.event.sentence, "\n");
  return text;
}

// ---- sums of evidence ------------------------------------------------------------------------------

TEST(DeviationSum, OneValueIsNeverEnoughAndSomeAre) {
  const DeviationRule rule{0, 0.4, 8, 3, 0.5};
  DeviationSum sum;
  sum.observe(rule, 1e6, 0.1, 10);
  EXPECT_FALSE(sum.complete(rule, 20));
  sum.observe(rule, 1e6, 0.1, 10.1);
  EXPECT_FALSE(sum.complete(rule, 20));
  sum.observe(rule, 1e6, 0.1, 10.2);
  EXPECT_TRUE(sum.complete(rule, 20));
  EXPECT_FALSE(sum.complete(rule, 10.4)) << "for half a second only";
  EXPECT_EQ(sum.run(), 3U);
  EXPECT_EQ(sum.since_s(), 10);
}

TEST(DeviationSum, AddsTheLogarithmOfTheLikelihoodRatio) {
  const DeviationRule rule{0.1, 0.3, 1000, 1, 0};
  DeviationSum sum;
  sum.observe(rule, 0.5, 0.2, 0);
  const auto log_density = [](double x, double mean) { return -(x - mean) * (x - mean) / (2 * 0.2 * 0.2); };
  EXPECT_NEAR(sum.sum(), log_density(0.5, 0.3) - log_density(0.5, 0.1), 1e-12);
}

TEST(DeviationSum, StaysBetweenNoneAndItsLimit) {
  const DeviationRule rule{0, 0.4, 8, 3, 0};
  DeviationSum sum;
  for (int i = 0; i < 100; ++i) sum.observe(rule, -5, 0.1, i);
  EXPECT_EQ(sum.sum(), 0);
  EXPECT_EQ(sum.run(), 0U);
  for (int i = 0; i < 100; ++i) sum.observe(rule, 5, 0.1, 100 + i);
  EXPECT_EQ(sum.sum(), 8);
  EXPECT_EQ(sum.since_s(), 100);
  for (int i = 0; i < 3; ++i) sum.observe(rule, -5, 0.1, 200 + i);
  EXPECT_EQ(sum.sum(), 0) << "an end is seen as soon as a beginning";
}

// ---- sums to steps ---------------------------------------------------------------------------------

MeasuredSums sums_after(std::int64_t steps, double compute_s = 0.1) {
  MeasuredSums sums;
  const auto count = static_cast<double>(steps);
  sums.steps = steps;
  sums.grains = 16 * steps;
  sums.forward_s = count * compute_s / 4;
  sums.backward_s = count * compute_s * 3 / 4;
  sums.optimizer_s = count * 0.01;
  sums.data_s = count * 0.005;
  sums.reduce_s = count * 0.02;
  sums.cpu_s = count * (compute_s + 0.01);
  return sums;
}

TEST(SumsIntake, GivesWhatHappenedBetweenTwoHeartbeats) {
  SumsIntake intake;
  EXPECT_FALSE(intake.take(sums_after(10), 1).has_value());
  const auto steps = intake.take(sums_after(14), 1.5);
  ASSERT_TRUE(steps.has_value());
  EXPECT_EQ(steps->steps, 4);
  EXPECT_EQ(steps->grains, 64);
  EXPECT_NEAR(steps->compute_s, 0.4, 1e-12);
  EXPECT_NEAR(steps->own_s(), 0.4 + 0.04 + 0.02, 1e-12);
  EXPECT_NEAR(steps->all_s(), steps->own_s() + 0.08, 1e-12);
  EXPECT_EQ(steps->began_s, 1);
  EXPECT_EQ(steps->ended_s, 1.5);
  EXPECT_FALSE(intake.take(sums_after(14), 1.6).has_value()) << "no step since";
}

TEST(SumsIntake, LosesNothingWhenHeartbeatsAreLostLateOrTwice) {
  SumsIntake intake;
  EXPECT_FALSE(intake.take(sums_after(10), 1).has_value());
  ASSERT_TRUE(intake.take(sums_after(20), 2).has_value());
  EXPECT_FALSE(intake.take(sums_after(15), 2.1).has_value()) << "late";
  const auto steps = intake.take(sums_after(30), 3);
  ASSERT_TRUE(steps.has_value());
  EXPECT_EQ(steps->steps, 10) << "since the newest that was known";
}

TEST(SumsIntake, TakesSumsThatStayLowerForANewBeginning) {
  SumsIntake intake;
  EXPECT_FALSE(intake.take(sums_after(1000), 1).has_value());
  EXPECT_FALSE(intake.take(sums_after(0), 2).has_value());
  EXPECT_FALSE(intake.take(sums_after(0), 2.1).has_value());
  const auto steps = intake.take(sums_after(3), 2.5);
  ASSERT_TRUE(steps.has_value());
  EXPECT_EQ(steps->steps, 3);
}

TEST(SumsIntake, LeavesOutWhatMakesNoSenseAndKeepsTheRest) {
  SumsIntake intake;
  EXPECT_FALSE(intake.take(sums_after(10), 1).has_value());
  MeasuredSums broken = sums_after(20);
  broken.data_s = nan;
  broken.optimizer_s = -1;
  broken.wire_busy_s = std::numeric_limits<double>::infinity();
  const auto steps = intake.take(broken, 2);
  ASSERT_TRUE(steps.has_value());
  EXPECT_TRUE(std::isnan(steps->data_s));
  EXPECT_TRUE(std::isnan(steps->optimizer_s));
  EXPECT_TRUE(std::isnan(steps->wire_busy_s));
  EXPECT_NEAR(steps->compute_s, 1, 1e-12);
  EXPECT_NEAR(steps->own_s(), 1, 1e-12);
}

TEST(SumsIntake, SkipsWhatAGenerationCutsThrough) {
  SumsIntake intake;
  EXPECT_FALSE(intake.take(sums_after(10), 1).has_value());
  intake.skip();
  EXPECT_FALSE(intake.take(sums_after(12), 2).has_value());
  const auto steps = intake.take(sums_after(15), 3);
  ASSERT_TRUE(steps.has_value());
  EXPECT_EQ(steps->steps, 3);
}

// ---- planted faults --------------------------------------------------------------------------------

struct Planted {
  const char* name;
  PlantedFault fault;
  StepPart part;
  StragglerCause cause;
  double within_s = 2;
};

void PrintTo(const Planted& planted, std::ostream* out) {
  *out << planted.name;
}

class PlantedFaults : public ::testing::TestWithParam<Planted> {};

constexpr double from_s = 20.07, until_s = 35;

void expect_named(const Planted& planted, int ranks, double step_s, std::uint64_t seed) {
  SCOPED_TRACE(concat(ranks, " ranks, ", 1e3 * step_s, " ms, seed ", seed));
  SimulatedJob job;
  job.ranks = ranks;
  job.step_s = step_s;
  job.noise = 0.05;
  job.seconds = 60;
  job.seed = seed;
  job.faults = {planted.fault};
  job.faults[0].from_s = from_s;
  job.faults[0].until_s = until_s;
  const SimulationResult result = simulate(job);
  const std::vector<ObservedEvent> began = result.began();
  ASSERT_EQ(began.size(), 1U) << told(result.events);
  const StragglerEvent& event = began[0].event;
  EXPECT_EQ(event.part, planted.part);
  EXPECT_EQ(event.cause, planted.cause) << event.sentence;
  ASSERT_EQ(event.suspect.has_value(), planted.fault.rank >= 0) << event.sentence;
  if (event.suspect) {
    EXPECT_EQ(event.suspect->rank, planted.fault.rank);
    EXPECT_EQ(event.suspect->node, "n1");
  }
  EXPECT_LE(began[0].at_s - from_s, planted.within_s) << event.sentence;
  const double since_s = to_seconds(event.since.time_since_epoch()) - 1000;
  EXPECT_NEAR(since_s, from_s, 0.15 + 4 * step_s) << event.sentence;
  EXPECT_GT(event.lost_s_per_step, 0);
  ASSERT_EQ(result.events.size(), 2U) << told(result.events);
  EXPECT_EQ(result.events[1].event.kind, Kind::ended);
  EXPECT_GT(result.events[1].at_s, until_s);
}

TEST_P(PlantedFaults, AreNamedWithTheirCauseInTimeAndNothingElse) {
  for (const int ranks : {2, 4, 16})
    for (const double step_s : {0.02, 0.2}) expect_named(GetParam(), ranks, step_s, 1);
}

INSTANTIATE_TEST_SUITE_P(
    All, PlantedFaults,
    ::testing::Values(
        Planted{"slow_rank", {What::slow_compute, 1, 1.5}, StepPart::compute, StragglerCause::slow_compute},
        Planted{"very_slow_rank",
                {What::slow_compute, 1, 3},
                StepPart::compute,
                StragglerCause::slow_compute,
                2.5},
        Planted{"starved_rank", {What::starved, 1, 2}, StepPart::compute, StragglerCause::starved},
        Planted{"slow_read", {What::slow_read, 1, 0.3}, StepPart::data, StragglerCause::slow_read},
        Planted{"slow_optimizer",
                {What::slow_optimizer, 1, 2},
                StepPart::optimizer,
                StragglerCause::slow_optimizer},
        Planted{"slow_wire", {What::slow_sending, 1, 4}, StepPart::wire, StragglerCause::slow_wire, 2.5},
        Planted{
            "slow_filesystem", {What::slow_read, -1, 0.5}, StepPart::data, StragglerCause::slow_read, 2.5},
        Planted{
            "all_slower", {What::slow_compute, -1, 1.5}, StepPart::compute, StragglerCause::slow_compute, 11},
        Planted{"all_starved", {What::starved, -1, 2}, StepPart::compute, StragglerCause::starved, 11},
        Planted{"slow_network", {What::slow_sending, -1, 4}, StepPart::wire, StragglerCause::slow_wire, 4}),
    [](const auto& planted) { return std::string(planted.param.name); });

TEST(StragglerDetector, FindsASmallDeviationThatLasts) {
  SimulatedJob job;
  job.seconds = 120;
  job.faults = {{What::slow_compute, 2, 1.2, 30, 1e9}};
  const std::vector<ObservedEvent> began = simulate(job).began();
  ASSERT_EQ(began.size(), 1U) << told(began);
  EXPECT_EQ(began[0].event.suspect->rank, 2);
  EXPECT_NEAR(began[0].event.ratio, 1.2, 0.12);
  EXPECT_LE(began[0].at_s, 50);
}

TEST(StragglerDetector, FindsARankThatWasAlwaysSlow) {
  for (const int ranks : {2, 3, 8}) {
    SimulatedJob job;
    job.ranks = ranks;
    job.noise = 0.05;
    job.seconds = 60;
    job.faults = {{What::slow_compute, 1, 1.5, 0, 1e9}};
    const std::vector<ObservedEvent> began = simulate(job).began();
    ASSERT_EQ(began.size(), 1U) << ranks << " ranks: " << told(began);
    EXPECT_EQ(began[0].event.suspect->rank, 1);
    EXPECT_LE(began[0].at_s, 15);
  }
}

TEST(StragglerDetector, FindsSlowStepsOfTwentySecondsAndOfTwoMilliseconds) {
  for (const double step_s : {20.0, 0.002}) {
    SimulatedJob job;
    job.step_s = step_s;
    job.noise = 0.05;
    job.seconds = step_s > 1 ? 2400 : 25;
    const double at_s = step_s > 1 ? 1500 : 20;
    job.faults = {{What::slow_compute, 1, 2, at_s, 1e9}};
    const std::vector<ObservedEvent> began = simulate(job).began();
    ASSERT_EQ(began.size(), 1U) << told(began);
    EXPECT_EQ(began[0].event.suspect->rank, 1);
    EXPECT_LE(began[0].at_s - at_s, 2 + 7 * step_s);
  }
}

TEST(StragglerDetector, TellsApartTwoThatAreSlowInDifferentParts) {
  SimulatedJob job;
  job.noise = 0.05;
  job.seconds = 40;
  job.faults = {{What::slow_compute, 1, 2, 20, 1e9}, {What::slow_read, 3, 0.5, 25, 1e9}};
  const std::vector<ObservedEvent> began = simulate(job).began();
  ASSERT_EQ(began.size(), 2U) << told(began);
  EXPECT_EQ(began[0].event.suspect->rank, 1);
  EXPECT_EQ(began[0].event.part, StepPart::compute);
  EXPECT_EQ(began[1].event.suspect->rank, 3);
  EXPECT_EQ(began[1].event.part, StepPart::data);
}

TEST(StragglerDetector, BlamesTheNodeThatSlowWiresHaveInCommon) {
  for (const int per_node : {1, 2}) {
    SimulatedJob job;
    job.ranks = 4 * per_node;
    job.ranks_per_node = per_node;
    job.noise = 0.05;
    job.seconds = 40;
    job.faults = {{What::slow_network, per_node, 4, 20, 1e9}};
    const std::vector<ObservedEvent> began = simulate(job).began();
    ASSERT_EQ(began.size(), 1U) << told(began);
    EXPECT_EQ(began[0].event.suspect->node, "n1");
    EXPECT_EQ(began[0].event.slow_pairs, 2);
    EXPECT_NE(began[0].event.sentence.find("the network of n1 is slow"), std::string::npos)
        << began[0].event.sentence;
  }
}

TEST(StragglerDetector, SaysThatOneSlowWireHasTwoEnds) {
  SimulatedJob job;
  job.noise = 0.05;
  job.seconds = 40;
  job.faults = {{What::slow_receiving, 2, 4, 20, 1e9}};
  const std::vector<ObservedEvent> began = simulate(job).began();
  ASSERT_EQ(began.size(), 1U) << told(began);
  EXPECT_EQ(began[0].event.pair->from_rank, 1);
  EXPECT_EQ(began[0].event.pair->to_rank, 2);
  EXPECT_EQ(began[0].event.slow_pairs, 1);
  EXPECT_NE(began[0].event.sentence.find("or that of whom it sends to"), std::string::npos);
}

TEST(StragglerDetector, BlamesTheNodeThatAllSendToSlowly) {
  for (const int ranks : {3, 4, 8})
    for (const std::uint64_t seed : {1, 2, 3, 4, 5}) {
      SCOPED_TRACE(concat(ranks, " ranks, seed ", seed));
      SimulatedJob job;
      job.ranks = ranks;
      job.noise = 0.05;
      job.seconds = 50;
      job.seed = seed;
      job.sends_to_all = true;
      job.faults = {{What::slow_network, 1, 10, 20, 35}};
      const SimulationResult result = simulate(job);
      const std::vector<ObservedEvent> began = result.began();
      ASSERT_EQ(began.size(), 1U) << told(result.events);
      ASSERT_TRUE(began[0].event.suspect.has_value()) << began[0].event.sentence;
      EXPECT_EQ(began[0].event.suspect->node, "n1") << began[0].event.sentence;
      EXPECT_NE(began[0].event.sentence.find("the network of n1 is slow"), std::string::npos)
          << began[0].event.sentence;
      EXPECT_LE(began[0].at_s, 22);
      EXPECT_EQ(result.events.size(), 2U) << told(result.events);
    }
}

TEST(StragglerDetector, BlamesTheNodeForWhichOthersInTheRingWait) {
  for (const std::uint64_t seed : {1, 2, 3, 4, 5}) {
    SCOPED_TRACE(concat("seed ", seed));
    SimulatedJob job;
    job.ranks = 3;
    job.noise = 0.05;
    job.seconds = 50;
    job.seed = seed;
    job.faults = {{What::slow_network, 1, 8, 20, 35}, {What::slow_sending, 2, 2, 20, 35}};
    const std::vector<ObservedEvent> began = simulate(job).began();
    ASSERT_EQ(began.size(), 1U) << told(began);
    ASSERT_TRUE(began[0].event.suspect.has_value()) << began[0].event.sentence;
    EXPECT_EQ(began[0].event.suspect->node, "n1") << began[0].event.sentence;
    EXPECT_LE(began[0].at_s, 22);
  }
}

TEST(StragglerDetector, BlamesNoNodeForANetworkThatIsSlow) {
  for (const int ranks : {2, 3, 4, 8})
    for (const std::uint64_t seed : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}) {
      SCOPED_TRACE(concat(ranks, " ranks, seed ", seed));
      SimulatedJob job;
      job.ranks = ranks;
      job.noise = 0.05;
      job.seconds = 30;
      job.seed = seed;
      job.sends_to_all = seed % 2 == 0;
      job.faults = {{What::slow_network, -1, 5, 20, 1e9}};
      const std::vector<ObservedEvent> began = simulate(job).began();
      ASSERT_EQ(began.size(), 1U) << told(began);
      EXPECT_FALSE(began[0].event.suspect.has_value()) << began[0].event.sentence;
    }
}

TEST(StragglerDetector, DoesNotFlapWhereItCouldGoEitherWay) {
  for (const double factor : {1.12, 1.15, 1.25, 1.3}) {
    SimulatedJob job;
    job.seconds = 600;
    job.faults = {{What::slow_compute, 1, factor, 20, 1e9}};
    EXPECT_LE(simulate(job).began().size(), 2U) << factor;
  }
}

// ---- clean runs ------------------------------------------------------------------------------------

void expect_silence(int ranks, int per_node, double step_s, bool broken_sensors) {
  SimulatedJob job;
  job.ranks = ranks;
  job.ranks_per_node = per_node;
  job.step_s = step_s;
  job.seconds = 1800;
  job.life = true;
  job.broken_sensors = broken_sensors;
  job.seed = 7;
  const SimulationResult result = simulate(job);
  EXPECT_TRUE(result.events.empty()) << told(result.events);
  if (!broken_sensors) return;
  const auto says = [&](std::int64_t rank, const char* what) {
    return std::any_of(result.unusable.begin(), result.unusable.end(), [&](const UnusableRank& unusable) {
      return unusable.who.rank == rank && unusable.why.find(what) != std::string::npos;
    });
  };
  EXPECT_TRUE(says(ranks - 1, "not a number"));
  EXPECT_TRUE(says(ranks / 2, "no step") || ranks <= 4);
}

TEST(StragglerDetector, SaysNothingInHalfAnHourOf2Ranks) {
  expect_silence(2, 1, 0.02, false);
  expect_silence(2, 2, 0.2, true);
}
TEST(StragglerDetector, SaysNothingInHalfAnHourOf4Ranks) {
  expect_silence(4, 1, 0.02, true);
  expect_silence(4, 2, 0.2, false);
}
TEST(StragglerDetector, SaysNothingInHalfAnHourOf16Ranks) {
  expect_silence(16, 1, 0.2, true);
  expect_silence(16, 4, 0.2, false);
}
TEST(StragglerDetector, SaysNothingInHalfAnHourOf64Ranks) {
  expect_silence(64, 8, 0.2, true);
}

/// Nobody is to blame for what passes by itself, and nobody can do anything about it.
TEST(StragglerDetector, SaysNothingOfSecondsInWhichTheMachineIsSlower) {
  SimulatedJob job;
  job.ranks = job.ranks_per_node = 2;
  job.noise = 0.05;
  job.seconds = 1800;
  job.life = job.gusts = true;
  StragglerRules nervous;
  nervous.common_time.least_s = nervous.sudden_time.least_s = 0.5;
  for (const double step_s : {0.02, 0.2}) {
    job.step_s = step_s;
    const std::vector<ObservedEvent> began = simulate(job).began();
    EXPECT_TRUE(began.empty()) << told(began);
    EXPECT_GE(simulate(job, nervous).began().size(), 10U) << "there was something to keep silent about";
  }
}

// ---- by hand ---------------------------------------------------------------------------------------

/// Ranks that do as they are told: a step of 0.1 s of computing in each tenth of a second, or what is set.
struct Ranks {
  explicit Ranks(int count) {
    for (int i = 0; i < count; ++i) {
      RankReport report;
      report.worker = 100 + i;
      report.rank = i;
      report.node = concat("n", i);
      report.share = 16;
      reports.push_back(report);
      compute_s.push_back(0.1);
      data_s.push_back(0.002);
    }
  }

  std::vector<StragglerEvent> run(double seconds) {
    std::vector<StragglerEvent> events;
    for (int tick = 0; tick < static_cast<int>(10 * seconds + 0.5); ++tick) {
      now += std::chrono::milliseconds(100);
      for (std::size_t i = 0; i < reports.size(); ++i) step(i);
      for (StragglerEvent& event : detector.observe(now, generation, reports))
        events.push_back(std::move(event));
    }
    return events;
  }

  void step(std::size_t i) {
    MeasuredSums& sums = reports[i].sums;
    const double slowest_s = *std::max_element(compute_s.begin(), compute_s.end()) +
                             *std::max_element(data_s.begin(), data_s.end());
    const double wobble = 1 + 0.02 * std::sin(static_cast<double>(ticks++) * 1.7);
    reports[i].heard = now;
    sums.steps += 1;
    sums.grains += reports[i].share;
    sums.forward_s += compute_s[i] * wobble / 3;
    sums.backward_s += compute_s[i] * wobble * 2 / 3;
    sums.reduce_s += slowest_s - compute_s[i] - data_s[i] + 0.01;
    sums.commit_s += 0.001;
    sums.data_s += data_s[i];
    sums.optimizer_s += 0.005;
    sums.cpu_s += 0.1;
  }

  StragglerDetector detector;
  std::vector<RankReport> reports;
  std::vector<double> compute_s, data_s;
  std::int64_t generation = 1, ticks = 0;
  Instant now = Instant{} + std::chrono::hours(1);
};

TEST(StragglerDetector, SaysInASentenceWhoWhatAndSinceWhen) {
  Ranks ranks(4);
  EXPECT_TRUE(ranks.run(20).empty());
  ranks.compute_s[2] = 0.2;
  const Instant slow_from = ranks.now;
  const auto events = ranks.run(2);
  ASSERT_EQ(events.size(), 1U);
  const StragglerEvent& event = events[0];
  EXPECT_EQ(event.kind, Kind::began);
  EXPECT_EQ(event.suspect, (StragglerSuspect{102, 2, "n2"}));
  EXPECT_NEAR(event.ratio, 2, 0.1);
  EXPECT_NEAR(event.lost_s_per_step, 0.1, 0.01);
  EXPECT_EQ(event.since, slow_from);
  ASSERT_EQ(ranks.detector.active().size(), 1U);
  EXPECT_EQ(ranks.detector.active()[0].sentence, event.sentence);
}

TEST(StragglerDetector, SaysWhatTheDocumentSaysThatItDoes) {
  std::ifstream file(PACELINE_DOCS "/stragglers.md");
  const std::string document{std::istreambuf_iterator<char>(file), {}};
  ASSERT_FALSE(document.empty());
  const auto expect_in_document = [&](const std::vector<StragglerEvent>& events) {
    ASSERT_EQ(events.size(), 1U);
    EXPECT_NE(document.find("    " + events[0].sentence + "\n"), std::string::npos) << events[0].sentence;
  };
  Ranks one(4), reading(4), all(4);
  for (Ranks* ranks : {&one, &reading, &all}) ranks->run(20);
  one.compute_s[2] = 0.2;
  expect_in_document(one.run(2));
  reading.data_s[1] = 0.062;
  expect_in_document(reading.run(2));
  all.compute_s.assign(4, 0.2);
  expect_in_document(all.run(12));
}

TEST(StragglerDetector, ComparesGrainsSoThatUnequalSharesAreNotSlowness) {
  Ranks ranks(4);
  ranks.run(20);
  ranks.reports[0].share = 24, ranks.compute_s[0] = 0.15;
  ranks.reports[1].share = 8, ranks.compute_s[1] = 0.05;
  EXPECT_TRUE(ranks.run(60).empty());
  // A fixed part of two grains makes each of the eight dearer.
  ranks.compute_s[1] = 0.05 + 2 * 0.1 / 16;
  EXPECT_TRUE(ranks.run(60).empty());
}

TEST(StragglerDetector, DoesNotBlameTheSlowerOfTwoAtOnceWhenTheOtherBecomesFaster) {
  Ranks ranks(2);
  ranks.run(20);
  ranks.compute_s[1] = 0.06;
  EXPECT_TRUE(ranks.run(4).empty());
  const auto events = ranks.run(40);
  ASSERT_EQ(events.size(), 1U) << "but it says so if that lasts";
  EXPECT_EQ(events[0].suspect->rank, 0);
}

TEST(StragglerDetector, BlamesNeitherOfTwoThatBothBecomeSlower) {
  Ranks ranks(2);
  ranks.run(20);
  ranks.compute_s = {0.2, 0.2};
  EXPECT_TRUE(ranks.run(9).empty()) << "it may pass";
  const auto events = ranks.run(3);
  ASSERT_EQ(events.size(), 1U);
  EXPECT_FALSE(events[0].suspect.has_value());
  EXPECT_EQ(events[0].part, StepPart::compute);
}

TEST(StragglerDetector, ComparesTheOnlyRankWithItself) {
  Ranks ranks(1);
  ranks.run(20);
  ranks.compute_s[0] = 0.2;
  const auto events = ranks.run(12);
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].sentence.rfind("the only rank takes ", 0), 0U) << events[0].sentence;
}

TEST(StragglerDetector, NamesBothOfTwoOutOfFourThatBecomeSlower) {
  Ranks ranks(4);
  ranks.run(20);
  ranks.compute_s[1] = ranks.compute_s[3] = 0.17;
  const auto events = ranks.run(5);
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[0].suspect->rank, 1);
  EXPECT_EQ(events[1].suspect->rank, 3);
}

TEST(StragglerDetector, TakesHalfTheRanksOfAnotherKindForNoStragglers) {
  Ranks ranks(8);
  for (std::size_t i = 0; i < 4; ++i) ranks.compute_s[i] = 0.15;
  EXPECT_TRUE(ranks.run(120).empty());
}

TEST(StragglerDetector, KeepsWhatItKnowsOfAWorkerOverGenerations) {
  Ranks ranks(4);
  ranks.run(20);
  ranks.compute_s[3] = 0.2;
  ASSERT_EQ(ranks.run(3).size(), 1U);
  // Worker 101 is lost; those after it move up.
  ranks.reports.erase(ranks.reports.begin() + 1);
  ranks.compute_s.erase(ranks.compute_s.begin() + 1);
  for (std::size_t i = 0; i < ranks.reports.size(); ++i) ranks.reports[i].rank = static_cast<std::int64_t>(i);
  ++ranks.generation;
  EXPECT_TRUE(ranks.run(20).empty()) << "it is still slow, and that has been said";
  ranks.compute_s[2] = 0.1;
  const auto events = ranks.run(10);
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].kind, Kind::ended);
  EXPECT_EQ(events[0].suspect->worker, 103);
}

TEST(StragglerDetector, ForgetsAWorkerThatLeaves) {
  for (const bool in_new_generation : {true, false}) {
    Ranks ranks(4);
    ranks.run(20);
    ranks.compute_s[3] = 0.2;
    ASSERT_EQ(ranks.run(3).size(), 1U);
    ranks.reports.pop_back();
    ranks.compute_s.pop_back();
    if (in_new_generation) ++ranks.generation;
    const auto events = ranks.run(in_new_generation ? 0.1 : 12);
    ASSERT_EQ(events.size(), 1U);
    EXPECT_EQ(events[0].kind, Kind::ended);
    EXPECT_NE(events[0].sentence.find("left"), std::string::npos) << events[0].sentence;
    EXPECT_TRUE(ranks.detector.active().empty());
  }
}

TEST(StragglerDetector, TakesForUsualWhatAllRanksDoForTenMinutes) {
  Ranks ranks(4);
  ranks.run(20);
  ranks.compute_s.assign(4, 0.2);
  ASSERT_EQ(ranks.run(12).size(), 1U);
  const auto events = ranks.run(620);
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].kind, Kind::ended);
  EXPECT_NE(events[0].sentence.find("usual"), std::string::npos) << events[0].sentence;
  EXPECT_TRUE(ranks.run(60).empty());
}

TEST(StragglerDetector, WorksOnWhileTheClockJumps) {
  Ranks ranks(4);
  ranks.run(20);
  ranks.now -= std::chrono::minutes(50);
  EXPECT_TRUE(ranks.run(10).empty());
  ranks.now += std::chrono::hours(30);
  EXPECT_TRUE(ranks.run(10).empty());
  ranks.compute_s[1] = 0.2;
  EXPECT_EQ(ranks.run(2).size(), 1U);
}

TEST(StragglerDetector, IsAFunctionOfWhatItObserved) {
  Ranks ranks(4);
  ranks.run(20);
  ranks.compute_s[1] = 0.2;
  ranks.run(0.5);
  Ranks copy = ranks;
  const auto events = ranks.run(3), same = copy.run(3);
  ASSERT_EQ(events.size(), 1U);
  ASSERT_EQ(same.size(), 1U);
  EXPECT_EQ(events[0].sentence, same[0].sentence);
}

TEST(StragglerDetector, SurvivesReportsThatMakeNoSense) {
  std::mt19937_64 random(5);
  const double odd[] = {nan, std::numeric_limits<double>::infinity(), -1, 0, 1e300, 1e-300, 0.5, 7};
  const std::int64_t odd_counts[] = {
      0,    -1, 1, 5, std::numeric_limits<std::int64_t>::max(), std::numeric_limits<std::int64_t>::min(),
      1000, 17};
  const auto any = [&] { return odd[random() % std::size(odd)]; };
  const auto any_count = [&] { return odd_counts[random() % std::size(odd_counts)]; };
  StragglerDetector detector;
  for (int round = 0; round < 20000; ++round) {
    std::vector<RankReport> reports(random() % 6);
    for (RankReport& report : reports) {
      report.worker = static_cast<WorkerId>(random() % 5);
      report.rank = random() % 7 == 0 ? any_count() : static_cast<std::int64_t>(random() % 5);
      report.node = concat("n", random() % 3);
      report.heard = Instant{} + std::chrono::milliseconds(random() % 100000);
      report.share = any_count();
      report.sums = sums_after(round + static_cast<std::int64_t>(random() % 5));
      if (random() % 4 == 0) report.sums.steps = any_count();
      if (random() % 4 == 0) report.sums.grains = any_count();
      for (double MeasuredSums::*sum :
           {&MeasuredSums::data_s, &MeasuredSums::forward_s, &MeasuredSums::backward_s,
            &MeasuredSums::reduce_s, &MeasuredSums::commit_s, &MeasuredSums::optimizer_s,
            &MeasuredSums::cpu_s, &MeasuredSums::wire_busy_s})
        if (random() % 8 == 0) report.sums.*sum = any();
      report.sums.wire_bytes = any_count();
      report.slowest_wire_rank = any_count();
      report.slowest_wire_bytes_per_s = any();
    }
    const Instant now = Instant{} + std::chrono::milliseconds(random() % 1000000);
    for (const StragglerEvent& event :
         detector.observe(now, round / 50 + static_cast<std::int64_t>(random() % 2), reports)) {
      EXPECT_TRUE(std::isfinite(event.ratio)) << event.sentence;
      EXPECT_TRUE(std::isfinite(event.lost_s_per_step)) << event.sentence;
      EXPECT_FALSE(event.sentence.empty());
    }
    (void)detector.unusable();
    EXPECT_LE(detector.active().size(), 5U * 3 + 5 + 4);
  }
}

}  // namespace
}  // namespace paceline
