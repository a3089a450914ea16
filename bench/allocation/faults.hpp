#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "paceline/base/result.hpp"

namespace paceline::bench {

/// The rank in `place` dies as it begins `step`. Places are numbered as the ranks are that a job is launched
/// with; whoever replaces a rank is in its place.
struct Fault {
  std::int64_t step = 0;  ///< from 1
  std::int64_t place = 0;
  friend bool operator==(const Fault&, const Fault&) = default;
};
/// Those of a run, by step, each at a step of its own.
using FaultPlan = std::vector<Fault>;

struct FaultLaw {
  double mean = 0;          ///< faults in a run
  std::int64_t steps = 1;   ///< of a run
  std::int64_t places = 1;  ///< each as likely
};

/// A Poisson process over the steps of a run, so over work that is done, not over time: a slow run meets the
/// same faults as a quick one. The gaps of a seed are the same for any mean, in units of the mean gap.
[[nodiscard]] FaultPlan plan_faults(std::uint64_t seed, const FaultLaw& law);

/// The workers of one launch: `ranks` of them, numbered from `first_worker`; each replacement has the next
/// number.
struct Crew {
  std::int64_t ranks = 1;
  std::int64_t first_worker = 0;
};
/// PACELINE_FAULTS (docs/protocol.md) for a job whose lost ranks are replaced one by one.
[[nodiscard]] std::string faults_of_ranks(const FaultPlan& plan, const Crew& crew);
/// And for one that is lost with any of its ranks: all of them go at that step.
[[nodiscard]] std::string fault_of_job(const Fault& fault, const Crew& crew);

/// In which place a worker is, where the faults of `plan` happen in their order.
[[nodiscard]] std::int64_t place_of(std::int64_t worker, const FaultPlan& plan, const Crew& crew);

/// What a static allocation was measured to take, with its slow rank.
struct StaticCosts {
  double run_s = 0;      ///< without faults, from launch to end
  double step_s = 0;     ///< one step
  double restart_s = 0;  ///< from a fault to the next step, but for steps that are done again
  std::int64_t checkpoint_steps = 1;
};
/// What a run with these faults should take.
[[nodiscard]] double predicted_seconds(const FaultPlan& plan, const StaticCosts& costs);

struct Calibration {
  double mean = 0;       ///< faults in a run
  double predicted = 0;  ///< fraction of the seeds' runs that miss the deadline
};
/// The mean number of faults at which `wanted` of the runs of `seeds` seeds, from `first_seed`, miss
/// `deadline_s`, or as near to that as any between 0.01 and 20; the least of several.
struct CalibrationTask {
  std::uint64_t first_seed = 1;
  std::int64_t seeds = 100;
  std::int64_t steps = 1;
  std::int64_t places = 1;
  double deadline_s = 0;
  double wanted = 0.05;
};
[[nodiscard]] Calibration calibrate(const CalibrationTask& task, const StaticCosts& costs);

}  // namespace paceline::bench
