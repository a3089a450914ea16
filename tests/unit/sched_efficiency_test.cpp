// The efficiency model against laws that are known, with noise from seeds; docs/efficiency.md.
#include "paceline/sched/efficiency_model.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <limits>
#include <string>

#include "paceline/base/hash.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr std::int64_t batch = 256;
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// Mean 0 and deviation 1, nearly normal: twelve uniform numbers.
double normal(SplitMix64& random) {
  double sum = -6;
  for (int i = 0; i < 12; ++i) sum += static_cast<double>(random.next() >> 11) * 0x1p-53;
  return sum;
}

/// What steps of a size take.
struct Parts {
  double compute_ms = 0, exposed_ms = 0, rest_ms = 0;
  [[nodiscard]] double step_ms() const { return compute_ms + exposed_ms + rest_ms; }
};

/// How steps of `ranks` ranks on one node go: one rank alone computes for 100 ms.
struct SyntheticLaw {
  const char* name;
  std::function<Parts(double ranks)> parts;
};

double alone(double ranks) {
  return ranks > 1 ? 0 : 1;
}

/// None is of the model's form, but that some are near it.
const std::vector<SyntheticLaw>& foreign_laws() {
  static const std::vector<SyntheticLaw> laws = {
      {"Amdahl, 5% serial",
       [](double n) {
         return Parts{100 * (.05 + .95 / n), 0, 1};
       }},
      {"Amdahl, 20% serial",
       [](double n) {
         return Parts{100 * (.2 + .8 / n), 0, 1};
       }},
      {"scalability law, .02 and .003",
       [](double n) {
         return Parts{100 / n, 100 * (.02 * (n - 1) / n + .003 * (n - 1)), .5};
       }},
      {"scalability law, .05 and .01",
       [](double n) {
         return Parts{100 / n, 100 * (.05 * (n - 1) / n + .01 * (n - 1)), 0};
       }},
      {"ring, 5 ms and latency",
       [](double n) {
         return Parts{100 / n, (1 - alone(n)) * (10 * (n - 1) / n + .1 * (n - 1)), 1};
       }},
      {"tree",
       [](double n) {
         return Parts{100 / n + 1, 3 * std::log2(n), .3};
       }},
      {"memory bandwidth",
       [](double n) {
         return Parts{100 / n * (1 + .06 * (n - 1)), (1 - alone(n)) + .2 * n, .3};
       }},
      {"stragglers",
       [](double n) {
         return Parts{100 / n * (1 + .04 * std::log(n)), 2 - 2 * alone(n), .3};
       }},
      {"power",
       [](double n) {
         return Parts{100 / std::pow(n, .9), (1 - alone(n)) * 2 * std::sqrt(n), .3};
       }},
      {"hidden up to a third of computing",
       [](double n) {
         const double sync = 6 - 6 * alone(n), compute = 100 / n + .5;
         return Parts{compute, std::max(.1 * sync, sync - .33 * compute), 1};
       }},
      {"small steps",
       [](double n) {
         return Parts{5 / n + .4, (1 - alone(n)) * .3 + .05 * n, .3};
       }},
  };
  return laws;
}

JobSize size_of(std::int64_t ranks, std::int64_t samples = batch) {
  return {ranks, 1, samples};
}

SizeObservation observation_of(const JobSize& size, const Parts& parts, std::int64_t steps = 100) {
  return {size, steps, parts.compute_ms, parts.exposed_ms, parts.step_ms(), 0.03 * parts.step_ms()};
}

/// The mean of 50 steps whose parts vary by 3%, what is exposed by 10%, on a machine that is off by 0.5%.
SizeObservation noisy(const JobSize& size, const Parts& parts, SplitMix64& random) {
  const auto off = [&](double part) { return 1 + part * normal(random); };
  const double machine = off(0.005);
  const double compute_ms = machine * parts.compute_ms * off(0.0042);
  const double exposed_ms = machine * parts.exposed_ms * off(0.014);
  const double step_ms = machine * parts.step_ms() * off(0.0042);
  return {size, 50, std::min(compute_ms, step_ms), exposed_ms, step_ms, 0.03 * step_ms};
}

