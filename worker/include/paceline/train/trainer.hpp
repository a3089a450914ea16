#pragma once

/// The distributed training step, to use with any data: give every rank its part of the global batch and
/// call step(). Needs the allreduce library and LibTorch, nothing else.

#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "paceline/allreduce.hpp"
#include "paceline/base/clock.hpp"
#include "paceline/base/result.hpp"
#include "paceline/train/device.hpp"
#include "paceline/train/model.hpp"
#include "paceline/train/optimizer.hpp"

namespace paceline {

/// What a rank is at within step(). In `reduce` and `commit` it waits for the others.
enum class StepPart { compute, reduce, commit, apply };

/// What forward and backward compute in. In 16 bits that is LibTorch's automatic mixed precision; weights,
/// gradients and their sums are f32 in any case.
enum class ComputeType { f32, bf16, f16 };

/// A factor on the loss, which gradients are divided by again before they are used.
struct LossScaling {
  double first = 1;
  /// It is halved when a gradient is not finite, and that step changes no weight; doubled after
  /// `growth_steps` steps without. false: it stays, and a gradient that is not finite is an error.
  bool follows = false;
  std::int64_t growth_steps = 2000;
};

struct TrainerOptions {
  OptimizerConfig optimizer;
  ComputeDevice device;  ///< the model is moved there
  ComputeType compute = ComputeType::f32;
  LossScaling loss_scaling;
  /// Gradients are reduced in buckets of about this size, each as soon as backward has filled it: small
  /// enough to overlap with what is still computed, large enough that their number does not count.
  std::int64_t bucket_bytes = std::int64_t{4} << 20;
  /// Random state (dropout) comes from (seed, step, first position of the pass), never from the rank.
  std::uint64_t seed = 1;
  /// All ranks begin with rank 0's weights and buffers. false: with what they have, for who gets them by
  /// state().
  bool share_state = true;
  /// The weights after a step are the same bits for every number of ranks and every way in which the passes
  /// are dealt to them, as long as the passes are the same; docs/reproducible.md says what that takes. Ranks
  /// that don't compute alike are refused. Gradients then take 12 bytes per element instead of 4.
  bool reproducible = false;
  /// Told the beginning of each part, in the thread of step().
  std::function<void(StepPart)> on_part = {};
  OnBrokenDevice on_broken_device = {};
};

/// What decides the bits of a pass on this rank: threads, libraries, instruction set, and those of a small
/// trial in the type that is computed in. Of the thread that calls it.
using ComputeFingerprint = std::array<std::int64_t, 3>;
[[nodiscard]] ComputeFingerprint compute_fingerprint(ComputeType compute = ComputeType::f32,
                                                     const ComputeDevice& device = {});
/// Collective: whether all ranks have the same. mismatch: names the first that differs from rank 0, which is
/// the error's `rank`, and what is different there. A reproducible Trainer asks for this by itself.
[[nodiscard]] Status check_ranks_compute_alike(Communicator& communicator, const ComputeFingerprint& own);

/// Samples that go forward and backward together.
struct Pass {
  std::int64_t first_position = 0;  ///< of its first sample in the epoch's order; names its random state
  Batch batch;
};

/// What a rank spent on a step, part by part: together, but for microseconds, what step() took. Passes that
/// had to run once more count twice.
struct StepParts {
  Duration forward{};    ///< of all passes, the loss among them
  Duration backward{};   ///< of all passes
  Duration reduce{};     ///< waiting for the sums after the last backward
  Duration commit{};     ///< waiting for the other ranks' votes
  Duration optimizer{};  ///< the update, and what is read out and counted around it
};

/// What all ranks of a step must agree on.
struct StepSpec {
  std::int64_t step = 0;
  std::int64_t global_samples = 0;  ///< over all ranks
  double learning_rate = 0;
  std::uint64_t plan_hash = 0;  ///< of how the step was cut; ranks with different ones are an error
  bool stop = false;            ///< this rank wants to leave after this step
  std::uint64_t consumed = 0;   ///< hash of the samples in this rank's passes, see StepOutcome
  /// The generation that this rank is ready to change to after this step; 0: none.
  std::int64_t next_generation = 0;
  std::int64_t passes = 0;  ///< over all ranks; needed, and checked, when reproducible
  bool can_save = false;    ///< this rank could save the state after this step
  /// Asked right before the commit, with what this rank has spent up to then: numbers for all ranks that
  /// travel with it; as many on every rank. Of each the least that any rank has is what all get, so that who
  /// has nothing to say at a place puts `nothing_said` there. Empty: no numbers.
  std::function<std::vector<std::int64_t>(const StepParts&)> words{};
  static constexpr std::int64_t nothing_said = std::numeric_limits<std::int64_t>::max();
};

/// How far apart the ranks' gradients were in a step, for the gradient noise scale.
struct GradientSpread {
  std::int64_t ranks = 0;  ///< that had samples
  /// Of each rank's mean gradient the squared norm, their mean over the step's samples: sum_i b_i / B
  /// |g_i|^2.
  double mean_squared_norm = 0;
};

/// The same on every rank, times apart.
struct StepOutcome {
  double loss = 0;           ///< mean over the global batch
  double accuracy = 0;       ///< fraction; of text of the tokens
  double gradient_norm = 0;  ///< of the mean loss's gradient, over all parameters, before clipping
  double loss_scale = 1;     ///< that the step had
  bool skipped = false;      ///< its gradient was not finite with that scale: the weights are as they were
  bool stop = false;         ///< some rank wants to leave
  std::int64_t next_generation = 0;  ///< the one that all ranks are ready to change to; 0: none
  bool all_can_save = false;
  StepParts parts;                    ///< of this rank
  Duration collectives{};             ///< how long this rank's were under way, beside backward and after it
  std::vector<std::int64_t> words{};  ///< what all said, see StepSpec
  /// All ranks' `consumed`, added up modulo 2^64: exact for up to 65,536 ranks.
  std::uint64_t consumed = 0;
  /// In every sixteenth step, as it takes another look at all gradients, and not in reproducible mode.
  std::optional<GradientSpread> spread{};
};

/// A named piece of what training has come to, as memory. Views; they stay where they are.
struct StatePart {
  std::string name;
  std::span<std::byte> bytes;
};

class GradientSums;

/// A model, its gradients in buckets that the ranks of a node share or that are on their GPUs, and the
/// optimizer on flat memory. One thread; the communicator is used by nobody else meanwhile. Parameters and
/// buffers are the same bits on every rank after each step.
///
/// Ranks may be lost: when step() fails because of another rank, this one's weights are as before the step,
/// and it either holds all of the step's reduced gradients or doesn't. If any rank has applied the step, all
/// others hold them (a rank applies after a commit that all took part in, and takes part when it holds them),
/// so the survivors can agree to roll_forward() or to do the step again, and go on with enter().
class Trainer {
 public:
  /// Collective. `communicator` and `model` must outlive the trainer, and the module's parameters must not be
  /// replaced or moved after this. Errors: no trainable parameters, other types than f32, a type
  /// to compute in that LibTorch lacks here.
  [[nodiscard]] static Result<Trainer> make(Communicator& communicator, Model& model, TrainerOptions options);

