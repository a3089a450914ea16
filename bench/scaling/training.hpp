#pragma once

#include <vector>

#include "elastic/stage.hpp"
#include "paceline/job/job.hpp"
#include "paceline/sched/allocation.hpp"
#include "scaling/figures.hpp"
#include "scaling/options.hpp"

namespace paceline::bench {

/// The cores that this process may use, from /sys; those of one NUMA node stand together.
[[nodiscard]] Result<Inventory> own_cores();

/// The samples of each rank in a whole step of `size`, at equal shares.
[[nodiscard]] Result<std::vector<std::int64_t>> samples_of_ranks(const Job& job, const TrainingSize& size);

/// Runs trainings to measure them. Each rank, in a job of its own or not, has `threads` cores as long as
/// there are enough; with more ranks than that all share all cores, as in any job.
class Trainer {
 public:
  /// All outlive it.
  Trainer(Stage& stage, const ScalingOptions& options, const Job& job, const Inventory& cores)
      : stage_(stage), options_(options), job_(job), cores_(cores) {}

  /// A few steps, which nobody looks at: the dataset is made where it must be, and gets into memory.
  [[nodiscard]] Status warm_up(const TrainingSize& size);
  [[nodiscard]] Result<TrainingFigures> together(const TrainingSize& size);
  /// As many jobs of one rank at the same time, each with the samples that a rank has in `together`. Gives
  /// the ceiling's step.
  [[nodiscard]] Result<double> side_by_side(const TrainingSize& size);

 private:
  struct One {
    std::int64_t ranks = 1;
    std::int64_t batch = 1;
    std::int64_t steps = 1;
    std::vector<int> cpus{};  ///< empty: all
  };
  [[nodiscard]] std::vector<std::string> arguments_of(const One& one, const std::string& folder) const;
  [[nodiscard]] Inventory cores_of(std::int64_t ranks) const;
  /// All at once, until the last has ended; their figures in the same order.
  [[nodiscard]] Result<std::vector<TrainingFigures>> train(const std::vector<One>& all);
  [[nodiscard]] static Error failure_of(const One& one, const std::string& folder, const Ended& end);
  [[nodiscard]] Result<TrainingFigures> figures_in(const std::string& folder) const;

  Stage& stage_;
  const ScalingOptions& options_;
  const Job& job_;
  const Inventory& cores_;
  int runs_ = 0;
};

}  // namespace paceline::bench
