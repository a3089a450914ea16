#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bucket_layout.hpp"
#include "paceline/allreduce.hpp"
#include "paceline/base/result.hpp"
#include "paceline/train/trainer.hpp"

namespace paceline {

/// What a pass adds to the sums beside its gradients and statistics.
struct PassFigures {
  float loss = 0;  ///< sum over its samples, over the number of samples in the step
  double correct = 0;
  std::int64_t samples = 0;
};

/// What the passes of all ranks come to. Views of memory that stays until the next step begins.
struct StepSums {
  torch::Tensor gradients;            ///< flat, in the layout's places; on the device if on_device()
  std::span<const float> statistics;  ///< in the order in which passes add them
  double loss = 0;                    ///< mean over the step's samples
  double accuracy = 0;
  double samples = 0;  ///< what the passes had, of what the step has; rounding apart 1
  std::uint64_t consumed = 0;
  std::optional<GradientSpread> spread;
  bool finite =
      true;  ///< false: a gradient is known not to be, and neither gradients nor statistics are sums
};

/// Tensors whose sums are wanted: gradients in registration order, and normalisation statistics.
struct SummedTensors {
  std::vector<std::string> names;                                ///< of the parameters
  std::vector<torch::Tensor> parameters;                         ///< for their shapes
  std::vector<std::size_t> statistics;                           ///< elements of each
  torch::MemoryFormat images = torch::MemoryFormat::Contiguous;  ///< of gradients of 4 dimensions
  std::size_t bucket_bytes = 0;                                  ///< about

  /// The buckets for elements of this size, with so many figures before the statistics in their tail.
  [[nodiscard]] BucketLayout layout(std::size_t element_bytes, std::size_t figures) const;
  /// The same places and buckets without a tail.
  [[nodiscard]] BucketLayout layout_of_gradients(std::size_t element_bytes) const;
  [[nodiscard]] std::size_t statistic_elements() const;

 private:
  [[nodiscard]] BucketLayout layout_with(std::size_t element_bytes, std::size_t tail_elements) const;
};

/// Where one step's gradients, statistics and figures are added up: passes of this rank first, then the
/// ranks, bucket by bucket. Three kinds: f32 in the host's memory, f32 in the memory of the ranks' devices,
/// and fixed point for reproducible mode, in the host's.
///
/// begin(), then add() for each parameter and add_figures() for each pass, start() for each bucket once
/// nothing more is added to it, and finish(). When what those began has ended, settle() says what the sums
/// came to. What lasts from step to step changes in publish() alone.
class GradientSums {
 public:
  GradientSums() = default;
  GradientSums(const GradientSums&) = delete;
  GradientSums& operator=(const GradientSums&) = delete;
  virtual ~GradientSums() = default;

  [[nodiscard]] virtual const BucketLayout& layout() const noexcept = 0;
  /// Whether add() takes gradients where the model computes them, else from the host's memory.
  [[nodiscard]] virtual bool on_device() const noexcept { return false; }
  /// How long sums were under way that the ranks' communicator knows nothing of.
  [[nodiscard]] virtual Duration busy() const { return {}; }

  /// `again`: it is the step of before, whose passes settle() wanted once more.
  virtual void begin(const StepSpec& spec, bool again) = 0;
  /// Whether each pass's gradient must be added for itself. false: what several come to, added up in their
  /// order, will do.
  [[nodiscard]] virtual bool takes_each_pass() const noexcept = 0;
  /// One pass's gradient; `first`: nothing has been added to this parameter's since begin().
  virtual void add(std::size_t parameter, const torch::Tensor& gradient, bool first) = 0;
  /// No pass had a gradient for it.
  virtual void clear(std::size_t parameter) = 0;
  /// Where a pass adds its statistics, weighted so that the weights of all passes add up to 1, before it
  /// gives its figures.
  [[nodiscard]] virtual std::span<float> statistics() = 0;
  virtual void add_figures(const PassFigures& figures) = 0;
  /// Begins to sum a bucket over the ranks. All figures have been added before the last one.
  [[nodiscard]] virtual Status start(const BucketLayout::Bucket& bucket, std::vector<Work>& works) = 0;
  /// All buckets have been started: begins what else the ranks must combine.
  [[nodiscard]] virtual Status finish(std::vector<Work>& /*works*/) { return {}; }
  /// Ends, on every rank, what was begun and is in no `works`.
  virtual void give_up(const Error& /*why*/) {}

  /// Waits for what is in no `works`. The same on every rank: whether the sums are good, or all ranks' passes
  /// must run again. An error: they will never be good, among them gradients that aren't finite where the
  /// step may not be skipped; where it may, they show in the sums.
  enum class Verdict { good, again };
  struct NotFinite {
    bool may_skip = false;
    std::string_view advice;  ///< else: ends the error's sentence
  };
  [[nodiscard]] virtual Result<Verdict> settle(const NotFinite& /*rules*/) { return Verdict::good; }
  [[nodiscard]] virtual Result<StepSums> read_out() = 0;
  /// The step has been applied.
  virtual void publish() {}
};

[[nodiscard]] Error loss_is_not_finite(std::int64_t step);

/// Sums in f32. Collective over the ranks of a node, which share the buckets' memory.
[[nodiscard]] Result<std::unique_ptr<GradientSums>> make_float_sums(Communicator& communicator,
                                                                    const SummedTensors& tensors);

}  // namespace paceline
