#include "paceline/train/trainer.hpp"

#include <cmath>
#include <optional>
#include <unordered_set>

#include "gradients.hpp"
#include "limbs.hpp"
#include "memory_format.hpp"
#include "normalization.hpp"
#include "paceline/base/hash.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

const SteadyClock steady_clock;

// What the tail begins with: figures, each divided by the global sample count, then the limbs of what was
// consumed. Normalisation statistics follow.
enum Figure : std::size_t {
  loss_figure,
  correct_figure,
  sample_figure,
  consumed_figure,
  figures = consumed_figure + limb_count
};

struct NamedTensor {
  std::string name;
  torch::Tensor tensor;
};

/// Trainable parameters in registration order, tied ones once.
Result<std::vector<NamedTensor>> trainable_parameters(torch::nn::Module& module) {
  std::vector<NamedTensor> found;
  std::unordered_set<const void*> seen;
  for (const auto& item : module.named_parameters()) {
    const torch::Tensor& tensor = item.value();
    if (!tensor.requires_grad() || !seen.insert(tensor.unsafeGetTensorImpl()).second) continue;
    if (tensor.scalar_type() != torch::kFloat || !tensor.device().is_cpu())
      return Error{ErrorCode::unsupported, concat("parameter ", item.key(), " is ", tensor.toString(),
                                                  ": only f32 parameters on the CPU can be trained")};
    found.push_back({item.key(), tensor});
  }
  if (found.empty())
    return Error{ErrorCode::invalid_argument, "the model has no parameters that can be trained"};
  return found;
}

/// The commit's payload; constant size. Reduced with min, so a maximum travels negated.
struct Vote {
  std::int64_t reduced = 1;
  std::int64_t plan_least = 0;
  std::int64_t plan_greatest_negated = 0;
  std::int64_t stop_negated = 0;
  std::int64_t next_generation = 0;
};

}  // namespace

class Trainer::Impl {
 public:
  Impl(Communicator& communicator, Model& model, TrainerOptions options)
      : communicator_(&communicator),
        model_(model),
        options_(options),
        images_(image_format(model.module())),
        normalization_(model.module()) {}

  [[nodiscard]] Status prepare();
  [[nodiscard]] Result<StepOutcome> step(const StepSpec& spec, std::span<const Pass> passes);
  [[nodiscard]] bool holds_reduced() const { return held_.has_value(); }
  [[nodiscard]] Result<StepOutcome> roll_forward();
  [[nodiscard]] Status enter(Communicator& communicator);
  [[nodiscard]] std::vector<StatePart> state();
  void prepare_evaluation();

  [[nodiscard]] std::int64_t parameters() const { return parameter_elements_; }
  [[nodiscard]] int buckets() const { return static_cast<int>(gradients_->layout().buckets.size()); }

 private:
  void take_over_parameters();
  void find_other_tensors();
  [[nodiscard]] Status make_gradients();
  [[nodiscard]] Status share_state_of_rank_0();
  [[nodiscard]] Status compute(const StepSpec& spec, std::span<const Pass> passes);
  void run_pass(const StepSpec& spec, const Pass& pass, bool last);
  [[nodiscard]] Result<Vote> commit(const StepSpec& spec);
  [[nodiscard]] Result<StepOutcome> apply(const StepSpec& spec);

  Communicator* communicator_;  // does not own
  Model& model_;
  TrainerOptions options_;
  torch::MemoryFormat images_;
  NormalizationStatistics normalization_;
  std::vector<NamedTensor> trained_;
  std::vector<NamedTensor> others_;  // buffers and frozen parameters
  std::unique_ptr<Gradients> gradients_;
  std::optional<StepSpec> held_;          // of a step whose reduced gradients have not been applied
  torch::Tensor flat_parameters_;         // places as in the gradients' layout
  std::vector<FlatOptimizer> optimizer_;  // exactly one, once prepared
  std::int64_t parameter_elements_ = 0;
};

