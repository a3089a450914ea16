#pragma once

#include <torch/torch.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "downloads.hpp"
#include "gradient_sums.hpp"
#include "paceline/allreduce.hpp"
#include "paceline/base/result.hpp"

namespace paceline {

/// The gradients of one step on their way from backward into sums. Backward delivers each parameter's
/// gradient through a hook, and a bucket that is complete is reduced while backward goes on. Buckets start in
/// one order, the same for all ranks.
class Gradients {
 public:
  Gradients(std::vector<torch::Tensor> parameters, std::vector<std::string> names,
            std::unique_ptr<GradientSums> sums, const ComputeDevice& device);
  ~Gradients();
  Gradients(const Gradients&) = delete;
  Gradients& operator=(const Gradients&) = delete;

  /// `again`: see GradientSums::begin.
  void begin_step(const StepSpec& spec, bool again);
  /// From now on a delivered gradient is its parameter's last in this step.
  void begin_last_pass() noexcept { last_pass_ = true; }
  /// The tail is complete.
  void finish_tail();
  /// A backward is over: the gradients that it has left on a device are added to the sums as they arrive.
  void end_pass();
  /// The last backward is over (or this rank has no part): parameters that nothing was delivered for get
  /// zeros, and what is left is started. An error of a hook, such as a sparse gradient, is given here.
  [[nodiscard]] Status finish_local();
  /// Until all works have ended: the buckets are reduced, but for those that the sums' settle() waits for.
  [[nodiscard]] Status wait();
  /// This rank's part has failed: ends what was begun, for the other ranks too.
  void give_up(const Error& why);

  [[nodiscard]] GradientSums& sums() noexcept { return *sums_; }

 private:
  void attach_hooks();
  void deliver(std::size_t parameter);
  void add(std::size_t parameter, const torch::Tensor& gradient, bool last);
  void take_what_is_left();
  void complete(std::size_t bucket);
  [[nodiscard]] const BucketLayout& layout() const noexcept { return sums_->layout(); }

  std::vector<torch::Tensor> parameters_;
  std::vector<std::string> names_;
  std::unique_ptr<GradientSums> sums_;
  // LibTorch holds these weakly: a hook fires only as long as someone keeps its node.
  std::vector<std::shared_ptr<torch::autograd::Node>> accumulators_;
  std::vector<std::uintptr_t> hooks_;
  bool on_device_;                      // where the model computes is not the host's memory
  std::optional<Downloads> downloads_;  // there where they are to go from a device to sums on the host

  bool last_pass_ = false;
  std::vector<bool> delivered_;
  std::vector<bool> finished_;        // parameters
  std::vector<std::size_t> missing_;  // by bucket: what is not complete yet
  std::size_t started_ = 0;           // buckets
  std::vector<Work> works_;
  Status trouble_;  // of a hook
};

}  // namespace paceline
