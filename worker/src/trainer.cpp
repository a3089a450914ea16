#include "paceline/train/trainer.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include "accelerator.hpp"
#include "autocast.hpp"
#include "device_sums.hpp"
#include "exact_sums.hpp"
#include "gradients.hpp"
#include "host_copies.hpp"
#include "loss_scale.hpp"
#include "memory_format.hpp"
#include "model_memory.hpp"
#include "normalization.hpp"
#include "paceline/base/hash.hpp"
#include "paceline/base/text.hpp"
#include "shared_failure.hpp"
#include "updates.hpp"

namespace paceline {
namespace {

const SteadyClock steady_clock;

/// The commit's payload, before the words that ranks say; constant size. Reduced with min, so a maximum
/// travels negated.
struct Vote {
  std::int64_t reduced = 1;
  std::int64_t plan_least = 0;
  std::int64_t plan_greatest_negated = 0;
  std::int64_t stop_negated = 0;
  std::int64_t next_least = 0;
  std::int64_t next_greatest_negated = 0;
  std::int64_t can_save = 0;
};
constexpr std::size_t vote_numbers = sizeof(Vote) / sizeof(std::int64_t);

/// What LibTorch threw. A broken device is told first.
Error failed(const std::string& what, const std::exception& exception,
             const OnBrokenDevice& on_broken_device) {
  Error error{ErrorCode::internal, what + words_of(exception)};
  if (on_broken_device && is_broken_device(exception.what())) on_broken_device(error.message);
  return error;
}

/// Of this rank's own device, not of one that another rank tells of.
bool says_that_device_broke(const Error& error, int rank) {
  return error.code == ErrorCode::io && (error.rank < 0 || error.rank == rank) &&
         is_broken_device(error.message);
}

/// What all ranks agreed on, and said.
struct Agreement {
  Vote vote;
  std::vector<std::int64_t> words;
};

}  // namespace

class Trainer::Impl {
 public:
  Impl(Communicator& communicator, Model& model, TrainerOptions options)
      : communicator_(&communicator),
        model_(model),
        options_(std::move(options)),
        images_(image_format(model.module())),
        normalization_(model.module()),
        loss_scale_(options_.loss_scaling),
        copies_(options_.device) {}

  [[nodiscard]] Status prepare();
  [[nodiscard]] Result<StepOutcome> step(const StepSpec& spec, std::span<const Pass> passes);
  [[nodiscard]] bool holds_reduced() const { return held_.has_value(); }
  [[nodiscard]] Result<StepOutcome> roll_forward();
  [[nodiscard]] Result<std::unique_ptr<GradientSums>> make_sums(Communicator& communicator);
  void leave();
  void enter(Communicator& communicator, std::unique_ptr<GradientSums> sums);
  [[nodiscard]] Result<std::vector<StatePart>> state();
  [[nodiscard]] std::int64_t state_bytes();
  [[nodiscard]] Status adopt_state();
  void prepare_evaluation();

  [[nodiscard]] std::int64_t parameters() const { return memory_->trained_elements(); }
  [[nodiscard]] bool sums_on_devices() const { return gradients_->sums().on_device(); }
  [[nodiscard]] int buckets() const { return static_cast<int>(gradients_->sums().layout().buckets.size()); }