/// Seed 0: without noise.
EfficiencyModel model_of(const SyntheticLaw& law, const std::vector<std::int64_t>& visited,
                         std::uint64_t seed) {
  SplitMix64 random(mix64(seed));
  EfficiencyModel model;
  for (const std::int64_t ranks : visited) {
    const Parts parts = law.parts(static_cast<double>(ranks));
    const Status taken = model.observe(seed == 0 ? observation_of(size_of(ranks), parts)
                                                 : noisy(size_of(ranks), parts, random));
    EXPECT_TRUE(taken.ok()) << taken.error().message;
  }
  return model;
}

double width(const Estimate& estimate) {
  return (estimate.high - estimate.low) / estimate.value;
}

bool within(const Estimate& estimate, double truth) {
  return estimate.low <= truth && truth <= estimate.high;
}

struct Journey {
  std::vector<std::int64_t> visited, predicted;
};

/// Sizes between those visited, and up to a doubling beyond.
const std::vector<Journey>& journeys() {
  static const std::vector<Journey> all = {{{1, 2}, {3, 4}},       {{1, 4}, {2, 3}},
                                           {{2, 4}, {1, 3}},       {{1, 2, 4}, {3, 6, 8}},
                                           {{2, 4, 8}, {1, 3, 6}}, {{2, 3, 4}, {1, 6}}};
  return all;
}

/// Of predictions over all laws.
struct Errors {
  std::vector<double> sorted;  ///< relative
  double in_band = 0;          ///< part of them
  [[nodiscard]] double at(double part) const {
    return sorted[static_cast<std::size_t>(part * static_cast<double>(sorted.size() - 1))];
  }
};

/// `seeds` 0: of the laws' own means.
Errors errors_of(const Journey& journey, std::uint64_t seeds) {
  Errors errors;
  for (const SyntheticLaw& law : foreign_laws()) {
    for (std::uint64_t seed = seeds > 0 ? 1 : 0; seed <= seeds; ++seed) {
      const EfficiencyModel model = model_of(law, journey.visited, seed);
      for (const std::int64_t ranks : journey.predicted) {
        const Estimate step = model.predict(size_of(ranks))->step_ms;
        const double truth = law.parts(static_cast<double>(ranks)).step_ms();
        errors.sorted.push_back(std::abs(step.value / truth - 1));
        errors.in_band += within(step, truth) ? 1 : 0;
      }
    }
  }
  std::sort(errors.sorted.begin(), errors.sorted.end());
  errors.in_band /= static_cast<double>(errors.sorted.size());
  return errors;
}

/// "1, 2: 3, 4"
std::string name_of(const Journey& journey) {
  std::string text;
  for (const std::int64_t ranks : journey.visited) text += (text.empty() ? "" : ", ") + std::to_string(ranks);
  const char* separator = ": ";
  for (const std::int64_t ranks : journey.predicted) {
    text += separator + std::to_string(ranks);
    separator = ", ";
  }
  return text;
}

/// The figures of a row of the table in docs/efficiency.md, in percent.
std::vector<double> documented(const std::string& name) {
  std::ifstream file(PACELINE_DOCS "/efficiency.md");
  std::vector<double> figures;
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("| " + name + " |")) continue;
    for (const std::string& cell : split(line.substr(name.size() + 4), '|')) {
      if (cell.size() > 1) figures.push_back(std::stod(cell));
    }
  }
  return figures;
}

TEST(EfficiencyModel, PredictsSizesNotVisitedWithinTenPercentWhateverTheLawAndAsDocumented) {
  for (const Journey& journey : journeys()) {
    SCOPED_TRACE(name_of(journey));
    const Errors exact = errors_of(journey, 0), noisy = errors_of(journey, 4);
    EXPECT_LT(exact.at(1), 0.1);
    EXPECT_LT(noisy.at(0.95), 0.1);
    EXPECT_LT(noisy.at(1), 0.15);
    EXPECT_GT(noisy.in_band, 0.9);

    const std::vector<double> measured = {exact.at(0.5),  exact.at(1), noisy.at(0.5),
                                          noisy.at(0.95), noisy.at(1), noisy.in_band};
    const std::vector<double> said = documented(name_of(journey));
    ASSERT_EQ(said.size(), measured.size());
    for (std::size_t i = 0; i < said.size(); ++i)
      EXPECT_NEAR(100 * measured[i], said[i], 0.51) << "figure " << i;
  }
}

