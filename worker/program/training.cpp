#include "training.hpp"

#include <cmath>
#include <deque>
#include <optional>

#include "batches.hpp"
#include "inputs.hpp"
#include "journaling.hpp"
#include "metrics.hpp"
#include "paceline/base/text.hpp"
#include "schedule.hpp"
#include "setup.hpp"

namespace paceline {
namespace {

const SteadyClock steady_clock;
constexpr Duration progress_interval = std::chrono::milliseconds(100);
constexpr Duration rate_window = std::chrono::seconds(2);

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

/// One rank's training: what lives from the first step to the last.
class Training {
 public:
  Training(const StartMessage& start, WorkerChannel& channel, Communicator& communicator)
      : start_(start), job_(start.job), channel_(channel), communicator_(communicator) {}

  /// Everything that this rank needs by itself.
  [[nodiscard]] Status open();
  /// The journal says how it ended.
  [[nodiscard]] Result<FinishedMessage> run();

 private:
  [[nodiscard]] bool leads() const { return start_.rank == 0; }
  [[nodiscard]] Result<FinishedMessage> train_all();
  [[nodiscard]] Status make_trainer();
  [[nodiscard]] Status share_key();
  [[nodiscard]] Status start_loader();
  [[nodiscard]] Result<std::vector<Pass>> load_passes(const StepRange& step, StepSpec& spec);
  [[nodiscard]] Status train_step(std::int64_t step);
  [[nodiscard]] Status record(const StepRange& range, const StepSpec& spec, const StepOutcome& outcome);
  [[nodiscard]] Status end_epoch(std::int64_t epoch);
  [[nodiscard]] Status report(const EvalMessage& eval);
  [[nodiscard]] Status end_journal(const Result<FinishedMessage>& result);
  [[nodiscard]] Status listen_to_agent();
  [[nodiscard]] Status tell_progress(const StepRange& range, double loss);
  [[nodiscard]] Status agree_on_weights(const std::string& sha256);
  [[nodiscard]] Result<FinishedMessage> finish();

  const StartMessage& start_;
  const Job& job_;
  WorkerChannel& channel_;
  Communicator& communicator_;

  std::optional<Dataset> dataset_;
  std::optional<Dataset> eval_dataset_;
  InputSpec input_;
  std::optional<InputMaker> inputs_;
  std::optional<JobPlan> plan_;
  std::unique_ptr<Model> model_;
  std::optional<Trainer> trainer_;
  OrderSpec order_;
  std::int64_t budget_bytes_ = 0;
  std::unique_ptr<Loader> loader_;        // after inputs_, which it uses
  std::optional<SampleBatch> batch_;      // of the current step, whose tensors lie in its memory
  std::optional<MetricsFile> metrics_;    // rank 0's
  std::optional<JournalWriter> journal_;  // rank 0's
  std::uint64_t consumed_key_ = 0;        // from rank 0

