#pragma once

#include <cstdint>
#include <deque>
#include <random>
#include <vector>

#include "paceline/sched/straggler_detector.hpp"

namespace paceline::testing {

/// What goes wrong on purpose in a simulated job.
struct PlantedFault {
  enum class What {
    slow_compute,    ///< `factor` times as long per grain
    starved,         ///< the same, with no more processor time
    slow_read,       ///< an extra wait for data of `factor` steps, in each step
    slow_optimizer,  ///< `factor` times as long
    slow_sending,    ///< of the rank's node: a byte takes `factor` times as long
    slow_receiving,  ///< by the rank's node
    slow_network,    ///< both
  };
  What what = What::slow_compute;
  int rank = -1;  ///< -1: all
  double factor = 2;
  double from_s = 0, until_s = 1e9;
};

/// A job whose ranks work and wait for each other as real ones do, with what disturbs measurements of one
/// that is well.
struct SimulatedJob {
  int ranks = 4;
  int ranks_per_node = 1;
  double step_s = 0.02;  ///< of a step that is well: 70% computing, the rest data, sums and the optimizer
  double seconds = 60;
  std::uint64_t seed = 1;
  double noise = 0.1;        ///< standard deviation of the logarithm of each part, from step to step
  double slow_noise = 0.02;  ///< the same, of what stays for some seconds, for each rank
  double spread = 0.02;      ///< the same, of what stays for good, for each rank
  double long_step = 0.01;   ///< part of the steps in which one rank takes three times as long to compute
  double lost = 0.02, late = 0.02;  ///< parts of the heartbeats
  double fixed_grains = 0.5;
  bool life = false;            ///< evaluation, checkpoints, rebalancing, repairs, a clock that jumps
  bool broken_sensors = false;  ///< the last rank says NaN of its wires, the one in the middle says nothing
  bool sends_to_all = false;    ///< each rank to all those of other nodes, instead of in a ring
  bool gusts = false;  ///< of what else their machine does: seconds in which all compute more slowly,
                       ///< moments in which one does
  bool spin = false;   ///< ranks use their cores while they wait
  std::vector<PlantedFault> faults;
};

struct ObservedEvent {
  double at_s = 0;
  StragglerEvent event;
};

struct SimulationResult {
  std::vector<ObservedEvent> events;
  std::vector<UnusableRank> unusable;
  std::int64_t steps = 0;
  [[nodiscard]] std::vector<ObservedEvent> began() const;
};

/// Runs it, and asks the detector ten times a second. The same for the same job, on any machine with this
/// standard library.
[[nodiscard]] SimulationResult simulate(const SimulatedJob& job, const StragglerRules& rules = {});

}  // namespace paceline::testing