 private:
  [[nodiscard]] Status make_updates();
  void add_host_parts(std::vector<StatePart>& parts);
  [[nodiscard]] Result<bool> all_have_devices(Communicator& communicator) const;
  [[nodiscard]] SummedTensors summed_tensors() const;
  [[nodiscard]] bool could_sum_on_device() const { return accelerator_ != nullptr && !options_.reproducible; }
  [[nodiscard]] Status share_state_of_rank_0();
  void begin(StepPart part) const {
    if (options_.on_part) options_.on_part(part);
  }
  [[nodiscard]] Duration busy() const { return communicator_->busy() + gradients_->sums().busy(); }
  void begin_parts() { part_began_ = steady_clock.now(); }
  /// What has passed since the part before went to this one.
  void end_part(Duration& part) {
    const Instant now = steady_clock.now();
    part += now - std::exchange(part_began_, now);
  }
  [[nodiscard]] Status sum_up(const StepSpec& spec, std::span<const Pass> passes);
  [[nodiscard]] Status compute(const StepSpec& spec, std::span<const Pass> passes);
  [[nodiscard]] torch::Tensor inputs_of(const Pass& pass) const;
  [[nodiscard]] Outcome loss_of(const Batch& batch) const;
  void run_pass(const StepSpec& spec, const Pass& pass, bool last);
  [[nodiscard]] Result<Agreement> commit(const StepSpec& spec);
  [[nodiscard]] Result<StepOutcome> apply(const StepSpec& spec);
  [[nodiscard]] Result<Updates::Applied> update(const StepSpec& spec, const StepSums& sums, double factor);
  /// What ends an error's sentence about gradients that are not finite.
  [[nodiscard]] std::string_view advice() const {
    return loss_scale_.value() == 1 ? ": lower optimizer.learning_rate"
                                    : ": lower optimizer.learning_rate or loss_scale";
  }
  /// A step whose gradients are not finite.
  [[nodiscard]] bool can_be_skipped() const { return loss_scale_.follows() && !loss_scale_.exhausted(); }
  [[nodiscard]] Error gradient_is_not_finite(std::int64_t step, bool weights_are_changed) const;
  [[nodiscard]] Error failed(const std::string& what, const std::exception& exception) const {
    return paceline::failed(what, exception, options_.on_broken_device);
  }
  /// What an accelerator gave. A broken device is told first.
  template <class Given>
  [[nodiscard]] Given heard(Given given, const Communicator& ranks) const {
    if (!given.ok() && options_.on_broken_device && says_that_device_broke(given.error(), ranks.rank()))
      options_.on_broken_device(given.error().message);
    return given;
  }
  template <class Given>
  [[nodiscard]] Given heard(Given given) const {
    return heard(std::move(given), *communicator_);
  }

