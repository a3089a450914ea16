#pragma once

/// Gradient aggregation in a LibTorch program of one's own. Header-only: needs paceline::allreduce and
/// LibTorch 1.13 or later. Four lines in a loop that is there already:
///
///     auto communicator = paceline::Communicator::from_environment();
///     auto reducer = paceline::GradientReducer::make(*communicator, *module);  // after the module's to()
///     for (...) {
///       optimizer.zero_grad();
///       loss(module->forward(...)).backward();                                 // reduces as it goes
///       const paceline::Status reduced = reducer->finish();                    // .grad is the average now
///       optimizer.step();
///     }

#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/utils/lambda_post_hook.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/torch.h>

#include <cmath>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "paceline/allreduce.hpp"
#include "paceline/base/text.hpp"

namespace paceline {

struct GradientReducerOptions {
  /// Gradients are reduced in groups of about this size, while backward makes the next ones.
  std::size_t bucket_bytes = std::size_t{1} << 20;
  /// How often backward runs before each finish(), to accumulate gradients.
  int passes = 1;
};

/// Averages the gradients of a module's parameters over all ranks while backward runs.
///
/// Every rank holds the same module, on the CPU and in f32, f64, f16 or bf16. A parameter that no pass of a
/// step has used on any rank keeps the .grad it had; one that some rank used gets the average everywhere.
/// Which parameters there are, and which of them require a gradient, is settled when it is made.
/// Threads: made, finished and destroyed by the thread that runs backward; nobody else uses the communicator
/// meanwhile. The communicator outlives it; parameters are kept alive. After an error of finish() other than
/// unsupported the communicator is dead, and .grad is undefined.
class GradientReducer {
 public:
  /// Collective: all parameters and buffers become rank 0's. unsupported: a parameter of another device or
  /// type, with its name; mismatch: the ranks' modules differ; what the communicator says.
  [[nodiscard]] static Result<GradientReducer> make(Communicator& communicator, torch::nn::Module& module,
                                                    GradientReducerOptions options = {}) {
    auto state = std::make_unique<State>(communicator, options);
    PACELINE_TRY(state->take_in(module));
    PACELINE_TRY(state->broadcast(module));
    PACELINE_TRY(state->make_buckets());
    state->attach_hooks();
    return GradientReducer(std::move(state));
  }

  /// After backward: waits until all gradients are averaged, and leaves them in .grad. unsupported: a sparse
  /// gradient, on every rank, or more passes than the options say, on the rank that made them; then .grad is
  /// what it was, and the next step begins anew.
  [[nodiscard]] Status finish() { return state_->finish(); }

 private:
  struct Parameter {
    torch::Tensor tensor;
    std::string name;
    std::size_t bucket = 0;
    std::size_t offset = 0;  // elements
    int passes_left = 0;
    torch::Tensor place;  // its part of the bucket, in its shape
  };

  /// Gradients of one type, side by side in shared memory. Behind them is a flag for each: how many ranks
  /// have used it, so that all leave alone what none has.
  struct Bucket {
    DataType type = DataType::f32;
    torch::ScalarType scalar = torch::kFloat;
    std::vector<std::size_t> parameters;
    std::size_t elements = 0;  // without the flags
    SharedBuffer memory;
    torch::Tensor flags;
    std::size_t missing = 0;
    Work work;
  };

  struct State {
    State(Communicator& communicator_, const GradientReducerOptions& options_)
        : communicator(communicator_), options(options_) {}
    State(const State&) = delete;
    State& operator=(const State&) = delete;
    ~State() {
      for (std::size_t i = 0; i < accumulators.size(); ++i) accumulators[i]->del_post_hook(hooks[i]);
      for (std::size_t i = 0; i < started; ++i)  // nobody may write to memory that is gone
        [[maybe_unused]] const Status ended = buckets[i].work.wait();
    }

    Status take_in(torch::nn::Module& module);
    Status broadcast(torch::nn::Module& module);
    Status make_buckets();
    void attach_hooks();
    void deliver(std::size_t index);
    void complete(std::size_t bucket);
    Status finish();
    void begin_step();
    std::string complaint_about(const Bucket& bucket) const;
    void write_back(Bucket& bucket);