Status Trainer::Impl::prepare() {
  PACELINE_ASSIGN(trained_, trainable_parameters(model_.module()));
  for (const NamedTensor& parameter : trained_) parameter_elements_ += parameter.tensor.numel();
  PACELINE_TRY(make_gradients());
  take_over_parameters();
  find_other_tensors();
  return options_.share_state ? share_state_of_rank_0() : Status();
}

Status Trainer::Impl::make_gradients() {
  std::vector<torch::Tensor> tensors;
  std::vector<std::string> names;
  for (const NamedTensor& parameter : trained_) {
    tensors.push_back(parameter.tensor);
    names.push_back(parameter.name);
  }
  PACELINE_ASSIGN(gradients_,
                  Gradients::make(*communicator_, tensors, names, figures + normalization_.elements(),
                                  images_, static_cast<std::size_t>(options_.bucket_bytes) / sizeof(float)));
  return {};
}

Status Trainer::Impl::enter(Communicator& communicator) {
  held_.reset();
  gradients_.reset();  // its memory belongs to the ranks of before
  communicator_ = &communicator;
  return make_gradients();
}

/// Moves the parameters into flat memory, in the places of their gradients.
void Trainer::Impl::take_over_parameters() {
  const torch::NoGradGuard no_grad;
  const BucketLayout& layout = gradients_->layout();
  flat_parameters_ = torch::zeros({static_cast<std::int64_t>(layout.tail)}, torch::kFloat);
  std::vector<FlatOptimizer::Range> decayed;
  for (std::size_t i = trained_.size(); i-- > 0;) {  // ascending places
    torch::Tensor& tensor = trained_[i].tensor;
    const auto begin = layout.offset[i];
    const auto size = static_cast<std::size_t>(tensor.numel());
    const torch::Tensor place =
        place_in_flat_memory(flat_parameters_.data_ptr<float>() + begin, tensor.sizes(), images_);
    place.copy_(tensor);
    tensor.set_data(place);
    if (options_.optimizer.decay_norms_and_biases || tensor.dim() >= 2)
      decayed.push_back({begin, begin + size});
  }
  optimizer_.emplace_back(options_.optimizer, layout.tail, std::move(decayed));
}

/// What isn't trained and stays between steps all the same, in memory of one piece each.
void Trainer::Impl::find_other_tensors() {
  const torch::NoGradGuard no_grad;
  for (const auto& item : model_.module().named_buffers())
    if (!normalization_.owns(item.value())) others_.push_back({item.key(), item.value()});
  for (const auto& item : model_.module().named_parameters())
    if (!item.value().requires_grad()) others_.push_back({item.key(), item.value()});
  for (NamedTensor& other : others_)
    if (!other.tensor.is_contiguous()) other.tensor.set_data(other.tensor.contiguous());
}

std::vector<StatePart> Trainer::Impl::state() {
  std::vector<StatePart> parts;
  const auto add = [&parts](std::string name, auto span) {
    parts.push_back({std::move(name), std::as_writable_bytes(span)});
  };
  const auto add_tensor = [&parts](std::string name, const torch::Tensor& tensor) {
    parts.push_back({std::move(name), {static_cast<std::byte*>(tensor.data_ptr()), tensor.nbytes()}});
  };
  add_tensor("parameters", flat_parameters_);
  for (const NamedTensor& other : others_) add_tensor(concat("other.", other.name), other.tensor);
  const FlatOptimizer::State optimizer = optimizer_.front().state();
  add("optimizer.momentum", optimizer.momentum);
  if (!optimizer.second_moment.empty()) add("optimizer.second_moment", optimizer.second_moment);
  add("optimizer.updates", std::span(&optimizer.updates, 1));
  const NormalizationStatistics::State averages = normalization_.state();
  for (std::size_t i = 0; i < averages.averages.size(); ++i)
    add_tensor(concat("normalization.", i), averages.averages[i]);
  add("normalization.steps", std::span(&averages.steps, 1));
  return parts;
}

Status Trainer::Impl::share_state_of_rank_0() {
  for (const StatePart& part : state())
    PACELINE_TRY(communicator_->broadcast(part.bytes.data(), part.bytes.size(), DataType::u8, 0));
  return {};
}

