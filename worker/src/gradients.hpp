#pragma once

#include <torch/torch.h>

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bucket_layout.hpp"
#include "paceline/allreduce.hpp"
#include "paceline/base/clock.hpp"
#include "paceline/base/result.hpp"

namespace paceline {

/// The gradients of one step, in buckets in memory that the ranks of a node share. Backward delivers each
/// parameter's gradient through a hook; it goes into its bucket (copied by the step's first pass, added by
/// later ones), and a bucket that is complete is reduced while backward goes on. Buckets start in one order,
/// the same for all ranks.
class Gradients {
 public:
  [[nodiscard]] static Result<std::unique_ptr<Gradients>> make(
      Communicator& communicator, std::vector<torch::Tensor> parameters, std::vector<std::string> names,
      std::size_t tail_elements, torch::MemoryFormat images, std::size_t bucket_elements);
  ~Gradients();
  Gradients(const Gradients&) = delete;
  Gradients& operator=(const Gradients&) = delete;

  void begin_step();
  /// From now on a delivered gradient is its parameter's last in this step.
  void begin_last_pass() noexcept { last_pass_ = true; }
  /// The tail is complete.
  void finish_tail();
  /// Backward is over (or this rank has no part): parameters that nothing was delivered for get zeros, and
  /// what is left is started. An error of a hook, such as a sparse gradient, is given here.
  [[nodiscard]] Status finish_local();
  /// Until all buckets are reduced.
  [[nodiscard]] Status wait();

  [[nodiscard]] const BucketLayout& layout() const noexcept { return layout_; }
  /// All gradients, tail included; between wait() and begin_step() they are the reduced ones.
  [[nodiscard]] std::span<float> all() noexcept { return {data_, layout_.elements}; }
  [[nodiscard]] std::span<float> tail() noexcept { return all().subspan(layout_.tail); }

 private:
  Gradients(Communicator& communicator, std::vector<torch::Tensor> parameters, std::vector<std::string> names,
            BucketLayout layout);
  void attach_hooks();
  void deliver(std::size_t parameter);
  void complete(std::size_t bucket);

  Communicator& communicator_;
  std::vector<torch::Tensor> parameters_;
  std::vector<std::string> names_;
  BucketLayout layout_;
  SharedBuffer buffer_;
  float* data_ = nullptr;             // buffer_'s
  std::vector<torch::Tensor> views_;  // of every parameter's place, in its shape
  // LibTorch holds these weakly: a hook fires only as long as someone keeps its node.
  std::vector<std::shared_ptr<torch::autograd::Node>> accumulators_;
  std::vector<std::uintptr_t> hooks_;

  bool last_pass_ = false;
  std::vector<bool> delivered_;
  std::vector<bool> finished_;        // parameters
  std::vector<std::size_t> missing_;  // by bucket: what is not complete yet
  std::size_t started_ = 0;           // buckets
  std::vector<Work> works_;
  std::string complaint_;
};

}  // namespace paceline