    Communicator& communicator;
    GradientReducerOptions options;
    std::vector<Parameter> parameters;
    std::vector<Bucket> buckets;
    // LibTorch holds these weakly: a hook fires only as long as someone keeps its node.
    std::vector<std::shared_ptr<torch::autograd::Node>> accumulators;
    std::vector<std::uintptr_t> hooks;
    std::size_t started = 0;  // buckets, in their order, which is the same on all ranks
    std::string complaint;
  };

  static std::optional<DataType> data_type(torch::ScalarType type) {
    switch (type) {
      case torch::kFloat: return DataType::f32;
      case torch::kDouble: return DataType::f64;
      case torch::kHalf: return DataType::f16;
      case torch::kBFloat16: return DataType::bf16;
      default: return std::nullopt;
    }
  }

  explicit GradientReducer(std::unique_ptr<State> state) : state_(std::move(state)) {}
  std::unique_ptr<State> state_;  // hooks refer to it, so it does not move
};

inline Status GradientReducer::State::take_in(torch::nn::Module& module) {
  if (options.passes < 1 || options.bucket_bytes == 0)
    return Error{ErrorCode::invalid_argument,
                 "GradientReducerOptions: passes and bucket_bytes are at least 1"};
  std::unordered_set<const void*> known;  // a tied parameter is registered more than once
  for (const auto& item : module.named_parameters()) {
    const torch::Tensor& tensor = item.value();
    if (!tensor.requires_grad() || !known.insert(tensor.unsafeGetTensorImpl()).second) continue;
    if (!tensor.is_cpu() || !data_type(tensor.scalar_type()).has_value())
      return Error{ErrorCode::unsupported, concat("parameter ", item.key(), " is ", tensor.toString(),
                                                  ": only f32, f64, f16 and bf16 on the CPU can be reduced")};
    parameters.push_back({tensor, item.key(), 0, 0, 0, {}});
  }
  return {};
}

inline Status GradientReducer::State::broadcast(torch::nn::Module& module) {
  const torch::NoGradGuard no_grad;
  const auto from_rank_0 = [&](const std::string& name, torch::Tensor tensor) -> Status {
    if (!tensor.is_cpu())
      return Error{ErrorCode::unsupported, concat(name, " is on another device: move the module to the CPU")};
    torch::Tensor dense = tensor.contiguous();
    PACELINE_TRY(communicator.broadcast(dense.data_ptr(), dense.nbytes(), DataType::u8, 0));
    if (!dense.is_same(tensor)) tensor.copy_(dense);
    return {};
  };
  for (const auto& item : module.named_parameters()) PACELINE_TRY(from_rank_0(item.key(), item.value()));
  for (const auto& item : module.named_buffers()) PACELINE_TRY(from_rank_0(item.key(), item.value()));
  return {};
}

/// In the reverse of the registration, which is about the order in which backward finishes them.
inline Status GradientReducer::State::make_buckets() {
  for (std::size_t i = parameters.size(); i-- > 0;) {
    Parameter& parameter = parameters[i];
    const torch::ScalarType scalar = parameter.tensor.scalar_type();
    const auto elements = static_cast<std::size_t>(parameter.tensor.numel());
    const bool fits =
        !buckets.empty() && buckets.back().scalar == scalar &&
        (buckets.back().elements + elements) * torch::elementSize(scalar) <= options.bucket_bytes;
    if (!fits) {
      buckets.emplace_back();
      buckets.back().scalar = scalar;
      buckets.back().type = *data_type(scalar);
    }
    parameter.bucket = buckets.size() - 1;
    parameter.offset = buckets.back().elements;
    buckets.back().parameters.push_back(i);
    buckets.back().elements += elements;
  }
  for (Bucket& bucket : buckets) {
    const std::size_t unit = torch::elementSize(bucket.scalar);
    PACELINE_ASSIGN(bucket.memory,
                    communicator.allocate((bucket.elements + bucket.parameters.size()) * unit));
    std::byte* data = bucket.memory.data();
    for (const std::size_t i : bucket.parameters)
      parameters[i].place =
          torch::from_blob(data + parameters[i].offset * unit, parameters[i].tensor.sizes(), bucket.scalar);
    bucket.flags = torch::from_blob(data + bucket.elements * unit,
                                    {static_cast<std::int64_t>(bucket.parameters.size())}, bucket.scalar);
  }
  begin_step();
  return {};
}

inline void GradientReducer::State::attach_hooks() {
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    auto accumulator = torch::autograd::impl::grad_accumulator(parameters[i].tensor);
    auto hook = std::make_unique<torch::autograd::utils::LambdaPostHook>(
        [this, i](const torch::autograd::variable_list& outputs, const torch::autograd::variable_list&) {
          deliver(i);
          return outputs;
        });
    hooks.push_back(accumulator->add_post_hook(std::move(hook)));
    accumulators.push_back(std::move(accumulator));
  }
}