  Communicator* communicator_;  // does not own
  Model& model_;
  TrainerOptions options_;
  torch::MemoryFormat images_;
  NormalizationStatistics normalization_;
  LossScale loss_scale_;
  std::optional<ModelMemory> memory_;              // there once prepared
  std::unique_ptr<Accelerator> accelerator_;       // null: the model computes in the host's memory
  torch::Tensor device_gradients_;                 // with an accelerator, whose memory it is
  ExpectedMagnitudes expected_;                    // when reproducible
  std::optional<ComputeFingerprint> fingerprint_;  // the same
  std::unique_ptr<Gradients> gradients_;
  StepParts parts_;  // of the step in progress, or held
  Instant part_began_{};
  std::optional<StepSpec> held_;      // of a step whose reduced gradients have not been applied
  std::unique_ptr<Updates> updates_;  // there once prepared
  HostCopies copies_;                 // of memory_ and updates_
};

Status Trainer::Impl::prepare() {
  PACELINE_TRY(check_compute_type(options_.compute, options_.device.device));
  PACELINE_ASSIGN(memory_, ModelMemory::find(model_.module(), options_.device.device));
  if (options_.device.apart) {
    PACELINE_ASSIGN(accelerator_, make_accelerator(options_.device));
  }
  if (accelerator_ != nullptr)
    device_gradients_ = make_device_gradients(summed_tensors(), options_.device.device);
  if (options_.reproducible) {
    expected_ = no_expectations(summed_tensors());
    fingerprint_ = compute_fingerprint(options_.compute, options_.device);
  }
  PACELINE_ASSIGN(std::unique_ptr<GradientSums> sums, make_sums(*communicator_));
  enter(*communicator_, std::move(sums));
  memory_->take_over(model_.module(), gradients_->sums().layout(), images_, normalization_);
  PACELINE_TRY(make_updates());
  memory_->add_to(copies_);
  const Updates::State optimizer = updates_->state();
  copies_.add("optimizer.momentum", optimizer.momentum);
  if (optimizer.second_moment.defined()) copies_.add("optimizer.second_moment", optimizer.second_moment);
  return options_.share_state ? share_state_of_rank_0() : Status();
}

SummedTensors Trainer::Impl::summed_tensors() const {
  SummedTensors tensors;
  for (const ModelMemory::Parameter& parameter : memory_->trained()) {
    tensors.names.push_back(parameter.name);
    tensors.parameters.push_back(parameter.tensor);
  }
  tensors.statistics = normalization_.elements_of_buffers();
  tensors.images = images_;
  tensors.bucket_bytes = static_cast<std::size_t>(options_.bucket_bytes);
  return tensors;
}

/// Uses nothing that a step changes.
Result<std::unique_ptr<GradientSums>> Trainer::Impl::make_sums(Communicator& communicator) {
  if (fingerprint_) PACELINE_TRY(check_ranks_compute_alike(communicator, *fingerprint_));
  const SummedTensors tensors = summed_tensors();
  if (options_.reproducible) return make_exact_sums(communicator, tensors, expected_);
  PACELINE_ASSIGN(const bool on_devices, all_have_devices(communicator));
  if (!on_devices) return make_float_sums(communicator, tensors);
  try {
    return heard(make_device_sums(communicator, tensors, *accelerator_, device_gradients_), communicator);
  } catch (const std::exception& exception) {
    return shared_failure(communicator, failed("the ranks' GPUs cannot meet: ", exception));
  }
}

/// Collective: ranks that compute in the host's memory and others meet there.
Result<bool> Trainer::Impl::all_have_devices(Communicator& communicator) const {
  std::int32_t all = could_sum_on_device() ? 1 : 0;
  PACELINE_TRY(communicator.all_reduce(&all, 1, DataType::i32, ReduceOp::min));
  return all == 1;
}

void Trainer::Impl::leave() {
  held_.reset();
  gradients_.reset();
}

void Trainer::Impl::enter(Communicator& communicator, std::unique_ptr<GradientSums> sums) {
  leave();  // its hooks are at the same parameters
  communicator_ = &communicator;
  // Sums that ended before their time may have left anything between the gradients, where nobody writes.
  if (device_gradients_.defined()) device_gradients_.zero_();
  const SummedTensors tensors = summed_tensors();
  gradients_ =
      std::make_unique<Gradients>(tensors.parameters, tensors.names, std::move(sums), options_.device);
}

Status Trainer::Impl::make_updates() {
  const BucketLayout& layout = gradients_->sums().layout();
  UpdateRules rules{options_.optimizer, layout.tail, {}, device_gradients_};
  for (std::size_t i = memory_->trained().size(); i-- > 0;) {  // ascending places
    const torch::Tensor& tensor = memory_->trained()[i].tensor;
    const auto begin = layout.offset[i];
    if (options_.optimizer.decay_norms_and_biases || tensor.dim() >= 2)
      rules.decayed.push_back({begin, begin + static_cast<std::size_t>(tensor.numel())});
  }
  if (accelerator_ == nullptr) {
    updates_ = make_host_updates(std::move(rules));
  } else {
    PACELINE_ASSIGN(updates_, accelerator_->make_updates(std::move(rules)));
  }
  return {};
}

Status Trainer::Impl::adopt_state() {
  try {
    copies_.use();
  } catch (const std::exception& exception) {
    return failed("the GPU failed to take the training state: ", exception);
  }
  return {};
}

Result<std::vector<StatePart>> Trainer::Impl::state() {
  std::vector<StatePart> parts;
  try {
    parts = copies_.parts();
  } catch (const std::exception& exception) {
    return failed("the GPU failed to give the training state: ", exception);
  }
  add_host_parts(parts);
  return parts;
}

std::int64_t Trainer::Impl::state_bytes() {
  std::vector<StatePart> parts;
  add_host_parts(parts);
  std::int64_t bytes = copies_.bytes();
  for (const StatePart& part : parts) bytes += std::ssize(part.bytes);
  return bytes;
}

/// Those that are in the host's memory wherever the model is.
void Trainer::Impl::add_host_parts(std::vector<StatePart>& parts) {
  const auto add = [&parts](std::string name, auto span) {
    parts.push_back({std::move(name), std::as_writable_bytes(span)});
  };
  add("optimizer.updates", std::span(&updates_->state().updates, 1));
  const NormalizationStatistics::State averages = normalization_.state();
  for (std::size_t i = 0; i < averages.averages.size(); ++i)
    add(concat("normalization.", i), std::span(averages.averages[i].data_ptr<float>(),
                                               static_cast<std::size_t>(averages.averages[i].numel())));
  add("normalization.steps", std::span(&averages.steps, 1));
  if (loss_scale_.follows()) add("loss_scale", loss_scale_.state());
  if (options_.reproducible) add("reproducible.expected", std::span(expected_));
}

Status Trainer::Impl::share_state_of_rank_0() {
  PACELINE_ASSIGN(const std::vector<StatePart> parts, state());
  for (const StatePart& part : parts)
    PACELINE_TRY(communicator_->broadcast(part.bytes.data(), part.bytes.size(), DataType::u8, 0));
  return adopt_state();
}

Result<StepOutcome> Trainer::Impl::step(const StepSpec& spec, std::span<const Pass> passes) {
  PACELINE_ASSERT(spec.global_samples > 0, "a step has samples");
  if (options_.reproducible && spec.passes < 1)
    return Error{ErrorCode::invalid_argument,
                 concat("step ", spec.step, ": a reproducible step must say how many passes it has")};
  held_.reset();
  parts_ = {};
  const Duration busy_before = busy();
  begin_parts();
  PACELINE_TRY(sum_up(spec, passes));
  held_ = spec;
  begin(StepPart::commit);
  Result<Agreement> voted = commit(spec);
  end_part(parts_.commit);
  const Duration collectives = busy() - busy_before;
  PACELINE_ASSIGN(Agreement agreement, std::move(voted));
  const Vote& vote = agreement.vote;
  PACELINE_ASSIGN(StepOutcome outcome, roll_forward());
  outcome.collectives = collectives;
  outcome.stop = vote.stop_negated != 0;
  // Ranks may have prepared different ones, when one was given up and another follows.
  outcome.next_generation = vote.next_least == -vote.next_greatest_negated ? vote.next_least : 0;
  outcome.all_can_save = vote.can_save != 0;
  outcome.words = std::move(agreement.words);
  return outcome;
}

/// Until the sums over all ranks are good.
Status Trainer::Impl::sum_up(const StepSpec& spec, std::span<const Pass> passes) {
  for (bool again = false;; again = true) {
    begin(StepPart::compute);
    gradients_->begin_step(spec, again);
    const Status computed = compute(spec, passes);
    end_part(parts_.backward);
    if (!computed.ok()) {
      // The others wait for this rank's buckets.
      communicator_->abort(computed.error().message);
      gradients_->give_up(computed.error());
      return computed;
    }
    begin(StepPart::reduce);
    PACELINE_TRY(gradients_->wait());
    PACELINE_ASSIGN(const GradientSums::Verdict verdict,
                    heard(gradients_->sums().settle({can_be_skipped(), advice()})));
    end_part(parts_.reduce);
    if (verdict == GradientSums::Verdict::good) return {};
  }
}

Status Trainer::Impl::compute(const StepSpec& spec, std::span<const Pass> passes) {
  try {
    if (!model_.module().is_training()) model_.module().train();
    for (std::size_t i = 0; i < passes.size(); ++i) run_pass(spec, passes[i], i + 1 == passes.size());
    if (passes.empty()) gradients_->finish_tail();
    return heard(gradients_->finish_local());
  } catch (const std::exception& exception) {
    return failed(concat("step ", spec.step, ": the model failed: "), exception);
  }
}

torch::Tensor Trainer::Impl::inputs_of(const Pass& pass) const {
  const torch::Tensor inputs = in_format(pass.batch.inputs.to(options_.device.device), images_);
  // A library might choose its ways by how memory is aligned, which in the middle of a rank's part depends on
  // where that begins. And the pass may have to run again, after a model that works in place.
  return options_.reproducible && inputs.is_same(pass.batch.inputs) ? inputs.clone() : inputs;
}

Outcome Trainer::Impl::loss_of(const Batch& batch) const {
  const Autocast autocast(options_.compute, options_.device.device);
  return model_.loss(batch);
}

void Trainer::Impl::run_pass(const StepSpec& spec, const Pass& pass, bool last) {
  const auto samples = pass.batch.inputs.size(0);
  const auto scale = static_cast<float>(1.0 / static_cast<double>(spec.global_samples));
  torch::manual_seed(mix64(options_.seed, spec.step, pass.first_position));
  const Outcome outcome = loss_of({inputs_of(pass), pass.batch.targets.to(options_.device.device)});
  // What a model computes its loss with may have left it in 16 bits.
  const torch::Tensor loss = outcome.loss.to(torch::kFloat) * scale;
  GradientSums& sums = gradients_->sums();
  normalization_.collect(sums.statistics(), static_cast<float>(samples) * scale);
  sums.add_figures({loss.item<float>(), outcome.correct, samples});
  if (last) {
    gradients_->finish_tail();
    gradients_->begin_last_pass();
  }
  end_part(parts_.forward);
  (loss_scale_.value() == 1 ? loss : loss * loss_scale_.value()).backward();
  gradients_->end_pass();
  end_part(parts_.backward);
}

Result<StepOutcome> Trainer::Impl::roll_forward() {
  if (!held_.has_value())
    return Error{ErrorCode::internal, "there is no step whose reduced gradients are held"};
  const StepSpec spec = *std::exchange(held_, std::nullopt);
  begin_parts();
  PACELINE_ASSIGN(StepOutcome outcome, apply(spec));
  end_part(parts_.optimizer);
  outcome.parts = parts_;
  return outcome;
}

/// What all ranks agreed on: they hold the step's gradients, and cut it alike.
Result<Agreement> Trainer::Impl::commit(const StepSpec& spec) {
  const auto plan = static_cast<std::int64_t>(spec.plan_hash >> 1);  // positive, so that it can be negated
  Agreement agreement;
  Vote& vote = agreement.vote;
  vote = {
      1, plan, -plan, spec.stop ? -1 : 0, spec.next_generation, -spec.next_generation, spec.can_save ? 1 : 0};
  const std::vector<std::int64_t> words = spec.words ? spec.words(parts_) : std::vector<std::int64_t>();
  std::vector<std::int64_t> ballot(vote_numbers + words.size());
  std::memcpy(ballot.data(), &vote, sizeof vote);
  std::ranges::copy(words, ballot.begin() + vote_numbers);
  PACELINE_TRY(communicator_->all_reduce(ballot.data(), ballot.size(), DataType::i64, ReduceOp::min));
  std::memcpy(static_cast<void*>(&vote), ballot.data(), sizeof vote);
  if (vote.plan_least != -vote.plan_greatest_negated)
    return Error{ErrorCode::mismatch,
                 concat("step ", spec.step,
                        ": the ranks do not cut the step in the same way: they must have the "
                        "same job file, dataset and shares")};
  PACELINE_ASSERT(vote.reduced == 1, "no rank votes before its buckets are reduced");
  agreement.words.assign(ballot.begin() + vote_numbers, ballot.end());
  return agreement;
}

Result<StepOutcome> Trainer::Impl::apply(const StepSpec& spec) {
  begin(StepPart::apply);
  PACELINE_ASSIGN(const StepSums sums, gradients_->sums().read_out());
  StepOutcome outcome;
  outcome.loss = sums.loss;
  outcome.accuracy = sums.accuracy;
  outcome.consumed = sums.consumed;
  outcome.spread = sums.spread;
  // Rounding apart the samples of all passes are the global batch; a plan that lost some would show here.
  if (std::abs(sums.samples - 1.0) > 1e-3)
    return Error{ErrorCode::mismatch, concat("step ", spec.step, ": the ranks together had ",
                                             sums.samples * static_cast<double>(spec.global_samples),
                                             " samples where the step has ", spec.global_samples)};
  if (!std::isfinite(outcome.loss)) return loss_is_not_finite(spec.step);
  outcome.loss_scale = loss_scale_.value();
  const double factor = 1 / loss_scale_.value();
  if (outcome.spread) outcome.spread->mean_squared_norm *= factor * factor;
  PACELINE_ASSIGN(const Updates::Applied applied, update(spec, sums, factor));
  outcome.gradient_norm = std::sqrt(applied.squares);
  outcome.skipped = !std::isfinite(applied.squares);
  if (outcome.skipped && !can_be_skipped()) return gradient_is_not_finite(spec.step, applied.changed);
  loss_scale_.observe(!outcome.skipped);
  if (outcome.skipped) return outcome;
  normalization_.commit(sums.statistics);
  gradients_->sums().publish();
  return outcome;
}

/// Of weights, and of what goes with them.
Result<Updates::Applied> Trainer::Impl::update(const StepSpec& spec, const StepSums& sums, double factor) {
  copies_.outdate();  // in any case: passes may have changed a model's buffers
  if (!sums.finite) return Updates::Applied{std::numeric_limits<double>::infinity(), false};
  try {
    return heard(updates_->apply(memory_->parameters(), sums.gradients, spec.learning_rate,
                                 {factor, loss_scale_.follows()}));
  } catch (const std::exception& exception) {
    return failed(concat("step ", spec.step, ": the GPU failed: "), exception);
  }
}

Error Trainer::Impl::gradient_is_not_finite(std::int64_t step, bool weights_are_changed) const {
  return Error{ErrorCode::invalid_argument, concat("a gradient is not finite at step ", step,
                                                   weights_are_changed ? ", so the weights are not either"
                                                                       : "; the weights are as they were",
                                                   advice())};
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
    auto impl = std::make_unique<Impl>(communicator, model, std::move(options));
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
Trainer::Buffers::Buffers(std::unique_ptr<GradientSums> sums) : sums_(std::move(sums)) {
}
Trainer::Buffers::Buffers(Buffers&&) noexcept = default;
Trainer::Buffers& Trainer::Buffers::operator=(Buffers&&) noexcept = default;
Trainer::Buffers::~Buffers() = default;

Result<Trainer::Buffers> Trainer::make_buffers(Communicator& communicator) const {
  PACELINE_ASSIGN(std::unique_ptr<GradientSums> sums, impl_->make_sums(communicator));
  return Buffers(std::move(sums));
}
void Trainer::enter(Communicator& communicator, Buffers buffers) {
  impl_->enter(communicator, std::move(buffers.sums_));
}
Status Trainer::enter(Communicator& communicator) {
  impl_->leave();
  PACELINE_ASSIGN(Buffers buffers, make_buffers(communicator));
  enter(communicator, std::move(buffers));
  return {};
}
Result<std::vector<StatePart>> Trainer::state() {
  return impl_->state();
}
std::int64_t Trainer::state_bytes() {
  return impl_->state_bytes();
}
Status Trainer::adopt_state() {
  return impl_->adopt_state();
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
bool Trainer::sums_on_devices() const noexcept {
  return impl_->sums_on_devices();
}

Result<Evaluation> evaluate(Communicator& communicator, Model& model,
                            const std::function<Result<Batch>()>& next, ComputeType compute,
                            const OnBrokenDevice& on_broken_device) {
  const std::vector<torch::Tensor> parameters = model.module().parameters();
  const torch::Device device = parameters.empty() ? torch::Device(torch::kCPU) : parameters.front().device();
  PACELINE_TRY(check_compute_type(compute, device));
  double sums[3] = {};  // loss, correct, samples
  try {
    const torch::NoGradGuard no_grad;
    const Autocast autocast(compute, device);
    const torch::MemoryFormat images = image_format(model.module());
    while (true) {
      PACELINE_ASSIGN(const Batch batch, next());
      if (!batch.inputs.defined()) break;
      const torch::Tensor inputs = in_format(batch.inputs.to(device), images);
      const Outcome outcome = model.loss({inputs, batch.targets.to(device)});
      sums[0] += outcome.loss.item<double>();
      sums[1] += outcome.correct;
      sums[2] += static_cast<double>(batch.inputs.size(0));
    }
  } catch (const std::exception& exception) {
    return failed("evaluation: the model failed: ", exception, on_broken_device);
  }
  PACELINE_TRY(communicator.all_reduce(sums, 3, DataType::f64));
  if (sums[2] == 0) return Error{ErrorCode::invalid_argument, "there are no samples to evaluate"};
  return Evaluation{sums[0] / sums[2], sums[1] / sums[2], static_cast<std::int64_t>(sums[2])};
}

}  // namespace paceline
