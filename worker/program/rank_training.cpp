#include "rank_training.hpp"

#include <cmath>

#include "joining.hpp"
#include "paceline/base/log.hpp"
#include "paceline/base/text.hpp"
#include "paceline/job/journal.hpp"
#include "schedule.hpp"
#include "setup.hpp"

namespace paceline {
namespace {

const SteadyClock steady_clock;
constexpr Duration progress_interval = std::chrono::milliseconds(100);

/// For `paceline bench elastic`: how many steps in a row are alternately told of and not; 0: all are told of.
std::int64_t quiet_steps() {
  const std::optional<std::string> text = environment("PACELINE_BENCH_QUIET_STEPS");
  return text ? parse_integer(*text, 1, std::int64_t{1} << 32).value_or(0) : 0;
}

OptimizerConfig optimizer_config(const OptimizerSpec& spec) {
  OptimizerConfig config;
  config.kind = spec.kind == "adamw" ? OptimizerKind::adamw : OptimizerKind::sgd;
  config.momentum = spec.momentum;
  config.nesterov = spec.nesterov;
  config.weight_decay = spec.weight_decay;
  config.decay_norms_and_biases = spec.decay_norms_and_biases;
  config.beta1 = spec.beta1;
  config.beta2 = spec.beta2;
  config.epsilon = spec.epsilon;
  config.clip_norm = spec.clip_norm;
  return config;
}

Phase phase_of(StepPart part) {
  switch (part) {
    case StepPart::reduce: return Phase::reduce;
    case StepPart::commit: return Phase::commit;
    case StepPart::compute:
    case StepPart::apply: break;
  }
  return Phase::compute;
}

}  // namespace

RankTraining::RankTraining(const StartMessage& start, AgentLink& link, TelemetryRecorder& telemetry)
    : start_(start),
      job_(start.job),
      link_(link),
      telemetry_(telemetry),
      log_(link, steady_clock),
      quiet_steps_(quiet_steps()),
      checkpointing_(start.run_dir, link) {
}

Status RankTraining::open() {
  PACELINE_ASSIGN(device_, compute_device(job_));
  const DatasetOptions options = dataset_options(job_);
  PACELINE_ASSIGN(dataset_, Dataset::open(job_.data.train, options));
  if (!job_.data.eval.empty()) {
    PACELINE_ASSIGN(eval_dataset_, Dataset::open(job_.data.eval, options));
  }
  PACELINE_ASSIGN(input_, input_of(dataset_->info(), job_));
  PACELINE_ASSIGN(model_, build_model(job_, input_));
  budget_bytes_ = training_budget_bytes(job_.data);
  order_ = shuffled_order(dataset_->info(), static_cast<std::uint64_t>(job_.seed), job_.batch.global,
                          budget_bytes_);
  const std::optional<std::uint64_t> key = parse_hex_word(start_.consumed_key);
  if (!key) return Error{ErrorCode::corrupt, "the agent gave no key for the journal's hashes"};
  PACELINE_ASSIGN(inputs_, InputMaker::for_training(dataset_->info(), input_, job_, *key));
  inputs_->compute_on(device_);
  return make_trainer();
}

// ---- generations ------------------------------------------------------------------------------------

Status RankTraining::settle(const FormMessage& form) {
  if (form.donors == 0) {
    // Nobody has trained, so that any rank's beginning will do; and of a checkpoint any rank can have all.
    complete_ = true;
    checkpoint_ = form.checkpoint;
    counters_.committed = form.base_step;
  }
  if (!complete_ || counters_.committed == form.base_step) return {};
  if (counters_.committed + 1 != form.base_step || !trainer_->holds_reduced())
    return Error{ErrorCode::internal,
                 concat("generation ", form.generation, " begins after step ", form.base_step,
                        " and this rank is at step ", counters_.committed)};
  PACELINE_ASSIGN(const StepOutcome outcome, trainer_->roll_forward());
  return record(spec_, outcome);
}

Status RankTraining::enter(const FormMessage& form, Communicator& communicator,
                           std::optional<Trainer::Buffers> buffers) {
  const TelemetryRecorder::PhaseSpan span(telemetry_, Phase::transfer);
  form_ = form;
  communicator_ = &communicator;
  PACELINE_ASSIGN(plan_, make_plan(job_, dataset_->info().samples, communicator_->size()));
  rebalancing_.begin(form_.rank, job_.rebalance ? communicator_->size() : 1);
  if (buffers)
    trainer_->enter(*communicator_, std::move(*buffers));
  else
    PACELINE_TRY(trainer_->enter(*communicator_));
  alone_.reset();
  // Before the state: who holds that, and nobody else may then, has to know the steps that led to it.
  if (form_.donors > 0 && form_.donors < communicator_->size())
    PACELINE_TRY(log_.share(*communicator_, form_.rank >= form_.donors));
  PACELINE_ASSIGN(const Transfer transfer, share_state());
  complete_ = true;
  PACELINE_TRY(agree_where_to_begin());
  telemetry_.enter(
      {steady_clock.now(), form_.generation, form_.rank, communicator_->size(), counters_.committed},
      form_.members[static_cast<std::size_t>(form_.rank)].node);
  // `paceline bench elastic` reads this line.
  log(LogLevel::info, concat("generation ", form_.generation, " goes on after step ", counters_.committed,
                             ": ", transfer.bytes, " bytes of state came in ", to_ms(transfer.took), " ms"));
  redirect_loader();
  if (makes_checkpoints()) checkpointing_.reserve(state_bytes(), form_.rank, communicator_->size());
  PACELINE_TRY(link_.send(EnteredMessage{form_.generation}));
  return begin_to_report();
}

/// Collective: afterwards all ranks hold the state.
Result<RankTraining::Transfer> RankTraining::share_state() {
  // All read a part of the checkpoint, and give it to the others.
  const bool all_read = !form_.checkpoint.empty() && form_.donors == 0;
  // Before the first step all begin with rank 0's weights, for a plugin may draw them anew in each process.
  const std::int64_t donors = all_read ? communicator_->size() : form_.base_step == 0 ? 1 : form_.donors;
  const bool reads = !checkpoint_.empty() && form_.rank < donors;
  if (reads && all_read) {
    const CheckpointSlice slice = checkpoint_slice(state_bytes(), form_.rank, donors);
    PACELINE_TRY(load_checkpoint(&slice));
  } else if (reads) {  // another rank was lost before all had read theirs
    PACELINE_TRY(load_checkpoint(nullptr));
  }
  Transfer transfer;
  if (all_read || donors < communicator_->size()) {
    const Instant begin = steady_clock.now();
    PACELINE_ASSIGN(const std::vector<StatePart> parts, state());
    PACELINE_TRY(transfer_state(*communicator_, donors, parts, !all_read));
    transfer = {state_bytes(), steady_clock.now() - begin};
  }
  if (reads || transfer.bytes > 0) PACELINE_TRY(trainer_->adopt_state());
  checkpoint_.clear();  // not before: whoever is interrupted begins anew
  if (!reads) return transfer;
  counters_.stopped = 0;  // as the run was before
  if (counters_.committed == form_.base_step) return transfer;
  return Error{ErrorCode::corrupt, concat("the checkpoint is of step ", counters_.committed,
                                          ", and the run is to go on after step ", form_.base_step)};
}

/// Its bytes in `slice`, or all of them. The layout must be that of this job's state.
Status RankTraining::load_checkpoint(const CheckpointSlice* slice) {
  PACELINE_ASSIGN(const Checkpoint checkpoint, open_checkpoint(checkpoint_));
  PACELINE_ASSIGN(const std::vector<StatePart> parts, state());
  return read_checkpoint(checkpoint, parts, slice);
}

LeftMessage RankTraining::standing() const {
  LeftMessage left;
  left.applied = counters_.committed;
  left.reduced = complete_ && trainer_ && trainer_->holds_reduced();
  left.complete = complete_;
  return left;
}

Result<std::vector<StatePart>> RankTraining::state() {
  PACELINE_ASSIGN(std::vector<StatePart> parts, trainer_->state());
  parts.push_back(state_part(counters_));
  return parts;
}

std::int64_t RankTraining::state_bytes() {
  return trainer_->state_bytes() + std::ssize(state_part(counters_).bytes);
}

/// By itself: that takes a while, which nobody should have to wait for who trains already.
Status RankTraining::make_trainer() {
  PACELINE_ASSIGN(Communicator alone, Communicator::connect(0, std::vector<Member>(1)));
  alone_ = std::make_unique<Communicator>(std::move(alone));
  TrainerOptions options;
  options.optimizer = optimizer_config(job_.optimizer);
  options.device = device_;
  options.on_broken_device = leave_at_once;
  options.compute = compute_type(job_);
  options.loss_scaling = loss_scaling(job_);
  options.seed = static_cast<std::uint64_t>(job_.seed);
  options.share_state = false;  // enter() does
  options.reproducible = job_.reproducible;
  options.on_part = [this](StepPart part) {
    link_.activity().begin(phase_of(part));
    if (part == StepPart::apply) link_.activity().pass("apply");
  };
  auto trainer = Trainer::make(*alone_, *model_, options);
  if (!trainer.ok()) return std::move(trainer).error();
  trainer_.emplace(std::move(*trainer));
  return {};
}

/// Collective. What a rank learnt in its last moments in the generation before, others may not have: an
/// evaluation that some have not seen the end of is done again by all, and that all are to stop all know.
Status RankTraining::agree_where_to_begin() {
  std::int64_t least[4] = {counters_.committed, -counters_.committed, counters_.ended_epochs,
                           -counters_.stopped};
  PACELINE_TRY(communicator_->all_reduce(least, std::size(least), DataType::i64, ReduceOp::min));
  if (least[0] != -least[1])
    return Error{ErrorCode::internal, concat("generation ", form_.generation, " has ranks at step ", least[0],
                                             " and ranks at step ", -least[1])};
  counters_.ended_epochs = least[2];
  counters_.stopped = -least[3];
  return {};
}

void RankTraining::redirect_loader() {
  batch_.reset();
  Loader::Source source = training_source(*plan_, form_.rank, counters_.committed);
  if (loader_ != nullptr) return loader_->redirect(delivered_, std::move(source));
  LoaderOptions options = loader_options(job_);
  options.order = order_;
  options.budget_bytes = budget_bytes_;
  options.finish = [this](SampleBatch& batch) { return inputs_->finish(batch); };
  if (device_.apart) options.prefetch = 2;  // each is in the device's memory
  loader_ = std::make_unique<Loader>(*dataset_, options, std::move(source));
}

Status RankTraining::begin_to_report() {
  log_.report(leads());
  if (!leads()) return {};
  PACELINE_TRY(log_.send_all());
  const std::optional<EvalMessage> eval = counters_.eval(input_.vocabulary > 0);
  return eval ? link_.send(*eval) : Status();
}

// ---- training ---------------------------------------------------------------------------------------

Result<RankTraining::Advance> RankTraining::advance(const Wishes& wishes) {
  PACELINE_TRY(report_checkpoint());
  Advance advance;
  if (epoch_is_to_end()) {
    PACELINE_TRY(end_epoch(plan_->steps.range(counters_.committed - 1).epoch + 1));
  } else if (is_over()) {
    PACELINE_ASSIGN(advance.finished, finish());
  } else {
    PACELINE_ASSIGN(const StepOutcome outcome, train_step(counters_.committed, wishes));
    if (checkpoint_is_due()) PACELINE_TRY(checkpoint_if_possible(outcome.all_can_save));
    if (!outcome.stop) advance.next_generation = outcome.next_generation;  // to stop comes first
  }
  return advance;
}

/// This rank's part of the step, and in `spec` what it consumed.
Result<std::vector<Pass>> RankTraining::load_passes(const StepRange& step, StepSpec& spec) {
  std::vector<Pass> made;
  const PositionRange part = plan_->part_of(step.step, form_.rank);
  if (part.count == 0) return made;
  PACELINE_ASSIGN(batch_, loader_->next());
  ++delivered_;
  if (!batch_.has_value() || batch_->request() != LoadRequest{step.epoch, part.first, part.count})
    return Error{ErrorCode::internal, concat("the loader is not where step ", step.step, " is")};
  for (const PositionRange& range : plan_->passes_of(part)) {
    PACELINE_ASSIGN(Batch tensors, inputs_->tensors(*batch_, range.first - part.first, range.count));
    made.push_back({range.first, std::move(tensors)});
  }
  spec.consumed = batch_->consumed;
  return made;
}

Result<StepOutcome> RankTraining::train_step(std::int64_t step, const Wishes& wishes) {
  step_began_ = steady_clock.now();
  const Duration waited_before = loader_->figures().blocked;
  const StepRange range = plan_->steps.range(step);
  spec_ = {};
  if (quiet_steps_ > 0) link_.send_heartbeats(!is_quiet(step));
  link_.activity().at_step(step + 1);
  link_.activity().begin(Phase::data);
  PACELINE_ASSIGN(const std::vector<Pass> passes_of_step, load_passes(range, spec_));
  data_wait_ = steady_clock.now() - step_began_;
  spec_.step = step;
  spec_.global_samples = range.positions.count;
  spec_.learning_rate = learning_rate(job_, plan_->steps, step);
  spec_.plan_hash = plan_->hash(step);
  spec_.words = [this, step, waited_before](const StepParts& parts) {
    const Duration waited = loader_->figures().blocked - waited_before;
    return rebalancing_.words(step, {parts.forward + parts.backward, waited, parts.reduce}, *plan_);
  };
  spec_.stop = wishes.stop;
  spec_.passes = plan_->passes_in(range.positions.count);
  spec_.next_generation = wishes.next_generation;
  spec_.can_save = !checkpointing_.busy();
  PACELINE_ASSIGN(const StepOutcome outcome, trainer_->step(spec_, passes_of_step));
  const Duration took = steady_clock.now() - step_began_;
  counters_.trained_ns += took.count();
  counters_.stopped = outcome.stop ? 1 : 0;
  step_times_.add(took);
  const StepParts& parts = outcome.parts;
  exposed_times_.add(parts.reduce + parts.commit);
  allreduce_times_.add(outcome.collectives);
  const Duration waited = loader_->figures().blocked - waited_before;
  data_waits_.add(waited);
  waited_ += waited;
  PACELINE_TRY(record(spec_, outcome));
  link_.activity().committed(plan_->shares_at(step)[static_cast<std::size_t>(form_.rank)],
                             waited + parts.forward + parts.backward);
  PACELINE_TRY(balance(step, outcome));
  return outcome;
}

/// What the ranks said with the commit of `step`.
Status RankTraining::balance(std::int64_t step, const StepOutcome& outcome) {
  PACELINE_ASSIGN(std::optional<SharesChange> change, rebalancing_.hear(step, outcome.words, *plan_));
  if (!change) return {};
  // What is made for the steps before stays.
  std::int64_t kept = 0;
  for (std::int64_t before = step + 1; before < change->first_step; ++before)
    if (before < plan_->steps.steps() && plan_->part_of(before, form_.rank).count > 0) ++kept;
  plan_->change(change->first_step, change->shares);
  loader_->redirect(delivered_ + kept, training_source(*plan_, form_.rank, change->first_step));
  ++rebalances_;
  if (!leads()) return {};
  SharesMessage message;
  message.generation = form_.generation;
  message.step = change->first_step + 1;
  message.shares = std::move(change->shares);
  message.gain = change->gain;
  message.reason = std::move(change->reason);
  return link_.send(message);
}

/// The step has committed.
Status RankTraining::record(const StepSpec& spec, const StepOutcome& outcome) {
  measure(spec, outcome.parts);
  if (outcome.spread && !outcome.skipped) follow_noise(spec, *outcome.spread, outcome.gradient_norm);
  const StepRange range = plan_->steps.range(spec.step);
  ++counters_.committed;
  counters_.samples += range.positions.count;
  if (range.positions.first == 0) {
    counters_.epoch_loss = 0;
    counters_.epoch_samples = 0;
  }
  counters_.epoch_loss += outcome.loss * static_cast<double>(range.positions.count);
  counters_.epoch_samples += range.positions.count;
  rate_.add(Duration(counters_.trained_ns), range.positions.count);
  StepFigures figures;
  figures.step = counters_.committed;
  figures.epoch = range.epoch + 1;
  figures.first = range.positions.first;
  figures.count = range.positions.count;
  figures.consumed = hex_word(outcome.consumed);
  figures.time = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  figures.loss = outcome.loss;
  if (input_.vocabulary > 0)
    figures.perplexity = std::exp(outcome.loss);
  else
    figures.accuracy = outcome.accuracy;
  figures.learning_rate = spec.learning_rate;
  if (!outcome.skipped) figures.gradient_norm = outcome.gradient_norm;
  if (const LossScaling scaling = loss_scaling(job_); scaling.follows || scaling.first != 1)
    figures.loss_scale = outcome.loss_scale;
  figures.samples_per_second = rate_.per_second();
  log_.add(std::move(figures));
  if (!leads() || is_quiet(spec.step)) return {};
  PACELINE_TRY(log_.send_some());
  return tell_progress(range, outcome.loss);
}

/// What the figures say where they make no sense is nothing: training does not depend on it.
void RankTraining::follow_noise(const StepSpec& spec, const GradientSpread& spread, double gradient_norm) {
  const double squared_norm = gradient_norm * gradient_norm;
  if (!noise_.observe(spread.ranks, spec.global_samples, spread.mean_squared_norm, squared_norm).ok()) return;
  link_.activity().board().set_gradient_noise_scale(noise_.noise_scale());
}

void RankTraining::measure(const StepSpec& spec, const StepParts& parts) {
  StepRecord record;
  record.began = step_began_;
  record.step = spec.step + 1;
  record.samples = plan_->part_of(spec.step, form_.rank).count;
  record.grains = grain_count(record.samples, plan_->grain);
  record.data = data_wait_;
  record.forward = parts.forward;
  record.backward = parts.backward;
  record.reduce = parts.reduce;
  record.commit = parts.commit;
  record.optimizer = parts.optimizer;
  telemetry_.committed(record);
}

// ---- checkpoints ------------------------------------------------------------------------------------

/// After the last step that was committed: the same on all ranks.
bool RankTraining::checkpoint_is_due() const {
  if (!makes_checkpoints()) return false;
  const std::int64_t every = job_.checkpoint.every_steps;
  return every == 0 ? plan_->steps.ends_epoch(counters_.committed - 1) : counters_.committed % every == 0;
}

/// One at a time: all ranks pass this one over where any of them still writes the one before.
Status RankTraining::checkpoint_if_possible(bool all_can_save) {
  if (all_can_save) {
    const Instant began = steady_clock.now();
    PACELINE_TRY(begin_checkpoint());
    telemetry_.spent(Phase::save, began);
    return {};
  }
  if (std::exchange(skip_told_, true) || !leads()) return {};
  log(LogLevel::warning,
      concat("no checkpoint of step ", counters_.committed,
             ": that of an earlier step is still being written, at the pace that training allows; not said "
             "again (checkpoint.every_steps could be larger)"));
  return {};
}

/// The state is that of the step that has just been committed until the optimizer's next pass (P10).
Status RankTraining::begin_checkpoint() {
  PACELINE_ASSIGN(const std::vector<StatePart> parts, state());
  checkpointing_.begin({counters_.committed, form_.term, form_.generation}, form_.rank, communicator_->size(),
                       parts);
  log(LogLevel::debug, concat("checkpoint of step ", counters_.committed, ": this rank's part was copied in ",
                              to_seconds(checkpointing_.copied_in()) * 1000, " ms"));
  return {};
}

/// The part that was written meanwhile.
Status RankTraining::report_checkpoint() {
  if (!checkpointing_.written()) return {};
  // A checkpoint counts only with the steps that led to it.
  PACELINE_TRY(log_.send_all());
  return checkpointing_.report();
}

/// Of a run that is stopped, to be resumed: what is in hand is finished, and the last step's written. Whether
/// that has been begun is the same on all ranks: those of a generation see all its commits, or none stays.
Status RankTraining::save_last_checkpoint() {
  const CheckpointId id{counters_.committed, form_.term, form_.generation};
  if (!makes_checkpoints() || id.step == 0) return {};
  PACELINE_TRY(log_.send_all());
  PACELINE_TRY(checkpointing_.finish());
  if (checkpointing_.last() == id) return {};
  PACELINE_TRY(begin_checkpoint());
  return checkpointing_.finish();
}

Status RankTraining::tell_progress(const StepRange& range, double loss) {
  const bool epoch_ends = plan_->steps.ends_epoch(range.step);
  const Instant now = steady_clock.now();
  if (!epoch_ends && now - told_ < progress_interval) return {};
  told_ = now;
  ProgressMessage progress;
  progress.step = counters_.committed;
  progress.steps = plan_->steps.steps();
  progress.epoch = range.epoch + 1;
  progress.epochs = plan_->steps.epochs();
  progress.epoch_step = counters_.committed - range.epoch * plan_->steps.steps_per_epoch();
  progress.epoch_steps = plan_->steps.steps_of_epoch(range.epoch);
  progress.loss = loss;
  progress.epoch_loss = counters_.epoch_loss / static_cast<double>(counters_.epoch_samples);
  progress.samples_per_second = rate_.per_second();
  const double per_step =
      to_seconds(Duration(counters_.trained_ns)) / static_cast<double>(counters_.committed);
  progress.seconds_left = per_step * static_cast<double>(progress.steps - counters_.committed);
  return link_.send(progress);
}

/// `epoch` from 1. Evaluates where the job asks for it.
Status RankTraining::end_epoch(std::int64_t epoch) {
  const bool last = epoch == plan_->steps.epochs() || counters_.stopped != 0;
  const bool due = last || (job_.eval_every > 0 && epoch % job_.eval_every == 0);
  PACELINE_TRY(log_.send_all());
  if (eval_dataset_.has_value() && due) {
    trainer_->prepare_evaluation();
    link_.activity().at_step(counters_.committed + 1);
    const TelemetryRecorder::PhaseSpan span(telemetry_, Phase::evaluate);
    PACELINE_ASSIGN(EvalMessage eval,
                    evaluate_dataset(*communicator_, *model_, input_, *eval_dataset_, job_, device_,
                                     [this] { link_.activity().begin(Phase::reduce); }));
    eval.epoch = epoch;
    counters_.keep(eval);
    if (leads()) PACELINE_TRY(link_.send(eval));
  }
  counters_.ended_epochs = epoch;
  return {};
}

/// Collective: all ranks must have the same bits.
Status RankTraining::agree_on_weights(const std::string& sha256) {
  std::int64_t word = 0;  // the hash's first 60 bits
  for (const char digit : sha256.substr(0, 15))
    word = word * 16 + (digit <= '9' ? digit - '0' : digit - 'a' + 10);
  std::int64_t ends[2] = {word, -word};
  PACELINE_TRY(communicator_->all_reduce(ends, 2, DataType::i64, ReduceOp::min));
  if (ends[0] != -ends[1])
    return Error{ErrorCode::mismatch,
                 "the ranks have different weights at the end: a rank's memory or math library is at fault"};
  return {};
}

Result<FinishedMessage> RankTraining::finish() {
  const TelemetryRecorder::PhaseSpan span(telemetry_, Phase::save);
  trainer_->prepare_evaluation();
  const std::vector<NamedWeight> weights = weights_of(model_->module());
  FinishedMessage finished;
  finished.weights_sha256 = weights_sha256(weights);
  PACELINE_TRY(agree_on_weights(finished.weights_sha256));
  const double seconds = to_seconds(Duration(counters_.trained_ns));
  finished.status =
      counters_.stopped != 0 && counters_.committed < plan_->steps.steps() ? "stopped" : "completed";
  finished.steps = counters_.committed;
  finished.epochs = counters_.committed / plan_->steps.steps_per_epoch();
  finished.samples = counters_.samples;
  finished.seconds = seconds;
  finished.step_ms = step_times_.percentiles_ms();
  finished.allreduce_ms = allreduce_times_.percentiles_ms();
  finished.exposed_allreduce_ms = exposed_times_.percentiles_ms();
  finished.data_wait_ms = data_waits_.percentiles_ms();
  finished.data_wait_share = seconds > 0 ? to_seconds(waited_) / seconds : 0;
  finished.train_loss =
      counters_.epoch_samples > 0 ? counters_.epoch_loss / static_cast<double>(counters_.epoch_samples) : 0;
  finished.eval = counters_.eval(input_.vocabulary > 0);
  finished.peak_memory_bytes = peak_memory_bytes();
  finished.rebalances = rebalances_;
  if (finished.status == "stopped") PACELINE_TRY(save_last_checkpoint());
  Status saved = log_.send_all();
  if (saved.ok() && leads()) saved = save_safetensors(model_path(start_.run_dir), weights, input_);
  PACELINE_TRY(all_ready(*communicator_, saved));
  return finished;
}

}  // namespace paceline
