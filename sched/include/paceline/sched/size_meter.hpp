#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "paceline/sched/coordinator.hpp"
#include "paceline/sched/efficiency_model.hpp"
#include "paceline/sched/straggler_intake.hpp"

namespace paceline {

struct SizeMeterRules {
  std::int64_t warm_up_steps = 10;  ///< of each generation, on every rank: caches, threads and shares settle
  std::int64_t least_steps = 20;    ///< of an observation
  double least_s = 2;
};

/// A rank's sums, as its newest heartbeat says them.
struct RankSums {
  WorkerId worker = 0;
  MeasuredSums sums;
};

/// Makes observations of a size, for the efficiency model, from what the ranks of that size say of
/// themselves. One observation follows the other, each over steps of its own; what happened in a time in
/// which ranks changed, or that one of them says nothing sensible of, belongs to none. The state is a
/// function of the arguments. Not thread-safe.
class SizeMeter {
 public:
  explicit SizeMeter(const SizeMeterRules& rules = {}) : rules_(rules) {}

  /// To be called for every round of heartbeats, with all ranks of the generation. Gives an observation when
  /// one is complete.
  [[nodiscard]] std::optional<SizeObservation> take(double now_s, std::int64_t generation,
                                                    const JobSize& size, const std::vector<RankSums>& ranks);

 private:
  using Sums = std::map<WorkerId, MeasuredSums>;
  void begin(double now_s, const Sums& sums);
  void note_spread(const Sums& sums);
  [[nodiscard]] bool is_whole(double now_s, const Sums& sums) const;
  [[nodiscard]] SizeObservation observation(const Sums& sums) const;

  SizeMeterRules rules_;
  std::int64_t generation_ = -1;
  JobSize size_;
  Sums first_;  // of the generation
  std::optional<Sums> begin_;
  double begin_s_ = 0;
  // Of a step's time on the first rank, between calls.
  MeasuredSums spread_from_;
  double spread_steps_ = 0, spread_sum_ms_ = 0, spread_squares_ = 0;
  std::int64_t spread_count_ = 0;
};

}  // namespace paceline
