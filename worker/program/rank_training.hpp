#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent_link.hpp"
#include "batches.hpp"
#include "checkpointing.hpp"
#include "counters.hpp"
#include "inputs.hpp"
#include "paceline/allreduce.hpp"
#include "paceline/data/dataset.hpp"
#include "paceline/data/loader.hpp"
#include "paceline/sched/gradient_noise.hpp"
#include "paceline/train/trainer.hpp"
#include "rate.hpp"
#include "rebalancing.hpp"
#include "step_log.hpp"
#include "telemetry.hpp"
#include "time_series.hpp"

namespace paceline {

/// One rank's part of a job: its model and data, how far they are, and what it reports of them. It goes on
/// through all generations that the rank is in; which those are is Training's affair. One thread.
class RankTraining {
 public:
  /// All outlive it.
  RankTraining(const StartMessage& start, AgentLink& link, TelemetryRecorder& telemetry);

  /// Everything that doesn't need the other ranks.
  [[nodiscard]] Status open();

  /// Brings this rank to where the generation begins (I5). Local.
  [[nodiscard]] Status settle(const FormMessage& form);
  /// Collective: from now on with these ranks, until the next enter(), which it must outlive. Gives the state
  /// to those who have none. `buffers` are the trainer's for them, made before or not, by all alike.
  [[nodiscard]] Status enter(const FormMessage& form, Communicator& communicator,
                             std::optional<Trainer::Buffers> buffers);
  /// Once open.
  [[nodiscard]] const ComputeDevice& device() const noexcept { return device_; }
  [[nodiscard]] const Trainer& trainer() const { return *trainer_; }
  /// How far it is, for the agent, now that a generation was left because of an error.
  [[nodiscard]] LeftMessage standing() const;

  /// What this rank wants of the next step.
  struct Wishes {
    bool stop = false;                 ///< to leave after it
    std::int64_t next_generation = 0;  ///< it is ready to change to that; 0: none
  };
  /// What the ranks have done together.
  struct Advance {
    std::int64_t next_generation = 0;         ///< all change to it now; 0: none
    std::optional<FinishedMessage> finished;  ///< the job is done
  };
  /// Collective: the next thing that is to be done, a step, the end of an epoch, or that of the job.
  [[nodiscard]] Result<Advance> advance(const Wishes& wishes);

  /// Whether this rank holds the whole training state, or can read it.
  [[nodiscard]] bool complete() const noexcept { return complete_; }

  /// The journal has the steps up to this one.
  void acknowledge(std::int64_t step) { log_.acknowledge(step); }

 private:
  [[nodiscard]] bool leads() const { return form_.rank == 0; }
  [[nodiscard]] Status make_trainer();
  /// Of the training state to those who had none, as this rank saw it: its wait for the others is in it.
  struct Transfer {
    std::int64_t bytes = 0;  // 0: there was none
    Duration took{};
  };
  [[nodiscard]] Result<Transfer> share_state();
  [[nodiscard]] Status load_checkpoint(const CheckpointSlice* slice);
  [[nodiscard]] Result<std::vector<StatePart>> state();
  [[nodiscard]] std::int64_t state_bytes();
  [[nodiscard]] Status agree_where_to_begin();
  void redirect_loader();
  [[nodiscard]] Status begin_to_report();

  [[nodiscard]] Result<std::vector<Pass>> load_passes(const StepRange& step, StepSpec& spec);
  [[nodiscard]] Result<StepOutcome> train_step(std::int64_t step, const Wishes& wishes);
  [[nodiscard]] Status record(const StepSpec& spec, const StepOutcome& outcome);
  void measure(const StepSpec& spec, const StepParts& parts);
  void follow_noise(const StepSpec& spec, const GradientSpread& spread, double gradient_norm);
  [[nodiscard]] Status balance(std::int64_t step, const StepOutcome& outcome);
  [[nodiscard]] Status end_epoch(std::int64_t epoch);
  [[nodiscard]] bool makes_checkpoints() const {
    return form_.term != 0 && job_.checkpoint.every_steps != no_checkpoints;
  }
  [[nodiscard]] bool checkpoint_is_due() const;
  [[nodiscard]] Status checkpoint_if_possible(bool all_can_save);
  [[nodiscard]] Status begin_checkpoint();
  [[nodiscard]] Status report_checkpoint();
  [[nodiscard]] Status save_last_checkpoint();
  [[nodiscard]] Status tell_progress(const StepRange& range, double loss);
  [[nodiscard]] Status agree_on_weights(const std::string& sha256);
  [[nodiscard]] Result<FinishedMessage> finish();

  [[nodiscard]] bool is_over() const {
    return counters_.stopped != 0 || counters_.committed == plan_->steps.steps();
  }
  /// Whether the last step was an epoch's last, and what follows on that is still to be done.
  [[nodiscard]] bool epoch_is_to_end() const {
    return counters_.committed > 0 && plan_->steps.ends_epoch(counters_.committed - 1) &&
           counters_.ended_epochs < plan_->steps.range(counters_.committed - 1).epoch + 1;
  }

  /// Nothing is said of it to the agent before a later step.
  [[nodiscard]] bool is_quiet(std::int64_t step) const {
    return quiet_steps_ > 0 && step / quiet_steps_ % 2 == 1;
  }

  /// Observations, of which there is one in sixteen steps.
  static constexpr double noise_smoothing = 20;

  const StartMessage& start_;
  const Job& job_;
  AgentLink& link_;
  TelemetryRecorder& telemetry_;
  StepLog log_;
  const std::int64_t quiet_steps_;

  std::optional<Dataset> dataset_;
  std::optional<Dataset> eval_dataset_;
  ComputeDevice device_;
  InputSpec input_;
  std::optional<InputMaker> inputs_;
  std::unique_ptr<Model> model_;
  OrderSpec order_;
  std::int64_t budget_bytes_ = 0;

  FormMessage form_;                      // of the generation that this rank is in, or was last
  Communicator* communicator_ = nullptr;  // its; does not own
  std::optional<JobPlan> plan_;
  Rebalancing rebalancing_;
  GradientNoise noise_{noise_smoothing};
  std::int64_t rebalances_ = 0;
  std::unique_ptr<Communicator> alone_;  // of this rank, before it is in any generation
  std::optional<Trainer> trainer_;       // after the communicator
  bool complete_ = false;  // this rank holds the whole training state, or can read it from checkpoint_
  std::string
      checkpoint_;  // the run's state is there, and not in this rank's memory yet; empty: it is, or nowhere

  std::unique_ptr<Loader> loader_;    // after inputs_, which it uses
  std::int64_t delivered_ = 0;        // batches
  std::optional<SampleBatch> batch_;  // of the current step, whose tensors lie in its memory
  StepSpec spec_;                     // of the current step
  Instant step_began_{};
  Duration data_wait_{};  // of the current step: until its passes were there

  Counters counters_;
  Duration waited_{};  // of this rank's training, for data
  TimeSeries step_times_, allreduce_times_, exposed_times_, data_waits_;
  Rate rate_;
  Instant told_{};
  bool skip_told_ = false;  // that a checkpoint was passed over
  // After the trainer, whose memory it looks at.
  Checkpointing checkpointing_;
};

}  // namespace paceline