inline void GradientReducer::State::begin_step() {
  started = 0;
  complaint.clear();
  for (Parameter& parameter : parameters) parameter.passes_left = options.passes;
  for (Bucket& bucket : buckets) bucket.missing = bucket.parameters.size();
}

/// Backward has added to this parameter's gradient.
inline void GradientReducer::State::deliver(std::size_t index) {
  Parameter& parameter = parameters[index];
  if (parameter.passes_left == 0) {
    complaint = concat("backward made the gradient of ", parameter.name, " more often than ", options.passes,
                       " time(s) since finish(): say so in GradientReducerOptions::passes");
    return;
  }
  if (--parameter.passes_left == 0) complete(parameter.bucket);
}

/// One thing less is missing in `bucket`; starts all buckets whose turn it is.
inline void GradientReducer::State::complete(std::size_t bucket) {
  const torch::NoGradGuard no_grad;
  --buckets[bucket].missing;
  for (; started < buckets.size() && buckets[started].missing == 0; ++started) {
    Bucket& next = buckets[started];
    for (std::size_t k = 0; k < next.parameters.size(); ++k) {
      Parameter& parameter = parameters[next.parameters[k]];
      const torch::Tensor gradient = parameter.tensor.grad();
      const bool sparse = gradient.defined() && gradient.is_sparse();
      if (sparse)
        complaint = concat("the gradient of ", parameter.name,
                           " is sparse: use a dense one (for an embedding sparse(false))");
      // A step that zero_grad() began may leave a gradient of zeros where nothing was computed.
      const bool used = gradient.defined() && !sparse && parameter.passes_left < options.passes;
      // A flag that is not a number tells all ranks that one could not deliver.
      next.flags[static_cast<std::int64_t>(k)].fill_(sparse ? std::nan("") : used ? 1.0 : 0.0);
      if (used)
        parameter.place.copy_(gradient);
      else
        parameter.place.zero_();
    }
    ReduceOptions reduce;
    reduce.op = ReduceOp::average;
    void* data = next.memory.data();
    next.work =
        communicator.all_reduce_async(data, data, next.elements + next.parameters.size(), next.type, reduce);
  }
}

inline Status GradientReducer::State::finish() {
  for (Parameter& parameter : parameters)
    if (parameter.passes_left > 0) complete(parameter.bucket);
  Status first;
  for (Bucket& bucket : buckets) {
    Status status = bucket.work.wait();
    if (first.ok() && !status.ok()) first = std::move(status);
  }
  if (first.ok() && complaint.empty())
    for (const Bucket& bucket : buckets) complaint += complaint_about(bucket);
  if (first.ok() && !complaint.empty()) first = Error{ErrorCode::unsupported, complaint};
  if (first.ok())
    for (Bucket& bucket : buckets) write_back(bucket);
  begin_step();
  return first;
}

/// What another rank could not deliver; empty if there is nothing.
inline std::string GradientReducer::State::complaint_about(const Bucket& bucket) const {
  for (std::size_t k = 0; k < bucket.parameters.size(); ++k)
    if (std::isnan(bucket.flags[static_cast<std::int64_t>(k)].item<double>()))
      return concat("another rank has a sparse gradient of ", parameters[bucket.parameters[k]].name);
  return {};
}

inline void GradientReducer::State::write_back(Bucket& bucket) {
  const torch::NoGradGuard no_grad;
  for (std::size_t k = 0; k < bucket.parameters.size(); ++k) {
    if (bucket.flags[static_cast<std::int64_t>(k)].item<double>() == 0) continue;
    Parameter& parameter = parameters[bucket.parameters[k]];
    torch::Tensor& gradient = parameter.tensor.mutable_grad();
    if (gradient.defined())
      gradient.copy_(parameter.place);
    else
      gradient = parameter.place.clone();
  }
}

}  // namespace paceline
