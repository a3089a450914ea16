#include "allocation/faults.hpp"

#include <cmath>

#include "paceline/base/assert.hpp"
#include "paceline/base/hash.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

constexpr std::uint64_t fault_stream =
    0x6661756c74;  // so that nothing else that is seeded goes along with it
constexpr double least_mean = 0.01, most_mean = 20;
constexpr int means = 500;  // that are tried, evenly on a logarithmic scale

/// In (0, 1].
double uniform(SplitMix64& random) {
  return static_cast<double>((random.next() >> 11) + 1) * 0x1p-53;
}

std::string kill_at(std::int64_t worker, std::int64_t step) {
  return concat(worker, ":data@", step, ":kill");
}

}  // namespace

FaultPlan plan_faults(std::uint64_t seed, const FaultLaw& law) {
  PACELINE_ASSERT(law.mean > 0 && law.steps > 0 && law.places > 0, "a law");
  SplitMix64 random(mix64(seed, fault_stream));
  FaultPlan plan;
  double at = 0;  // in runs
  std::int64_t last = 0;
  while (true) {
    at -= std::log(uniform(random)) / law.mean;
    const auto place = static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(law.places)));
    if (at >= 1) return plan;
    last = std::max(last + 1, static_cast<std::int64_t>(at * static_cast<double>(law.steps)) + 1);
    if (last > law.steps) return plan;
    plan.push_back({last, place});
  }
}

std::string faults_of_ranks(const FaultPlan& plan, const Crew& crew) {
  std::vector<std::int64_t> workers;  // by place
  for (std::int64_t place = 0; place < crew.ranks; ++place) workers.push_back(crew.first_worker + place);
  std::int64_t next = crew.first_worker + crew.ranks;
  std::string list;
  for (const Fault& fault : plan) {
    std::int64_t& worker = workers.at(static_cast<std::size_t>(fault.place));
    list += concat(list.empty() ? "" : ",", kill_at(worker, fault.step));
    worker = next++;
  }
  return list;
}

std::string fault_of_job(const Fault& fault, const Crew& crew) {
  std::string list;
  for (std::int64_t place = 0; place < crew.ranks; ++place)
    list += concat(list.empty() ? "" : ",", kill_at(crew.first_worker + place, fault.step));
  return list;
}

std::int64_t place_of(std::int64_t worker, const FaultPlan& plan, const Crew& crew) {
  const std::int64_t number = worker - crew.first_worker;
  if (number < crew.ranks) return number;
  const auto fault = static_cast<std::size_t>(number - crew.ranks);
  return fault < plan.size() ? plan[fault].place : -1;
}

double predicted_seconds(const FaultPlan& plan, const StaticCosts& costs) {
  double seconds = costs.run_s;
  for (const Fault& fault : plan) {
    const std::int64_t again = (fault.step - 1) % costs.checkpoint_steps;
    seconds += costs.restart_s + static_cast<double>(again) * costs.step_s;
  }
  return seconds;
}

Calibration calibrate(const CalibrationTask& task, const StaticCosts& costs) {
  Calibration best;
  double nearest = INFINITY;
  for (int i = 0; i < means; ++i) {
    const double mean = least_mean * std::pow(most_mean / least_mean, static_cast<double>(i) / (means - 1));
    std::int64_t late = 0;
    for (std::int64_t run = 0; run < task.seeds; ++run) {
      const FaultPlan plan =
          plan_faults(task.first_seed + static_cast<std::uint64_t>(run), {mean, task.steps, task.places});
      if (predicted_seconds(plan, costs) > task.deadline_s) ++late;
    }
    const double fraction = static_cast<double>(late) / static_cast<double>(task.seeds);
    if (std::fabs(fraction - task.wanted) >= nearest) continue;
    nearest = std::fabs(fraction - task.wanted);
    best = {mean, fraction};
  }
  return best;
}

}  // namespace paceline::bench
