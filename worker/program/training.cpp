#include "training.hpp"

#include "joining.hpp"
#include "paceline/base/text.hpp"
#include "rank_training.hpp"
#include "setup.hpp"
#include "telemetry.hpp"

namespace paceline {
namespace {

// How often a worker that waits for its next generation looks up.
constexpr Duration idle = std::chrono::seconds(1);

TelemetryOptions telemetry_options(const StartMessage& start) {
  TelemetryOptions options;
  options.folder = start.run_dir + "/telemetry";
  options.worker = start.worker;
  options.nvml = environment("PACELINE_NVML");
  return options;
}

/// How a membership ended.
enum class Ending { finished, changed, dismissed };

/// The generations that a worker goes through, and what its agent says meanwhile.
class Training {
 public:
  Training(const StartMessage& start, AgentLink& link)
      : start_(start),
        link_(link),
        telemetry_(telemetry_options(start), link.activity()),
        rank_(start, link, telemetry_) {}

  [[nodiscard]] Result<std::optional<FinishedMessage>> run();

 private:
  [[nodiscard]] Result<std::optional<FormMessage>> next_form();
  [[nodiscard]] Result<Membership> connect(const FormMessage& form);
  [[nodiscard]] Result<Ending> be_member(Membership membership);
  [[nodiscard]] Result<Ending> train_on();
  [[nodiscard]] Status obey_agent();
  void prepare(const FormMessage& form);
  [[nodiscard]] Status tell_left(const FormMessage& form, const Error& why);
  [[nodiscard]] bool lost_others(const Error& error) const;

  const StartMessage& start_;
  AgentLink& link_;
  FormMessage form_;                               // of the generation that this rank is in, or was last
  std::optional<ComputeFingerprint> fingerprint_;  // when reproducible
  std::int64_t newest_ = 0;                        // generation that it was told to form; older ones are void
  std::unique_ptr<Communicator> communicator_;
  TelemetryRecorder telemetry_;      // after communicator_, which it looks at
  RankTraining rank_;                // after both, which it uses
  std::optional<Preparation> next_;  // a generation to change to
  bool stop_wanted_ = false;         // by the coordinator
  bool dismissed_ = false;
  std::optional<FinishedMessage> finished_;
};

Result<std::optional<FinishedMessage>> Training::run() {
  {
    const TelemetryRecorder::PhaseSpan span(telemetry_, Phase::loading);
    PACELINE_TRY(rank_.open());
  }
  if (start_.job.reproducible) fingerprint_ = compute_fingerprint(compute_type(start_.job), rank_.device());
  PACELINE_TRY(link_.send(ReadyMessage{}));
  std::optional<Membership> membership;
  while (true) {
    if (!membership) {
      PACELINE_ASSIGN(const std::optional<FormMessage> form, next_form());
      if (!form) return std::optional<FinishedMessage>();
      PACELINE_TRY(rank_.settle(*form));
      Result<Membership> joined = connect(*form);
      if (!joined.ok()) {
        // It was held against those who train, and is not like them: they go on without it.
        if (joined.error().code == ErrorCode::mismatch && !rank_.complete()) return joined.error();
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

Result<Membership> Training::connect(const FormMessage& form) {
  const TelemetryRecorder::PhaseSpan span(telemetry_, Phase::connect);
  return join(start_, form, link_, fingerprint_);
}

/// Waits to be told of a generation; nothing where this worker is not wanted any more. The wait has no bound
/// of its own, since the others may take any time to report or to load: it ends at the latest with the agent,
/// whose end of the socket is then closed.
Result<std::optional<FormMessage>> Training::next_form() {
  next_.reset();
  const TelemetryRecorder::PhaseSpan span(telemetry_, Phase::idle);
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
    if (const auto* ack = std::get_if<AckMessage>(&*message)) rank_.acknowledge(ack->step);
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
  LeftMessage left = rank_.standing();
  left.generation = form.generation;
  left.code = std::string(to_string(why.code));
  left.message = why.message;
  left.lost_rank = why.rank == form.rank ? -1 : why.rank;
  return link_.send(left);
}

/// Until the job is done, the ranks change, or one of them is lost, which is an error.
Result<Ending> Training::be_member(Membership membership) {
  form_ = membership.form;
  newest_ = form_.generation;
  std::unique_ptr<Communicator> before = std::exchange(communicator_, std::move(membership.communicator));
  telemetry_.watch(communicator_.get());
  const AgentLink::Interruption interruption(
      link_, form_.generation, [this](const std::string& reason) { communicator_->abort(reason); });
  PACELINE_TRY(rank_.enter(form_, *communicator_, std::move(membership.buffers)));
  // What is left for the communicator then, figures and votes, tells nothing of how fast wires are.
  if (rank_.trainer().sums_on_devices()) telemetry_.watch(nullptr);
  before.reset();
  return train_on();
}

Result<Ending> Training::train_on() {
  while (true) {
    PACELINE_TRY(obey_agent());
    if (dismissed_) return Ending::dismissed;
    const std::int64_t ready = next_ && next_->ready() ? next_->generation() : 0;
    PACELINE_ASSIGN(RankTraining::Advance advance, rank_.advance({stop_wanted_, ready}));
    if (advance.finished) {
      finished_ = std::move(advance.finished);
      return Ending::finished;
    }
    if (next_ && advance.next_generation == next_->generation()) return Ending::changed;
  }
}

void Training::prepare(const FormMessage& form) {
  next_.reset();  // one that was prepared before is void
  next_.emplace(start_, form, fingerprint_, rank_.trainer());
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
      rank_.acknowledge(ack->step);
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

}  // namespace

Result<std::optional<FinishedMessage>> train(const StartMessage& start, AgentLink& link) {
  return Training(start, link).run();
}

}  // namespace paceline