Result<StepOutcome> Trainer::Impl::step(const StepSpec& spec, std::span<const Pass> passes) {
  PACELINE_ASSERT(spec.global_samples > 0, "a step has samples");
  held_.reset();
  gradients_->begin_step();
  const Status computed = compute(spec, passes);
  if (!computed.ok()) {
    // The others wait for this rank's buckets.
    communicator_->abort(computed.error().message);
    [[maybe_unused]] const Status ended = gradients_->wait();
    return computed.error();
  }
  const Instant backward_ended = steady_clock.now();
  PACELINE_TRY(gradients_->wait());
  held_ = spec;
  PACELINE_ASSIGN(const Vote vote, commit(spec));
  const Duration exposed = steady_clock.now() - backward_ended;
  PACELINE_ASSIGN(StepOutcome outcome, roll_forward());
  outcome.stop = vote.stop_negated != 0;
  outcome.next_generation = vote.next_generation;
  outcome.exposed = exposed;
  return outcome;
}

Status Trainer::Impl::compute(const StepSpec& spec, std::span<const Pass> passes) {
  put_limbs(spec.consumed, gradients_->tail().subspan<consumed_figure, limb_count>());
  try {
    if (!model_.module().is_training()) model_.module().train();
    for (std::size_t i = 0; i < passes.size(); ++i) run_pass(spec, passes[i], i + 1 == passes.size());
  } catch (const std::exception& exception) {
    return Error{ErrorCode::internal, concat("step ", spec.step, ": the model failed: ", exception.what())};
  }
  if (passes.empty()) gradients_->finish_tail();
  return gradients_->finish_local();
}

void Trainer::Impl::run_pass(const StepSpec& spec, const Pass& pass, bool last) {
  const auto samples = pass.batch.inputs.size(0);
  const auto scale = static_cast<float>(1.0 / static_cast<double>(spec.global_samples));
  torch::manual_seed(mix64(options_.seed, spec.step, pass.first_position));
  Outcome outcome = model_.loss({in_format(pass.batch.inputs, images_), pass.batch.targets});
  const torch::Tensor loss = outcome.loss * scale;
  std::span<float> tail = gradients_->tail();
  tail[loss_figure] += loss.item<float>();
  tail[correct_figure] += static_cast<float>(outcome.correct) * scale;
  tail[sample_figure] += static_cast<float>(samples) * scale;
  normalization_.collect(tail.subspan(figures, normalization_.elements()),
                         static_cast<float>(samples) * scale);
  if (last) {
    gradients_->finish_tail();
    gradients_->begin_last_pass();
  }
  loss.backward();
}

Result<StepOutcome> Trainer::Impl::roll_forward() {
  if (!held_.has_value())
    return Error{ErrorCode::internal, "there is no step whose reduced gradients are held"};
  const StepSpec spec = *std::exchange(held_, std::nullopt);
  return apply(spec);
}

/// What all ranks agreed on: they hold the step's gradients, and cut it alike.
Result<Vote> Trainer::Impl::commit(const StepSpec& spec) {
  const auto plan = static_cast<std::int64_t>(spec.plan_hash >> 1);  // positive, so that it can be negated
  Vote vote{1, plan, -plan, spec.stop ? -1 : 0, spec.next_generation};
  PACELINE_TRY(
      communicator_->all_reduce(&vote, sizeof vote / sizeof(std::int64_t), DataType::i64, ReduceOp::min));
  if (vote.plan_least != -vote.plan_greatest_negated)
    return Error{ErrorCode::mismatch,
                 concat("step ", spec.step,
                        ": the ranks do not cut the step in the same way: they must have the "
                        "same job file, dataset and shares")};
  PACELINE_ASSERT(vote.reduced == 1, "no rank votes before its buckets are reduced");
  return vote;
}

