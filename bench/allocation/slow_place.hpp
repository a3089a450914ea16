#pragma once

#include <sys/types.h>

#include <map>
#include <set>

#include "allocation/faults.hpp"
#include "rebalance/hold_back.hpp"
#include "rebalance/phases.hpp"

namespace paceline::bench {

/// Holds back whoever is in one place of a job: the rank that began there, and each that takes its place.
/// From soon after its process begins to its end. Not thread-safe.
class SlowPlace {
 public:
  /// `plan`: the faults that this launch may meet, in their order.
  SlowPlace(SlowRank slow, FaultPlan plan, Crew crew) : slow_(slow), plan_(std::move(plan)), crew_(crew) {}

  /// To be called every few milliseconds: looks for workers that `launcher` has started.
  void look(pid_t launcher);

 private:
  SlowRank slow_;
  FaultPlan plan_;
  Crew crew_;
  std::map<pid_t, HeldBack> held_;
  std::set<pid_t> known_;  // workers, whether held back or not
};

}  // namespace paceline::bench
