#pragma once

#include <optional>
#include <string>

#include "allocation/faults.hpp"
#include "allocation/figures.hpp"
#include "allocation/options.hpp"
#include "elastic/stage.hpp"

namespace paceline::bench {

/// One run of the benchmark's job.
struct JobTask {
  Way way = Way::fixed;
  FaultPlan faults{};
  bool has_slow_rank = true;
  double deadline_s = 0;  ///< that the policy is told where its objective is one
};

struct JobTrained {
  JobRun run;
  double step_s = 0;  ///< median; 0: too few steps
  /// From the end of the launch that was lost last to the first commit after it, but for that step's own
  /// time.
  std::optional<double> restart_s{};
};

/// Trains a small job to its end, whatever happens to it on the way: one that is lost is launched again from
/// its last checkpoint (`paceline train --resume`), until it completes.
class JobRunner {
 public:
  /// All outlive it. `dataset`: of make_images.
  JobRunner(Stage& stage, const AllocationOptions& options, std::string dataset)
      : stage_(stage), options_(options), dataset_(std::move(dataset)) {}

  /// A job that ends without having been disturbed is a run that failed, and so is one that takes longer than
  /// --timeout. Errors: invalid_argument where `paceline train` refuses the job, aborted by a signal.
  [[nodiscard]] Result<JobTrained> train(const JobTask& task);

 private:
  /// What is the same for all launches of one run.
  struct Run {
    std::string folder;
    double began = 0;     ///< seconds since 1970
    double launched = 0;  ///< the last time; the same
    Instant until{};
  };
  /// How one launch ended.
  struct Launch {
    bool completed = false;
    bool refused = false;  ///< status 2
    std::int64_t faults = 0;
    std::string why{};
  };
  [[nodiscard]] std::string job_text(const JobTask& task) const;
  [[nodiscard]] Result<Launch> launch(const JobTask& task, const Run& run, const FaultPlan& left,
                                      bool resumes);
  /// Until it has ended, or has taken too long: then it is killed.
  [[nodiscard]] Result<bool> watch(Process& process, const JobTask& task, const Run& run,
                                   const FaultPlan& left, const Crew& crew);
  [[nodiscard]] Status read_figures(const JobTask& task, const Run& run, JobTrained& trained) const;

  Stage& stage_;
  const AllocationOptions& options_;
  std::string dataset_;
  int runs_ = 0;
};

}  // namespace paceline::bench