  bool stop_wanted_ = false;  // by this rank's agent
  bool stopped_ = false;      // agreed by all
  std::int64_t committed_ = 0;
  std::int64_t samples_ = 0;
  Duration trained_{};  // from step to step, evaluation left out
  Duration waited_{};   // of it, for data
  TimeSeries step_times_, allreduce_times_, exposed_times_, data_waits_;
  Rate rate_;
  Instant told_{};
  double epoch_loss_ = 0;
  std::int64_t epoch_samples_ = 0;
  std::optional<EvalMessage> eval_;
};

Status Training::open() {
  const DatasetOptions options = dataset_options(job_);
  PACELINE_ASSIGN(dataset_, Dataset::open(job_.data.train, options));
  if (!job_.data.eval.empty()) {
    PACELINE_ASSIGN(eval_dataset_, Dataset::open(job_.data.eval, options));
  }
  PACELINE_ASSIGN(input_, input_of(dataset_->info(), job_));
  PACELINE_ASSIGN(plan_, make_plan(job_, dataset_->info().samples, communicator_.size()));
  PACELINE_ASSIGN(model_, build_model(job_, input_));
  budget_bytes_ = (job_.data.budget_mib << 20) / 4 * 3;  // the rest is for evaluation
  order_ = shuffled_order(dataset_->info(), static_cast<std::uint64_t>(job_.seed), job_.batch.global,
                          budget_bytes_);
  if (leads()) {
    PACELINE_ASSIGN(metrics_, MetricsFile::create(concat(start_.run_dir, "/metrics.jsonl"), steady_clock));
    PACELINE_ASSIGN(OpenJournal opened, open_journal(start_, dataset_->info(), order_, steady_clock));
    consumed_key_ = opened.key;
    journal_ = std::move(opened.writer);
  }
  return {};
}

Result<FinishedMessage> Training::run() {
  Result<FinishedMessage> result = train_all();
  const Status ended = end_journal(result);
  if (result.ok() && !ended.ok()) return ended.error();
  return result;
}

Status Training::end_journal(const Result<FinishedMessage>& result) {
  if (!leads()) return {};
  if (result.ok()) return journal_->add(JournalEnd{result->status, committed_, ""});
  return journal_->add(JournalEnd{"failed", committed_, result.error().message});
}

/// Collective: all ranks hash with the key that stands in the journal.
Status Training::share_key() {
  return communicator_.broadcast(&consumed_key_, 1, DataType::i64, 0);
}

Status Training::start_loader() {
  PACELINE_ASSIGN(inputs_, InputMaker::for_training(dataset_->info(), input_, job_, consumed_key_));
  LoaderOptions options = loader_options(job_);
  options.order = order_;
  options.budget_bytes = budget_bytes_;
  options.finish = [this](SampleBatch& batch) { return inputs_->finish(batch); };
  loader_ = std::make_unique<Loader>(*dataset_, options, training_source(*plan_, start_.rank));
  return {};
}

Result<FinishedMessage> Training::train_all() {
  PACELINE_TRY(make_trainer());
  PACELINE_TRY(share_key());
  PACELINE_TRY(all_ready(communicator_, start_loader()));
  const std::int64_t per_epoch = plan_->steps.steps_per_epoch();
  for (std::int64_t step = 0; step < plan_->steps.steps() && !stopped_; ++step) {
    PACELINE_TRY(listen_to_agent());
    const Status trained = train_step(step);
    if (!trained.ok()) {
      communicator_.abort(trained.error().message);  // where the others do not know yet
      return trained.error();
    }
    if (plan_->steps.ends_epoch(step)) PACELINE_TRY(end_epoch(step / per_epoch + 1));
  }
  return finish();
}

Status Training::make_trainer() {
  TrainerOptions options;
  options.optimizer = optimizer_config(job_.optimizer);
  options.seed = static_cast<std::uint64_t>(job_.seed);
  auto trainer = Trainer::make(communicator_, *model_, options);
  if (!trainer.ok()) {
    communicator_.abort(trainer.error().message);
    return std::move(trainer).error();
  }
  trainer_.emplace(std::move(*trainer));
  return {};
}

/// This rank's part of the step, and in `spec` what it consumed.
Result<std::vector<Pass>> Training::load_passes(const StepRange& step, StepSpec& spec) {
  std::vector<Pass> made;
  const PositionRange part = plan_->part_of(step.step, start_.rank);
  if (part.count == 0) return made;
  PACELINE_ASSIGN(batch_, loader_->next());
  if (!batch_.has_value() || batch_->request() != LoadRequest{step.epoch, part.first, part.count})
    return Error{ErrorCode::internal, concat("the loader is not where step ", step.step, " is")};
  for (const PositionRange& range : passes(part, plan_->micro)) {
    PACELINE_ASSIGN(Batch tensors, inputs_->tensors(*batch_, range.first - part.first, range.count));
    made.push_back({range.first, std::move(tensors)});
  }
  spec.consumed = batch_->consumed;
  return made;
}

Status Training::train_step(std::int64_t step) {
  const Instant begin = steady_clock.now();
  const Duration waited_before = loader_->figures().blocked;
  const Duration busy_before = communicator_.busy();
  const StepRange range = plan_->steps.range(step);
  StepSpec spec;
  PACELINE_ASSIGN(const std::vector<Pass> passes_of_step, load_passes(range, spec));
  spec.step = step;
  spec.global_samples = range.positions.count;
  spec.learning_rate = learning_rate(job_, plan_->steps, step);
  spec.plan_hash = plan_->hash();
  spec.stop = stop_wanted_;
  PACELINE_ASSIGN(const StepOutcome outcome, trainer_->step(spec, passes_of_step));
  const Duration took = steady_clock.now() - begin;
  trained_ += took;
  stopped_ = outcome.stop;
  step_times_.add(took);
  exposed_times_.add(outcome.exposed);
  allreduce_times_.add(communicator_.busy() - busy_before);
  const Duration waited = loader_->figures().blocked - waited_before;
  data_waits_.add(waited);
  waited_ += waited;
  return record(range, spec, outcome);
}

/// The step has committed.
Status Training::record(const StepRange& range, const StepSpec& spec, const StepOutcome& outcome) {
  ++committed_;
  samples_ += range.positions.count;
  epoch_loss_ += outcome.loss * static_cast<double>(range.positions.count);
  epoch_samples_ += range.positions.count;
  rate_.add(trained_, range.positions.count);
  if (!leads()) return {};
  PACELINE_TRY(journal_->add(JournalStep{committed_, range.epoch + 1, range.positions.first,
                                         range.positions.count, outcome.consumed}));
  StepRecord line;
  line.step = committed_;
  line.epoch = range.epoch + 1;
  line.loss = outcome.loss;
  if (input_.vocabulary > 0)
    line.perplexity = std::exp(outcome.loss);
  else
    line.accuracy = outcome.accuracy;
  line.learning_rate = spec.learning_rate;
  line.gradient_norm = outcome.gradient_norm;
  line.samples_per_second = rate_.per_second();
  PACELINE_TRY(metrics_->add(line));
  return tell_progress(range, outcome.loss);
}

Status Training::tell_progress(const StepRange& range, double loss) {
  const bool epoch_ends = plan_->steps.ends_epoch(range.step);
  const Instant now = steady_clock.now();
  if (!epoch_ends && now - told_ < progress_interval) return {};
  told_ = now;
  ProgressMessage progress;
  progress.step = committed_;
  progress.steps = plan_->steps.steps();
  progress.epoch = range.epoch + 1;
  progress.epochs = plan_->steps.epochs();
  progress.epoch_step = committed_ - range.epoch * plan_->steps.steps_per_epoch();
  progress.epoch_steps = plan_->steps.steps_of_epoch(range.epoch);
  progress.loss = loss;
  progress.epoch_loss = epoch_loss_ / static_cast<double>(epoch_samples_);
  progress.samples_per_second = rate_.per_second();
  const double per_step = to_seconds(trained_) / static_cast<double>(committed_);
  progress.seconds_left = per_step * static_cast<double>(progress.steps - committed_);
  return channel_.send(progress);
}

/// `epoch` from 1. Keeps the last epoch's mean loss and evaluates where the job asks for it.
Status Training::end_epoch(std::int64_t epoch) {
  const bool last = epoch == plan_->steps.epochs() || stopped_;
  const bool due = last || (job_.eval_every > 0 && epoch % job_.eval_every == 0);
  if (leads()) PACELINE_TRY(journal_->add(JournalEpoch{epoch, committed_, epoch_samples_}));
  if (eval_dataset_.has_value() && due) {
    trainer_->prepare_evaluation();
    PACELINE_ASSIGN(eval_, evaluate_dataset(communicator_, *model_, input_, *eval_dataset_, job_));
    eval_->epoch = epoch;
    if (leads()) PACELINE_TRY(report(*eval_));
  }
  if (!last) {
    epoch_loss_ = 0;
    epoch_samples_ = 0;
  }
  return {};
}

Status Training::report(const EvalMessage& eval) {
  PACELINE_TRY(journal_->add(JournalEvaluation{eval.epoch, eval.samples, eval.loss, eval.accuracy}));
  return channel_.send(eval);
}

Status Training::listen_to_agent() {
  PACELINE_ASSIGN(const std::optional<WorkerMessage> message, channel_.receive(Duration::zero()));
  if (message.has_value() && std::holds_alternative<StopMessage>(*message)) stop_wanted_ = true;
  return {};
}

/// Collective: all ranks must have the same bits.
Status Training::agree_on_weights(const std::string& sha256) {
  std::int64_t word = 0;  // the hash's first 60 bits
  for (const char digit : sha256.substr(0, 15))
    word = word * 16 + (digit <= '9' ? digit - '0' : digit - 'a' + 10);
  std::int64_t ends[2] = {word, -word};
  PACELINE_TRY(communicator_.all_reduce(ends, 2, DataType::i64, ReduceOp::min));
  if (ends[0] != -ends[1])
    return Error{ErrorCode::mismatch,
                 "the ranks have different weights at the end: a rank's memory or math library is at fault"};
  return {};
}

Result<FinishedMessage> Training::finish() {
  trainer_->prepare_evaluation();
  const std::vector<NamedWeight> weights = weights_of(model_->module());
  FinishedMessage finished;
  finished.weights_sha256 = weights_sha256(weights);
  PACELINE_TRY(agree_on_weights(finished.weights_sha256));
  finished.status = stopped_ && committed_ < plan_->steps.steps() ? "stopped" : "completed";
  finished.steps = committed_;
  finished.epochs = committed_ / plan_->steps.steps_per_epoch();
  finished.samples = samples_;
  finished.seconds = to_seconds(trained_);
  finished.step_ms = step_times_.percentiles_ms();
  finished.allreduce_ms = allreduce_times_.percentiles_ms();
  finished.exposed_allreduce_ms = exposed_times_.percentiles_ms();
  finished.data_wait_ms = data_waits_.percentiles_ms();
  finished.data_wait_share = trained_ > Duration::zero() ? to_seconds(waited_) / to_seconds(trained_) : 0;
  finished.train_loss = epoch_samples_ > 0 ? epoch_loss_ / static_cast<double>(epoch_samples_) : 0;
  finished.eval = eval_;
  finished.peak_memory_bytes = peak_memory_bytes();
  Status saved;
  if (leads()) {
    saved = metrics_->flush();
    if (saved.ok()) saved = save_safetensors(model_path(start_.run_dir), weights, input_);
  }
  PACELINE_TRY(all_ready(communicator_, saved));
  return finished;
}

}  // namespace

Result<FinishedMessage> train(const StartMessage& start, WorkerChannel& channel) {
  PACELINE_ASSIGN(Communicator communicator, join_job(start));
  Training training(start, channel, communicator);
  PACELINE_TRY(all_ready(communicator, training.open()));
  return training.run();
}

}  // namespace paceline
