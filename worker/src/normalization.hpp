#pragma once

#include <torch/torch.h>

#include <functional>
#include <span>
#include <vector>

namespace paceline {

/// Batch norms under data parallelism. Each pass takes statistics of its own samples; they are weighted by
/// samples, summed over all passes and ranks with the gradients, and only when the step commits become one
/// update of the moving averages. So the averages are the same on every rank and no rank's are lost.
///
/// A module computes its moving average as (1 - momentum) * old + momentum * new. With its momentum set to 1
/// what it leaves in its buffers after a pass is the pass's own statistics, ready to be taken from there; the
/// averages that count are kept here and put back for evaluation.
class NormalizationStatistics {
 public:
  /// Takes over the batch norms of `module`, wherever they are in it, until its own end; it is outlived by
  /// `module`.
  explicit NormalizationStatistics(torch::nn::Module& module);
  /// Gives them their momentum back: a module whose trainer could not be made may be taken over again.
  ~NormalizationStatistics();
  NormalizationStatistics(const NormalizationStatistics&) = delete;
  NormalizationStatistics& operator=(const NormalizationStatistics&) = delete;

  /// Values that one pass adds to the sum.
  [[nodiscard]] std::size_t elements() const noexcept { return elements_; }
  /// The same by buffer.
  [[nodiscard]] std::vector<std::size_t> elements_of_buffers() const;
  /// Adds the statistics that the last pass left in the modules, times `weight`.
  void collect(std::span<float> sum, float weight) const;
  /// The step has committed: `sum` is over all passes of all ranks, of total weight 1.
  void commit(std::span<const float> sum);
  /// All of its state, for copying out and in: the committed averages, and how many steps are in them.
  struct State {
    std::vector<torch::Tensor> averages;  ///< f32, contiguous
    std::int64_t& steps;
  };
  [[nodiscard]] State state();
  /// Whether `buffer` is one of a batch norm's, which hold a pass's statistics while training.
  [[nodiscard]] bool owns(const torch::Tensor& buffer) const;
  /// Puts the committed averages into the modules' buffers, for evaluation or saving.
  void publish() const;

 private:
  struct Entry {
    torch::Tensor buffer;     // the module's
    torch::Tensor committed;  // ours
    torch::Tensor batches;    // num_batches_tracked; undefined for the second buffer of a module
    double momentum = 0.1;
    bool cumulative = false;  // momentum none: a plain average over all steps
  };
  void add(torch::Tensor& mean, torch::Tensor& variance, torch::Tensor& batches,
           const c10::optional<double>& momentum);

  std::vector<Entry> entries_;
  std::vector<std::function<void()>> give_back_;
  std::size_t elements_ = 0;
  std::int64_t steps_ = 0;
};

}  // namespace paceline