TEST(EfficiencyModel, BandIsWideAfterOneSizeAndHoldsTheTruth) {
  for (const SyntheticLaw& law : foreign_laws()) {
    const EfficiencyModel model = model_of(law, {1}, 1);
    for (const std::int64_t ranks : {2, 4}) {
      const Estimate step = model.predict(size_of(ranks))->step_ms;
      EXPECT_TRUE(within(step, law.parts(static_cast<double>(ranks)).step_ms())) << law.name << " " << ranks;
      EXPECT_GT(width(step), 0.3);
    }
  }
}

TEST(EfficiencyModel, BandGetsNarrowerWithEachSize) {
  const SyntheticLaw& law = foreign_laws()[2];
  double before = std::numeric_limits<double>::infinity();
  for (const std::vector<std::int64_t>& visited :
       std::vector<std::vector<std::int64_t>>{{1}, {1, 2}, {1, 2, 4}}) {
    const double now = width(model_of(law, visited, 1).predict(size_of(8))->step_ms);
    EXPECT_LT(now, 0.7 * before);
    before = now;
  }
  const SizePrediction seen = *model_of(law, {1, 2, 4}, 1).predict(size_of(4));
  EXPECT_TRUE(seen.visited);
  EXPECT_LT(width(seen.step_ms), 0.08);
  EXPECT_NEAR(seen.step_ms.value, law.parts(4).step_ms(), 0.03 * law.parts(4).step_ms());
}

TEST(EfficiencyModel, FindsTheCoefficientsOfItsOwnLaw) {
  StepLaw law;
  law.fixed_ms = 2;
  law.ms_per_sample = 0.4;
  law.rest_ms = 1;
  law.alpha_local_ms = 6;
  law.beta_local_ms = 0.8;
  law.alpha_node_ms = 12;
  law.beta_node_ms = 1.5;
  EfficiencyModel model;
  for (const JobSize& size : std::vector<JobSize>{{1, 1, 256},
                                                  {2, 1, 256},
                                                  {4, 1, 256},
                                                  {8, 1, 256},
                                                  {4, 2, 256},
                                                  {8, 4, 256},
                                                  {8, 8, 256},
                                                  {4, 1, 1024}})
    ASSERT_TRUE(
        model.observe({size, 10000, law.compute_ms(size), law.exposed_ms(size), law.step_ms(size), 0.01})
            .ok());
  const StepCoefficients found = *model.coefficients();
  EXPECT_TRUE(found.local_measured && found.node_measured);
  EXPECT_NEAR(found.fixed_ms.value, 2, 0.5);
  EXPECT_NEAR(found.ms_per_sample.value, 0.4, 0.01);
  EXPECT_NEAR(found.rest_ms.value, 1, 0.3);
  EXPECT_NEAR(found.alpha_local_ms.value, 6, 1);
  EXPECT_NEAR(found.alpha_node_ms.value, 12, 2);
  EXPECT_TRUE(within(found.beta_local_ms, 0.8))
      << found.beta_local_ms.low << " to " << found.beta_local_ms.high;
  EXPECT_TRUE(within(found.beta_node_ms, 1.5)) << found.beta_node_ms.low << " to " << found.beta_node_ms.high;
  EXPECT_LT(found.gamma.value, 1.3);
  for (const JobSize& size : std::vector<JobSize>{{3, 1, 256}, {6, 3, 256}, {12, 4, 512}, {16, 4, 256}})
    EXPECT_NEAR(model.predict(size)->step_ms.value / law.step_ms(size), 1, 0.05) << describe(size);
}

