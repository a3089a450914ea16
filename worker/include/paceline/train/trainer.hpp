#pragma once

/// The distributed training step, to use with any data: give every rank its part of the global batch and
/// call step(). Needs the allreduce library and LibTorch, nothing else.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "paceline/allreduce.hpp"
#include "paceline/base/clock.hpp"
#include "paceline/base/result.hpp"
#include "paceline/train/model.hpp"
#include "paceline/train/optimizer.hpp"

namespace paceline {

struct TrainerOptions {
  OptimizerConfig optimizer;
  /// Gradients are reduced in buckets of about this size, each as soon as backward has filled it: small
  /// enough to overlap with what is still computed, large enough that their number does not count.
  std::int64_t bucket_bytes = std::int64_t{4} << 20;
  /// Random state (dropout) comes from (seed, step, first position of the pass), never from the rank.
  std::uint64_t seed = 1;
};

/// Samples that go forward and backward together.
struct Pass {
  std::int64_t first_position = 0;  ///< of its first sample in the epoch's order; names its random state
  Batch batch;
};

/// What all ranks of a step must agree on.
struct StepSpec {
  std::int64_t step = 0;
  std::int64_t global_samples = 0;  ///< over all ranks
  double learning_rate = 0;
  std::uint64_t plan_hash = 0;  ///< of how the step was cut; ranks with different ones are an error
  bool stop = false;            ///< this rank wants to leave after this step
  std::uint64_t consumed = 0;   ///< hash of the samples in this rank's passes, see StepOutcome
};

/// The same on every rank, times apart.
struct StepOutcome {
  double loss = 0;           ///< mean over the global batch
  double accuracy = 0;       ///< fraction; of text of the tokens
  double gradient_norm = 0;  ///< of the mean loss's gradient, over all parameters, before clipping
  bool stop = false;         ///< some rank wants to leave
  Duration exposed{};        ///< of the reduction: waiting after backward had ended, commit included
  /// All ranks' `consumed`, added up modulo 2^64: exact for up to 65,536 ranks.
  std::uint64_t consumed = 0;
};

/// A model, its gradients in buckets that the ranks of a node share, and the optimizer on flat memory.
/// One thread; the communicator is used by nobody else meanwhile. Parameters, and buffers, are rank 0's
/// from the start, and the same bits on every rank after each step.
class Trainer {
 public:
  /// Collective. `communicator` and `model` must outlive the trainer, and the module's parameters must not be
  /// replaced or moved after this. Errors: no trainable parameters, other types than f32.
  [[nodiscard]] static Result<Trainer> make(Communicator& communicator, Model& model, TrainerOptions options);

  Trainer(Trainer&&) noexcept;
  Trainer& operator=(Trainer&&) noexcept;
  ~Trainer();

  /// Collective: one optimizer update over the global batch, of which `passes` are this rank's part (none is
  /// allowed). On an error nothing was applied, except where it says that weights are no longer finite.
  [[nodiscard]] Result<StepOutcome> step(const StepSpec& spec, std::span<const Pass> passes);

  /// Puts the module into evaluation mode with the committed normalisation statistics. step() goes back by
  /// itself.
  void prepare_evaluation();

  [[nodiscard]] std::int64_t parameters() const noexcept;  ///< trainable elements
  [[nodiscard]] int buckets() const noexcept;

 private:
  class Impl;
  explicit Trainer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Sums over a dataset, all ranks together.
struct Evaluation {
  double loss = 0;      ///< mean per sample
  double accuracy = 0;  ///< fraction; of text of the tokens
  std::int64_t samples = 0;
};

/// Collective: runs the model on this rank's batches (`next` gives them, and an undefined `inputs` at the
/// end) and adds up all ranks'. Exact: every sample counts once. The module must be in evaluation mode.
[[nodiscard]] Result<Evaluation> evaluate(Communicator& communicator, Model& model,
                                          const std::function<Result<Batch>()>& next);

}  // namespace paceline