  Trainer(Trainer&&) noexcept;
  Trainer& operator=(Trainer&&) noexcept;
  ~Trainer();

  /// Collective: one optimizer update over the global batch, of which `passes` are this rank's part (none is
  /// allowed). On an error nothing was applied, except where it says that weights are no longer finite, and
  /// no collective of the step is going on any more. When reproducible, all ranks' passes may run once more,
  /// because a gradient had outgrown its scale.
  [[nodiscard]] Result<StepOutcome> step(const StepSpec& spec, std::span<const Pass> passes);

  /// After a step() that failed: whether all of its gradients had been reduced, so that it can be applied.
  [[nodiscard]] bool holds_reduced() const noexcept;
  /// Applies the step whose gradients are held. Local. Its parts are those of the step() that failed, with
  /// this update. What the ranks agree on in a commit (`stop`, `next_generation`, `all_can_save`, `words`) is
  /// not set in the outcome.
  [[nodiscard]] Result<StepOutcome> roll_forward();

  /// Memory for gradients that the ranks of a communicator share. Must not outlive that.
  class Buffers {
   public:
    Buffers(Buffers&&) noexcept;
    Buffers& operator=(Buffers&&) noexcept;
    ~Buffers();

   private:
    friend Trainer;
    explicit Buffers(std::unique_ptr<GradientSums> sums);
    std::unique_ptr<GradientSums> sums_;
  };
  /// Collective over the ranks of `communicator`: the slow part of enter(). Any thread, also beside step()
  /// with other ranks. Errors: no memory; mismatch, where ranks that must be reproducible compute
  /// differently.
  [[nodiscard]] Result<Buffers> make_buffers(Communicator& communicator) const;
  /// From now on with these ranks, and the buffers made for them. What was held of a failed step is gone. The
  /// weights stay as they are; whoever comes new gets them by state(). `communicator` must outlive the
  /// trainer or the next enter().
  void enter(Communicator& communicator, Buffers buffers);
  /// Collective: both, without memory for the gradients of both. After an error it must be called again.
  [[nodiscard]] Status enter(Communicator& communicator);

  /// Everything that lasts from step to step and isn't the same function of the job on every rank: weights,
  /// buffers, optimizer, moving averages, scales. The same names and sizes in the same order on every rank.
  /// In the host's memory, as it was when the last step ended; of a model on a GPU that is a copy, which the
  /// first call after a step makes. Until the next step it may be copied out, and copied in on a rank that is
  /// to go on from there, which then calls adopt_state(). internal: the GPU failed.
  [[nodiscard]] Result<std::vector<StatePart>> state();
  [[nodiscard]] std::int64_t state_bytes();  ///< of all of its parts
  /// What was copied into the state, since it was asked for last, is what the model computes with from now
  /// on. Does nothing where that is on the CPU. internal: the GPU failed.
  [[nodiscard]] Status adopt_state();

  /// Puts the module into evaluation mode with the committed normalisation statistics. step() goes back by
  /// itself.
  void prepare_evaluation();

  [[nodiscard]] std::int64_t parameters() const noexcept;  ///< trainable elements
  [[nodiscard]] int buckets() const noexcept;
  /// Gradients go from device to device, and not through the ranks' communicator.
  [[nodiscard]] bool sums_on_devices() const noexcept;

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
/// end) and adds up all ranks'. Exact: every sample counts once. The module must be in evaluation mode;
/// batches follow it to its device.
[[nodiscard]] Result<Evaluation> evaluate(Communicator& communicator, Model& model,
                                          const std::function<Result<Batch>()>& next,
                                          ComputeType compute = ComputeType::f32,
                                          const OnBrokenDevice& on_broken_device = {});

}  // namespace paceline
