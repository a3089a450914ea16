#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "paceline/base/clock.hpp"
#include "paceline/job/job.hpp"
#include "paceline/job/plan.hpp"
#include "paceline/job/protocol.hpp"
#include "paceline/sched/efficiency_model.hpp"
#include "paceline/sched/size_meter.hpp"
#include "paceline/sched/straggler_detector.hpp"

namespace paceline {

/// What a coordinator makes of the heartbeats of its job's ranks: who is slower than the others, and how long
/// a step takes at which size. Pure but for the clock readings that it is given. One thread.
class Insight {
 public:
  /// `ranks`: that it begins with.
  Insight(const Job& job, std::int64_t ranks)
      : batch_(job.batch.global), model_(EfficiencyRules{.grain_samples = job_grain(job, ranks)}) {}

  /// A rank of the generation that trains.
  struct Member {
    WorkerId worker = 0;
    std::int64_t rank = 0;
    std::string node;
    Instant heard{};                            ///< when its last heartbeat came
    std::optional<HeartbeatMessage> heartbeat;  ///< nothing: none has come yet
  };
  /// About ten times a second. Gives what began or ended of what is out of the ordinary, and what measured
  /// figures the model would not take, each in one sentence.
  struct Findings {
    std::vector<StragglerEvent> events;
    std::string refused;
  };
  [[nodiscard]] Findings observe(Instant now, std::int64_t generation, const std::vector<Member>& members);

  /// What is out of the ordinary now.
  [[nodiscard]] std::vector<StragglerEvent> stragglers() const { return detector_.active(); }
  [[nodiscard]] const EfficiencyModel& model() const noexcept { return model_; }
  /// Of the size that it has now; nothing where that isn't known yet.
  [[nodiscard]] std::optional<SizePrediction> present() const;
  /// With ranks on so many nodes; nothing where no size was measured yet.
  [[nodiscard]] std::optional<SizePrediction> predict(std::int64_t ranks, std::int64_t nodes) const;
  /// A rank of the present generation that has said nothing for a while, or never what its steps take.
  [[nodiscard]] std::optional<std::int64_t> silent_rank(Instant now) const;
  /// In samples, as the ranks say, who all measure the same: the word of the one with the most steps.
  [[nodiscard]] std::optional<double> gradient_noise_scale() const;
  /// Watts of all nodes and GPUs of the ranks, as far as they say; nothing where a node says nothing.
  [[nodiscard]] std::optional<double> power_w() const { return power_w_; }

 private:
  void watch_power(Instant now);
  [[nodiscard]] JobSize size_of(std::int64_t ranks, std::int64_t nodes) const;

  std::int64_t batch_;
  std::vector<Member> members_;
  StragglerDetector detector_;
  SizeMeter meter_;
  // The slowest rank's share is a whole number of grains: of those that the job begins with, since a change
  // of the grain matters less than what was learnt before.
  EfficiencyModel model_;
  std::optional<double> power_w_, energy_j_;
  Instant energy_at_{};
};

/// The sums of a heartbeat, as decisions take them.
[[nodiscard]] MeasuredSums measured_sums(const Telemetry& telemetry);

}  // namespace paceline
