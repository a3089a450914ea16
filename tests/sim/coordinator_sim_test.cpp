// Thousands of jobs, each with its own faults. See simulation.hpp.
#include <gtest/gtest.h>

#include <iostream>
#include <map>

#include "paceline/base/text.hpp"
#include "simulation.hpp"

namespace paceline::sim {
namespace {

std::int64_t number_from_environment(const char* name, std::int64_t otherwise) {
  const auto text = environment(name);
  if (!text) return otherwise;
  const auto number = parse_integer(*text, 0, 1'000'000'000);
  EXPECT_TRUE(number.has_value()) << name << " is to be a number, not " << *text;
  return number.value_or(otherwise);
}

Outcome run(std::uint64_t seed, bool trace) {
  Setting setting = Setting::random(seed);
  setting.trace = trace;
  return Simulation(setting).run();
}

TEST(CoordinatorSimulation, EveryInvariantHoldsWhateverDies) {
  if (const std::int64_t seed = number_from_environment("PACELINE_SIM_SEED", 0); seed > 0) {
    const Outcome outcome = run(static_cast<std::uint64_t>(seed), true);
    for (const std::string& line : outcome.trace) std::cout << line << "\n";
    EXPECT_EQ(outcome.violation, "");
    return;
  }
  const std::int64_t seeds = number_from_environment("PACELINE_SIM_SEEDS", 5000);
  std::map<std::string, std::int64_t> ends;
  std::int64_t repairs = 0, resizes = 0, failures = 0;
  for (std::int64_t seed = 1; seed <= seeds; ++seed) {
    const Outcome outcome = run(static_cast<std::uint64_t>(seed), false);
    repairs += outcome.repairs;
    resizes += outcome.resizes;
    ++ends[concat(outcome.status, outcome.status == "failed" ? ": " + outcome.why.substr(0, 30) : "")];
    if (outcome.violation.empty()) continue;
    ADD_FAILURE() << outcome.violation << "\nagain: PACELINE_SIM_SEED=" << seed;
    if (++failures == 10) break;
  }
  for (const auto& [end, number] : ends) std::cout << number << " " << end << "\n";
  std::cout << repairs << " repairs, " << resizes << " changes of size\n";
  if (failures > 0) return;
  // Otherwise the faults are not what they are meant to be.
  EXPECT_GE(10 * ends["completed"], 7 * seeds);
  EXPECT_GE(repairs, seeds / 2);
  EXPECT_GE(resizes, seeds / 4);
}

TEST(CoordinatorSimulation, ASeedIsTheSameStoryEachTime) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) EXPECT_EQ(run(seed, true).trace, run(seed, true).trace);
}

}  // namespace
}  // namespace paceline::sim
