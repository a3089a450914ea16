#include "training.hpp"

#include <cmath>
#include <deque>
#include <optional>

#include "batches.hpp"
#include "counters.hpp"
#include "inputs.hpp"
#include "joining.hpp"
#include "paceline/base/text.hpp"
#include "paceline/job/journal.hpp"
#include "schedule.hpp"
#include "setup.hpp"
#include "step_log.hpp"
#include "time_series.hpp"

namespace paceline {
namespace {

const SteadyClock steady_clock;
constexpr Duration progress_interval = std::chrono::milliseconds(100);
constexpr Duration rate_window = std::chrono::seconds(2);
// How often a worker that waits for its next generation looks up.
constexpr Duration idle = std::chrono::seconds(1);

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

/// Samples per second over the last moments of training.
class Rate {
 public:
  /// `at`: training time so far.
  void add(Duration at, std::int64_t samples) {
    marks_.push_back({at, samples});
    total_ += samples;
    while (marks_.size() > 2 && at - marks_.front().at > rate_window) {
      total_ -= marks_.front().samples;
      marks_.pop_front();
    }
  }
  [[nodiscard]] double per_second() const {
    if (marks_.size() < 2) return 0;
    const Duration span = marks_.back().at - marks_.front().at;
    return static_cast<double>(total_ - marks_.front().samples) / std::max(to_seconds(span), 1e-9);
  }

 private:
  struct Mark {
    Duration at;
    std::int64_t samples;
  };
  std::deque<Mark> marks_;
  std::int64_t total_ = 0;
};

/// How a membership ended.
enum class Ending { finished, changed, dismissed };

/// One rank's training: what lives from the first step to the last, through all generations that it is in.
class Training {
 public:
  Training(const StartMessage& start, AgentLink& link)
      : start_(start), job_(start.job), link_(link), log_(link, steady_clock) {}

  [[nodiscard]] Result<std::optional<FinishedMessage>> run();

 private:
  // ---- ranks that come and go
  [[nodiscard]] Result<std::optional<FormMessage>> next_form();
  [[nodiscard]] Status settle(const FormMessage& form);
  [[nodiscard]] Result<Ending> be_member(Membership membership);
  [[nodiscard]] Status enter();
  [[nodiscard]] Status agree_where_to_begin();
  [[nodiscard]] Status begin_to_report();
  [[nodiscard]] Status obey_agent();
  void prepare(const FormMessage& form);
  [[nodiscard]] Status tell_left(const FormMessage& form, const Error& why);
  [[nodiscard]] bool lost_others(const Error& error) const;
  [[nodiscard]] std::vector<StatePart> state();

  // ---- training
  [[nodiscard]] bool leads() const { return form_.rank == 0; }
  [[nodiscard]] Status open();
  [[nodiscard]] Status make_trainer();
  void redirect_loader();
  [[nodiscard]] Result<Ending> train_on();
  [[nodiscard]] Result<std::vector<Pass>> load_passes(const StepRange& step, StepSpec& spec);
  [[nodiscard]] Status train_step(std::int64_t step);
  [[nodiscard]] Status record(const StepSpec& spec, const StepOutcome& outcome);
  [[nodiscard]] Status end_epoch(std::int64_t epoch);
  [[nodiscard]] Status tell_progress(const StepRange& range, double loss);
  [[nodiscard]] Status agree_on_weights(const std::string& sha256);
  [[nodiscard]] Status finish();

  [[nodiscard]] bool is_over() const {
    return counters_.stopped != 0 || counters_.committed == plan_->steps.steps();
  }
  /// Whether the last step was an epoch's last, and what follows on that is still to be done.
  [[nodiscard]] bool epoch_is_to_end() const {
    return counters_.committed > 0 && plan_->steps.ends_epoch(counters_.committed - 1) &&
           counters_.ended_epochs < plan_->steps.range(counters_.committed - 1).epoch + 1;
  }

  const StartMessage& start_;
  const Job& job_;
  AgentLink& link_;
  StepLog log_;

  std::optional<Dataset> dataset_;
  std::optional<Dataset> eval_dataset_;
  InputSpec input_;
  std::optional<InputMaker> inputs_;
  std::unique_ptr<Model> model_;
  OrderSpec order_;
  std::int64_t budget_bytes_ = 0;

  std::optional<ComputeFingerprint> fingerprint_;  // when reproducible

  FormMessage form_;         // of the generation that this rank is in, or was last
  std::int64_t newest_ = 0;  // generation that it was told to form; older ones are void
  std::optional<JobPlan> plan_;
  std::unique_ptr<Communicator> communicator_;
  std::optional<Trainer> trainer_;   // after communicator_, which it uses
  std::optional<Preparation> next_;  // a generation to change to
  bool complete_ = false;            // this rank holds the whole training state