Result<StepOutcome> Trainer::Impl::apply(const StepSpec& spec) {
  const std::span<const float> tail = gradients_->tail();
  StepOutcome outcome;
  outcome.loss = tail[loss_figure];
  outcome.accuracy = tail[correct_figure];
  // Rounding apart the samples of all passes are the global batch; a plan that lost some would show here.
  if (std::abs(tail[sample_figure] - 1.0F) > 1e-3F)
    return Error{ErrorCode::mismatch, concat("step ", spec.step, ": the ranks together had ",
                                             tail[sample_figure] * static_cast<float>(spec.global_samples),
                                             " samples where the step has ", spec.global_samples)};
  const auto consumed = sum_of_limbs(tail.subspan<consumed_figure, limb_count>());
  if (!consumed.has_value())
    return Error{ErrorCode::internal,
                 concat("step ", spec.step, ": figures that are whole numbers were not summed exactly")};
  outcome.consumed = *consumed;
  if (!std::isfinite(outcome.loss))
    return Error{ErrorCode::invalid_argument,
                 concat("the loss is not finite at step ", spec.step,
                        ": lower optimizer.learning_rate or lengthen the schedule's warm-up")};
  const std::size_t elements = gradients_->layout().tail;
  const double squares = optimizer_.front().apply({flat_parameters_.data_ptr<float>(), elements},
                                                  gradients_->all().first(elements), spec.learning_rate);
  outcome.gradient_norm = std::sqrt(squares);
  if (!std::isfinite(squares)) {
    const bool applied = options_.optimizer.clip_norm == 0;
    return Error{ErrorCode::invalid_argument,
                 concat("a gradient is not finite at step ", spec.step,
                        applied ? ", so the weights are not either" : "; the weights are as they were",
                        ": lower optimizer.learning_rate")};
  }
  normalization_.commit(tail.subspan(figures, normalization_.elements()));
  return outcome;
}

void Trainer::Impl::prepare_evaluation() {
  normalization_.publish();
  model_.module().eval();
}

Trainer::Trainer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {
}
Trainer::Trainer(Trainer&&) noexcept = default;
Trainer& Trainer::operator=(Trainer&&) noexcept = default;
Trainer::~Trainer() = default;

Result<Trainer> Trainer::make(Communicator& communicator, Model& model, TrainerOptions options) {
  try {
    auto impl = std::make_unique<Impl>(communicator, model, options);
    PACELINE_TRY(impl->prepare());
    return Trainer(std::move(impl));
  } catch (const std::exception& exception) {
    return Error{ErrorCode::internal, concat("cannot prepare the model: ", exception.what())};
  }
}

Result<StepOutcome> Trainer::step(const StepSpec& spec, std::span<const Pass> passes) {
  return impl_->step(spec, passes);
}
bool Trainer::holds_reduced() const noexcept {
  return impl_->holds_reduced();
}
Result<StepOutcome> Trainer::roll_forward() {
  return impl_->roll_forward();
}
Status Trainer::enter(Communicator& communicator) {
  return impl_->enter(communicator);
}
std::vector<StatePart> Trainer::state() {
  return impl_->state();
}
void Trainer::prepare_evaluation() {
  impl_->prepare_evaluation();
}
std::int64_t Trainer::parameters() const noexcept {
  return impl_->parameters();
}
int Trainer::buckets() const noexcept {
  return impl_->buckets();
}

Result<Evaluation> evaluate(Communicator& communicator, Model& model,
                            const std::function<Result<Batch>()>& next) {
  double sums[3] = {};  // loss, correct, samples
  try {
    const torch::NoGradGuard no_grad;
    const torch::MemoryFormat images = image_format(model.module());
    while (true) {
      PACELINE_ASSIGN(const Batch batch, next());
      if (!batch.inputs.defined()) break;
      const Outcome outcome = model.loss({in_format(batch.inputs, images), batch.targets});
      sums[0] += outcome.loss.item<double>();
      sums[1] += outcome.correct;
      sums[2] += static_cast<double>(batch.inputs.size(0));
    }
  } catch (const std::exception& exception) {
    return Error{ErrorCode::internal, concat("evaluation: the model failed: ", exception.what())};
  }
  PACELINE_TRY(communicator.all_reduce(sums, 3, DataType::f64));
  if (sums[2] == 0) return Error{ErrorCode::invalid_argument, "there are no samples to evaluate"};
  return Evaluation{sums[0] / sums[2], sums[1] / sums[2], static_cast<std::int64_t>(sums[2])};
}

}  // namespace paceline
