#include "gradients.hpp"

#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/utils/lambda_post_hook.h>
#include <torch/csrc/autograd/variable.h>

#include "paceline/base/text.hpp"

namespace paceline {

Gradients::Gradients(std::vector<torch::Tensor> parameters, std::vector<std::string> names,
                     std::unique_ptr<GradientSums> sums, const ComputeDevice& device)
    : parameters_(std::move(parameters)),
      names_(std::move(names)),
      sums_(std::move(sums)),
      on_device_(device.apart) {
  if (device.apart && !sums_->on_device()) downloads_.emplace(device);
  attach_hooks();
}

Gradients::~Gradients() {
  for (std::size_t i = 0; i < accumulators_.size(); ++i) accumulators_[i]->del_post_hook(hooks_[i]);
  [[maybe_unused]] const Status ended = wait();  // nobody may write to memory that is gone
}

void Gradients::attach_hooks() {
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    auto accumulator = torch::autograd::impl::grad_accumulator(parameters_[i]);
    auto hook = std::make_unique<torch::autograd::utils::LambdaPostHook>(
        [this, i](const torch::autograd::variable_list& outputs, const torch::autograd::variable_list&) {
          deliver(i);
          return outputs;
        });
    hooks_.push_back(accumulator->add_post_hook(std::move(hook)));
    accumulators_.push_back(std::move(accumulator));
  }
}

void Gradients::begin_step(const StepSpec& spec, bool again) {
  last_pass_ = false;
  if (downloads_) downloads_->clear();
  delivered_.assign(parameters_.size(), false);
  finished_.assign(parameters_.size(), false);
  missing_.clear();
  for (const BucketLayout::Bucket& bucket : layout().buckets) missing_.push_back(bucket.parameters.size());
  missing_.back() += 1;  // the tail
  started_ = 0;
  works_.clear();
  trouble_ = {};
  sums_->begin(spec, again);
  for (torch::Tensor& parameter : parameters_) parameter.mutable_grad() = torch::Tensor();
}

/// Backward has left this parameter's gradient of the current pass with it. In a thread of LibTorch's where
/// that is on a GPU; who called backward waits for it.
void Gradients::deliver(std::size_t i) {
  const torch::NoGradGuard no_grad;
  // On a device LibTorch adds up passes, and their sum is taken.
  if (on_device_ && !last_pass_ && !sums_->takes_each_pass()) return;
  // Taken away, so that the next pass hands over a fresh tensor instead of adding to this one.
  const torch::Tensor gradient = std::exchange(parameters_[i].mutable_grad(), torch::Tensor());
  if (!gradient.defined()) return;
  if (gradient.is_sparse()) {
    trouble_ = Error{ErrorCode::unsupported, concat("the gradient of ", names_[i],
                                                    " is sparse: use a dense one (for an embedding "
                                                    "sparse(false))")};
    return;
  }
  if (downloads_)
    downloads_->begin(i, gradient, last_pass_);
  else
    add(i, gradient, last_pass_);
}

void Gradients::add(std::size_t i, const torch::Tensor& gradient, bool last) {
  sums_->add(i, gradient, !delivered_[i]);
  delivered_[i] = true;
  if (!last || finished_[i]) return;
  finished_[i] = true;
  complete(layout().bucket_of[i]);
}

void Gradients::end_pass() {
  if (!downloads_) return;
  const torch::NoGradGuard no_grad;
  while (const auto arrived = downloads_->next()) add(arrived->parameter, arrived->gradient, arrived->last);
}

void Gradients::finish_tail() {
  complete(layout().buckets.size() - 1);
}

/// One thing less is missing in `bucket`; starts all buckets whose turn it is.
void Gradients::complete(std::size_t bucket) {
  --missing_[bucket];
  for (; started_ < missing_.size() && missing_[started_] == 0; ++started_)
    if (trouble_.ok()) trouble_ = sums_->start(layout().buckets[started_], works_);
}

/// Gradients of earlier passes, on a device, of parameters that the last one did not reach.
void Gradients::take_what_is_left() {
  if (!on_device_ || !last_pass_) return;
  for (std::size_t i = 0; i < parameters_.size(); ++i)
    if (!finished_[i] && parameters_[i].grad().defined()) deliver(i);
  end_pass();
}

Status Gradients::finish_local() {
  take_what_is_left();
  if (!trouble_.ok()) return trouble_;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    if (finished_[i]) continue;
    if (!delivered_[i]) sums_->clear(i);
    finished_[i] = true;
    complete(layout().bucket_of[i]);
  }
  if (!trouble_.ok()) return trouble_;
  return sums_->finish(works_);
}

Status Gradients::wait() {
  const Status ended = wait_all(works_);
  if (!ended.ok()) sums_->give_up(ended.error());
  return ended;
}

void Gradients::give_up(const Error& why) {
  sums_->give_up(why);
  [[maybe_unused]] const Status ended = wait_all(works_);
}

}  // namespace paceline