  std::unique_ptr<Loader> loader_;    // after inputs_, which it uses
  std::int64_t delivered_ = 0;        // batches
  std::optional<SampleBatch> batch_;  // of the current step, whose tensors lie in its memory
  StepSpec spec_;                     // of the current step

  bool stop_wanted_ = false;  // by the coordinator
  bool dismissed_ = false;
  bool changes_ = false;  // all have agreed to change to next_
  Counters counters_;
  Duration waited_{};  // of this rank's training, for data
  TimeSeries step_times_, allreduce_times_, exposed_times_, data_waits_;
  Rate rate_;
  Instant told_{};
  std::optional<FinishedMessage> finished_;
};

Status Training::open() {
  const DatasetOptions options = dataset_options(job_);
  PACELINE_ASSIGN(dataset_, Dataset::open(job_.data.train, options));
  if (!job_.data.eval.empty()) {
    PACELINE_ASSIGN(eval_dataset_, Dataset::open(job_.data.eval, options));
  }
  PACELINE_ASSIGN(input_, input_of(dataset_->info(), job_));
  PACELINE_ASSIGN(model_, build_model(job_, input_));
  if (job_.reproducible) fingerprint_ = compute_fingerprint();
  budget_bytes_ = training_budget_bytes(job_.data);
  order_ = shuffled_order(dataset_->info(), static_cast<std::uint64_t>(job_.seed), job_.batch.global,
                          budget_bytes_);
  const std::optional<std::uint64_t> key = parse_hex_word(start_.consumed_key);
  if (!key) return Error{ErrorCode::corrupt, "the agent gave no key for the journal's hashes"};
  PACELINE_ASSIGN(inputs_, InputMaker::for_training(dataset_->info(), input_, job_, *key));
  return {};
}

// ---- ranks that come and go -------------------------------------------------------------------------

Result<std::optional<FinishedMessage>> Training::run() {
  PACELINE_TRY(open());
  PACELINE_TRY(link_.send(ReadyMessage{}));
  std::optional<Membership> membership;
  while (true) {
    if (!membership) {
      PACELINE_ASSIGN(const std::optional<FormMessage> form, next_form());
      if (!form) return std::optional<FinishedMessage>();
      PACELINE_TRY(settle(*form));
      if (form->donors == 0) complete_ = true;  // nobody has trained, so that any rank's beginning will do
      link_.activity().begin(Phase::connect);
      Result<Membership> joined = join(start_, *form, link_, fingerprint_);
      if (!joined.ok()) {
        // It was held against those who train, and is not like them: they go on without it.
        if (joined.error().code == ErrorCode::mismatch && !complete_) return joined.error();
        PACELINE_TRY(tell_left(*form, joined.error()));
        continue;
      }
      membership = std::move(*joined);
    }
    const Result<Ending> ending = be_member(std::move(*membership));
    membership.reset();
    if (!ending.ok()) {
      if (!lost_others(ending.error())) {
        communicator_->abort(ending.error().message);  // the others wait, and do not know
        return ending.error();
      }
      PACELINE_TRY(tell_left(form_, ending.error()));
      continue;
    }
    if (*ending != Ending::changed) return finished_;
    PACELINE_ASSIGN(membership, next_->take());
    next_.reset();
    if (membership->communicator == nullptr) return std::optional<FinishedMessage>();
  }
}

/// Waits to be told of a generation; nothing where this worker is not wanted any more.
Result<std::optional<FormMessage>> Training::next_form() {
  next_.reset();
  link_.activity().begin(Phase::idle);
  while (!dismissed_) {
    PACELINE_ASSIGN(const std::optional<WorkerMessage> message, link_.take(idle));
    if (!message) continue;
    if (const auto* form = std::get_if<FormMessage>(&*message)) {
      // To prepare something beside a generation that was left meanwhile: another order follows.
      if (form->background || form->generation <= newest_) continue;
      newest_ = form->generation;
      return std::optional<FormMessage>(*form);
    }
    if (std::holds_alternative<StopMessage>(*message)) stop_wanted_ = true;
    if (std::holds_alternative<DismissMessage>(*message)) dismissed_ = true;
    if (const auto* ack = std::get_if<AckMessage>(&*message)) log_.acknowledge(ack->step);
  }
  return std::optional<FormMessage>();
}

/// Whether an error is only what became of the generation, and not this rank's own.
bool Training::lost_others(const Error& error) const {
  if (communicator_ == nullptr || communicator_->health().ok()) return false;
  return error.code == ErrorCode::peer_lost || error.code == ErrorCode::aborted ||
         error.code == ErrorCode::timeout;
}

Status Training::tell_left(const FormMessage& form, const Error& why) {
  next_.reset();
  LeftMessage left;
  left.generation = form.generation;
  left.applied = counters_.committed;
  left.reduced = complete_ && trainer_ && trainer_->holds_reduced();
  left.complete = complete_;
  left.code = std::string(to_string(why.code));
  left.message = why.message;
  left.lost_rank = why.rank == form.rank ? -1 : why.rank;
  return link_.send(left);
}

/// Brings this rank to where the next generation begins (I5).
Status Training::settle(const FormMessage& form) {
  if (!complete_ || counters_.committed == form.base_step) return {};
  if (counters_.committed + 1 != form.base_step || !trainer_->holds_reduced())
    return Error{ErrorCode::internal,
                 concat("generation ", form.generation, " begins after step ", form.base_step,
                        " and this rank is at step ", counters_.committed)};
  PACELINE_ASSIGN(const StepOutcome outcome, trainer_->roll_forward());
  return record(spec_, outcome);
}

/// Until the job is done, the ranks change, or one of them is lost, which is an error.
Result<Ending> Training::be_member(Membership membership) {
  form_ = membership.form;
  newest_ = form_.generation;
  std::unique_ptr<Communicator> before = std::exchange(communicator_, std::move(membership.communicator));
  const AgentLink::Interruption interruption(
      link_, form_.generation, [this](const std::string& reason) { communicator_->abort(reason); });
  PACELINE_TRY(enter());
  before.reset();
  return train_on();
}

Status Training::enter() {
  link_.activity().begin(Phase::transfer);
  changes_ = false;
  PACELINE_ASSIGN(plan_, make_plan(job_, dataset_->info().samples, communicator_->size()));
  if (trainer_)
    PACELINE_TRY(trainer_->enter(*communicator_));
  else
    PACELINE_TRY(make_trainer());
  // Before the first step all begin with rank 0's weights, for a plugin may draw them anew in each process.
  const std::int64_t donors = form_.base_step == 0 ? 1 : form_.donors;
  if (donors < communicator_->size()) PACELINE_TRY(transfer_state(*communicator_, donors, state()));
  complete_ = true;
  PACELINE_TRY(agree_where_to_begin());
  redirect_loader();
  PACELINE_TRY(link_.send(EnteredMessage{form_.generation}));
  return begin_to_report();
}

std::vector<StatePart> Training::state() {
  std::vector<StatePart> parts = trainer_->state();
  parts.push_back(state_part(counters_));
  return parts;
}

Status Training::make_trainer() {
  TrainerOptions options;
  options.optimizer = optimizer_config(job_.optimizer);
  options.seed = static_cast<std::uint64_t>(job_.seed);
  options.share_state = false;  // enter() does
  options.reproducible = job_.reproducible;
  options.on_part = [this](StepPart part) { link_.activity().begin(phase_of(part)); };
  auto trainer = Trainer::make(*communicator_, *model_, options);
  if (!trainer.ok()) return std::move(trainer).error();
  trainer_.emplace(std::move(*trainer));
  return {};
}

/// Collective. What a rank learnt in its last moments in the generation before, others may not have: an
/// evaluation that some have not seen the end of is done again by all, and that all are to stop all know.
Status Training::agree_where_to_begin() {
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

void Training::redirect_loader() {
  batch_.reset();
  Loader::Source source = training_source(*plan_, form_.rank, counters_.committed);
  if (loader_ != nullptr) return loader_->redirect(delivered_, std::move(source));
  LoaderOptions options = loader_options(job_);
  options.order = order_;
  options.budget_bytes = budget_bytes_;
  options.finish = [this](SampleBatch& batch) { return inputs_->finish(batch); };
  loader_ = std::make_unique<Loader>(*dataset_, options, std::move(source));
}

Status Training::begin_to_report() {
  log_.report(leads());
  if (!leads()) return {};
  PACELINE_TRY(log_.send_all());
  const std::optional<EvalMessage> eval = counters_.eval(input_.vocabulary > 0);
  return eval ? link_.send(*eval) : Status();
}

void Training::prepare(const FormMessage& form) {
  next_.reset();  // one that was prepared before is void
  next_.emplace(start_, form, fingerprint_);
}

/// Everything that the agent has said since.
Status Training::obey_agent() {
  while (true) {
    PACELINE_ASSIGN(const std::optional<WorkerMessage> message, link_.take(Duration::zero()));
    if (!message) break;
    if (const auto* form = std::get_if<FormMessage>(&*message)) {
      if (form->background && form->generation > newest_) prepare(*form);
    } else if (const auto* abandoned = std::get_if<AbandonMessage>(&*message)) {
      if (next_ && next_->generation() == abandoned->generation) next_.reset();
    } else if (const auto* ack = std::get_if<AckMessage>(&*message)) {
      log_.acknowledge(ack->step);
    } else if (std::holds_alternative<StopMessage>(*message)) {
      stop_wanted_ = true;
    } else if (std::holds_alternative<DismissMessage>(*message)) {
      dismissed_ = true;
    }
  }
  if (next_ && next_->ended() && !next_->ready()) {
    const Result<Membership> failed = next_->take();
    const std::int64_t generation = next_->generation();
    next_.reset();
    return link_.send(
        UnpreparedMessage{generation, failed.ok() ? "one of its ranks was lost" : failed.error().message});
  }
  return {};
}

// ---- training ---------------------------------------------------------------------------------------

Result<Ending> Training::train_on() {
  while (true) {
    PACELINE_TRY(obey_agent());
    if (dismissed_) return Ending::dismissed;
    if (epoch_is_to_end()) {
      PACELINE_TRY(end_epoch(plan_->steps.range(counters_.committed - 1).epoch + 1));
    } else if (is_over()) {
      PACELINE_TRY(finish());
      return Ending::finished;
    } else {
      PACELINE_TRY(train_step(counters_.committed));
      if (changes_) return Ending::changed;
    }
  }
}

/// This rank's part of the step, and in `spec` what it consumed.
Result<std::vector<Pass>> Training::load_passes(const StepRange& step, StepSpec& spec) {
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

Status Training::train_step(std::int64_t step) {
  const Instant begin = steady_clock.now();
  const Duration waited_before = loader_->figures().blocked;
  const Duration busy_before = communicator_->busy();
  const StepRange range = plan_->steps.range(step);
  spec_ = {};
  link_.activity().at_step(step + 1);
  link_.activity().begin(Phase::data);
  PACELINE_ASSIGN(const std::vector<Pass> passes_of_step, load_passes(range, spec_));
  spec_.step = step;
  spec_.global_samples = range.positions.count;
  spec_.learning_rate = learning_rate(job_, plan_->steps, step);
  spec_.plan_hash = plan_->hash();
  spec_.stop = stop_wanted_;
  spec_.passes = plan_->passes_in(range.positions.count);
  spec_.next_generation = next_ && next_->ready() ? next_->generation() : 0;
  PACELINE_ASSIGN(const StepOutcome outcome, trainer_->step(spec_, passes_of_step));
  const Duration took = steady_clock.now() - begin;
  counters_.trained_ns += took.count();
  counters_.stopped = outcome.stop ? 1 : 0;
  changes_ = next_ && outcome.next_generation == next_->generation() && !outcome.stop;  // to stop comes first
  step_times_.add(took);
  exposed_times_.add(outcome.exposed);
  allreduce_times_.add(communicator_->busy() - busy_before);
  const Duration waited = loader_->figures().blocked - waited_before;
  data_waits_.add(waited);
  waited_ += waited;
  return record(spec_, outcome);
}

/// The step has committed.
Status Training::record(const StepSpec& spec, const StepOutcome& outcome) {
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
  figures.gradient_norm = outcome.gradient_norm;
  figures.samples_per_second = rate_.per_second();
  log_.add(std::move(figures));
  if (!leads()) return {};
  PACELINE_TRY(log_.send_some());
  return tell_progress(range, outcome.loss);
}

Status Training::tell_progress(const StepRange& range, double loss) {
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
Status Training::end_epoch(std::int64_t epoch) {
  const bool last = epoch == plan_->steps.epochs() || counters_.stopped != 0;
  const bool due = last || (job_.eval_every > 0 && epoch % job_.eval_every == 0);
  PACELINE_TRY(log_.send_all());
  if (eval_dataset_.has_value() && due) {
    trainer_->prepare_evaluation();
    link_.activity().at_step(counters_.committed + 1);
    link_.activity().begin(Phase::evaluate);
    PACELINE_ASSIGN(EvalMessage eval, evaluate_dataset(*communicator_, *model_, input_, *eval_dataset_, job_,
                                                       [this] { link_.activity().begin(Phase::reduce); }));
    eval.epoch = epoch;
    counters_.keep(eval);
    if (leads()) PACELINE_TRY(link_.send(eval));
  }
  counters_.ended_epochs = epoch;
  return {};
}

/// Collective: all ranks must have the same bits.
Status Training::agree_on_weights(const std::string& sha256) {
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

Status Training::finish() {
  link_.activity().begin(Phase::save);
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
  Status saved = log_.send_all();
  if (saved.ok() && leads()) saved = save_safetensors(model_path(start_.run_dir), weights, input_);
  PACELINE_TRY(all_ready(*communicator_, saved));
  finished_ = finished;
  return {};
}

}  // namespace

Result<std::optional<FinishedMessage>> train(const StartMessage& start, AgentLink& link) {
  return Training(start, link).run();
}

}  // namespace paceline