TEST(EfficiencyModel, EfficienciesAreThoseOfTheLaw) {
  const auto law = [](double ranks, double samples) {
    return Parts{2 + 0.4 * samples / ranks, ranks > 1 ? 5.0 : 0.0, 1};
  };
  EfficiencyModel model;
  for (const std::int64_t ranks : {1, 2, 4, 8})
    ASSERT_TRUE(
        model.observe(observation_of(size_of(ranks), law(static_cast<double>(ranks), batch), 10000)).ok());
  const double one = law(1, batch).step_ms(), four = law(4, batch).step_ms(), eight = law(8, batch).step_ms();
  const SizePrediction at_four = *model.predict(size_of(4));
  EXPECT_NEAR(at_four.efficiency.value, one / four / 4, 0.02);
  EXPECT_NEAR(at_four.samples_per_second.value, batch * 1e3 / four, 0.03 * batch * 1e3 / four);
  EXPECT_NEAR(at_four.compute_ms.value, 27.6, 0.6);
  EXPECT_NEAR(at_four.exposed_ms.value, 5, 1);
  EXPECT_NEAR(model.predict(size_of(1))->efficiency.value, 1, 1e-9);
  EXPECT_NEAR(model.marginal_efficiency(size_of(4), size_of(8))->value, (one / eight - one / four) / 4, 0.05);
  EXPECT_NEAR(model.weak_efficiency(size_of(4, 4 * batch))->value, one / law(4, 4 * batch).step_ms(), 0.03);
  EXPECT_FALSE(model.marginal_efficiency(size_of(4), size_of(4)).ok());
}

TEST(EfficiencyModel, SharesAreWholeGrains) {
  EXPECT_EQ(slowest_share(size_of(3), 64), 128);
  EXPECT_EQ(slowest_share(size_of(3), 1), 86);
  EXPECT_EQ(slowest_share(size_of(100, 10), 64), 10);
  EfficiencyRules rules;
  rules.grain_samples = 64;  // four grains: three ranks are no faster than two
  EfficiencyModel model(rules);
  for (const double ranks : {1., 2., 4.})
    ASSERT_TRUE(
        model.observe(observation_of(size_of(static_cast<std::int64_t>(ranks)), {100 / ranks, 0, 1})).ok());
  EXPECT_NEAR(model.predict(size_of(3))->step_ms.value, model.predict(size_of(2))->step_ms.value, 2);
}

TEST(EfficiencyModel, RefusesWhatMakesNoSenseByNameAndChangesNothing) {
  EfficiencyModel model;
  EXPECT_FALSE(model.predict(size_of(1)).ok());
  EXPECT_FALSE(model.coefficients().ok());
  const SizeObservation good = observation_of(size_of(2), {50, 5, 1});
  ASSERT_TRUE(model.observe(good).ok());
  const Estimate before = model.predict(size_of(4))->step_ms;

  const auto refused = [&](const char* word, const std::function<void(SizeObservation&)>& spoil) {
    SizeObservation bad = good;
    spoil(bad);
    const Status taken = model.observe(bad);
    ASSERT_FALSE(taken.ok()) << word;
    EXPECT_NE(taken.error().message.find(word), std::string::npos) << taken.error().message;
  };
  refused("compute_ms", [](SizeObservation& bad) { bad.compute_ms = nan; });
  refused("exposed_reduce_ms", [](SizeObservation& bad) { bad.exposed_reduce_ms = -1; });
  refused("step_ms", [](SizeObservation& bad) { bad.step_ms = std::numeric_limits<double>::infinity(); });
  refused("step_ms is 0", [](SizeObservation& bad) { bad.step_ms = 0; });
  refused("step_deviation_ms", [](SizeObservation& bad) { bad.step_deviation_ms = nan; });
  refused("a month", [](SizeObservation& bad) { bad.step_ms = 1e13; });
  refused("its parts", [](SizeObservation& bad) { bad.compute_ms = 80; });
  refused("0 steps", [](SizeObservation& bad) { bad.steps = 0; });
  refused("more nodes", [](SizeObservation& bad) { bad.size.nodes = 3; });
  refused("ranks", [](SizeObservation& bad) { bad.size.ranks = 0; });
  refused("samples", [](SizeObservation& bad) { bad.size.samples_per_step = -256; });

  const Estimate after = model.predict(size_of(4))->step_ms;
  EXPECT_EQ(model.sizes(), 1U);
  EXPECT_EQ(after.value, before.value);
  EXPECT_EQ(after.low, before.low);
  EXPECT_EQ(after.high, before.high);
  EXPECT_FALSE(model.predict({2, 3, batch}).ok());
}

TEST(EfficiencyModel, AnyTimesThatAreTakenGivePredictionsInOrder) {
  SplitMix64 random(7);
  const auto wild = [&] { return std::exp(3 * normal(random)); };
  for (int trial = 0; trial < 40; ++trial) {
    EfficiencyModel model;
    for (int i = 0; i < 4; ++i) {
      const auto ranks = static_cast<std::int64_t>(1 + random.below(64));
      const JobSize size{ranks,
                         static_cast<std::int64_t>(1 + random.below(static_cast<std::uint64_t>(ranks))),
                         static_cast<std::int64_t>(1 + random.below(100'000))};
      const double compute = wild(), exposed = wild();
      ASSERT_TRUE(model.observe({size, 1, compute, exposed, compute + exposed + wild(), wild()}).ok());
    }
    for (const JobSize& size : std::vector<JobSize>{{1, 1, 1}, {7, 3, 1000}, {1000, 100, 1'000'000}}) {
      const Estimate step = model.predict(size)->step_ms;
      EXPECT_TRUE(std::isfinite(step.high) && step.low > 0) << describe(size) << " in trial " << trial;
      EXPECT_TRUE(step.low <= step.value && step.value <= step.high);
    }
  }
}

TEST(EfficiencyModel, FollowsMachinesThatChangeAndForgivesOnesThatRecover) {
  const SyntheticLaw& law = foreign_laws()[2];
  const auto slowed = [&](double factor) {
    const Parts parts = law.parts(2);
    return observation_of(size_of(2),
                          {factor * parts.compute_ms, factor * parts.exposed_ms, factor * parts.rest_ms});
  };
  EfficiencyModel model = model_of(law, {1, 4, 2}, 1);
  const double calm = width(model.predict(size_of(4))->step_ms);

  ASSERT_TRUE(model.observe(slowed(1.5)).ok());
  ASSERT_TRUE(model.observe(slowed(1.5)).ok());
  const double slow = 1.5 * law.parts(2).step_ms();
  EXPECT_NEAR(model.predict(size_of(2))->step_ms.value, slow, 0.05 * slow);
  const Estimate doubtful = model.predict(size_of(4))->step_ms;
  EXPECT_GT(width(doubtful), 3 * calm);
  EXPECT_TRUE(within(doubtful, 1.5 * law.parts(4).step_ms()));

  for (int i = 0; i < 3; ++i) ASSERT_TRUE(model.observe(slowed(1)).ok());
  EXPECT_LT(width(model.predict(size_of(4))->step_ms), 1.5 * calm);
  EXPECT_NEAR(model.predict(size_of(8))->step_ms.value, law.parts(8).step_ms(), 0.1 * law.parts(8).step_ms());
}

TEST(EfficiencyModel, OldSizesGetDoubtful) {
  const SyntheticLaw& law = foreign_laws()[2];
  EfficiencyModel model = model_of(law, {1, 2, 4}, 1);
  const double fresh = width(model.predict(size_of(1))->step_ms);
  const auto steps_of_a_day = static_cast<std::int64_t>(24 * 3600e3 / law.parts(4).step_ms());
  ASSERT_TRUE(model.observe(observation_of(size_of(4), law.parts(4), steps_of_a_day)).ok());
  EXPECT_GT(width(model.predict(size_of(1))->step_ms), 2 * fresh);
  EXPECT_LT(width(model.predict(size_of(4))->step_ms), 0.08);
}

TEST(EfficiencyModel, IsAFunctionOfWhatItObservedAndHardlyMovesWithNoise) {
  const SyntheticLaw& law = foreign_laws()[2];
  EfficiencyModel model = model_of(law, {1, 2}, 1);
  EXPECT_EQ(model.predict(size_of(4))->step_ms.high,
            model_of(law, {1, 2}, 1).predict(size_of(4))->step_ms.high);
  SplitMix64 random(3);
  double before = model.predict(size_of(4))->step_ms.value;
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(model.observe(noisy(size_of(2), law.parts(2), random)).ok());
    const double now = model.predict(size_of(4))->step_ms.value;
    EXPECT_NEAR(now, before, 0.03 * before);
    before = now;
  }
}

TEST(EfficiencyModel, KeepsABoundedNumberOfSizes) {
  EfficiencyModel model;
  for (std::int64_t ranks = 1; ranks <= 34; ++ranks) {
    const auto n = static_cast<double>(ranks);
    ASSERT_TRUE(model.observe(observation_of(size_of(ranks, 1000), {100 / n, 0.01 * n, 0})).ok());
  }
  EXPECT_EQ(model.sizes(), 32U);
}

}  // namespace
}  // namespace paceline
