#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "paceline/base/clock.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/job/checkpoint.hpp"
#include "paceline/job/job.hpp"
#include "paceline/job/telemetry.hpp"

namespace paceline {

/// What an agent and its worker say to each other over the socket that the worker inherits as descriptor 3
/// (AF_UNIX, SOCK_SEQPACKET; each message is one datagram of JSON with a "type"). `docs/worker-protocol.md`.
/// Both sides refuse a peer of another `worker_protocol_version`.
inline constexpr int worker_protocol_version = 7;
inline constexpr int worker_channel_fd = 3;
inline constexpr int worker_listener_fd = 4;  ///< a listening socket, where StartMessage says so

struct MemberSpec {
  std::string node;
  std::string host;
  std::uint16_t port = 0;
};

// ---- agent to worker -------------------------------------------------------------------------------

/// The first message: everything a worker needs to know that doesn't change.
struct StartMessage {
  std::string action = "train";  ///< train, eval, export
  Job job;
  std::string run_dir;      ///< absolute
  std::int64_t worker = 0;  ///< number of the process in the run
  std::string secret;       ///< of the job, proves membership to the other ranks
  bool has_listener =
      false;                 ///< descriptor 4 is a socket that listens where the members list has this worker
  std::int64_t threads = 1;  ///< compute threads
  std::string consumed_key;  ///< train: of the run's consumed hashes, as hex_word() writes it
  std::string export_format;  ///< export: safetensors, pickle, torchscript
  std::string export_path;    ///< export: absolute
};

/// A generation: who the ranks are. The first thing after StartMessage, and again whenever that changes.
struct FormMessage {
  std::int64_t generation = 1;
  std::int64_t term = 0;            ///< of the coordinator that made it; 0: there is none, nor checkpoints
  std::int64_t rank = 0;            ///< this worker's; -1 in the background: it isn't a member any more
  std::vector<MemberSpec> members;  ///< by rank; only rank 0's port must be known
  std::int64_t base_step = 0;       ///< steps that are applied when it begins
  std::int64_t donors = 0;  ///< the first so many ranks hold the training state; none: all begin alike
  /// Go on training, connect to the others meanwhile, and change after a commit that all are ready for.
  bool background = false;
  /// Folder of the checkpoint that the run is resumed from, where it is: all ranks begin with that. Empty:
  /// not.
  std::string checkpoint{};
};

/// Forget a generation that was to be formed in the background, unless that is where you are.
struct AbandonMessage {
  std::int64_t generation = 0;
};

/// Abort what you do in this or an earlier generation, and say how far you are with LeftMessage.
struct LeaveMessage {
  std::int64_t generation = 0;
};

/// Leave cleanly at the next commit, all ranks together.
struct StopMessage {};

/// You aren't needed any more: exit.
struct DismissMessage {};

/// Steps up to this one are in the journal.
struct AckMessage {
  std::int64_t step = 0;
};

// ---- worker to agent -------------------------------------------------------------------------------

/// The first message: who is there.
struct HelloMessage {
  std::string version;  ///< of the program
};

/// Loaded, and ready to be a member of a generation. Training only.
struct ReadyMessage {};

/// That the worker is there, ten times a second from its start on, from a thread that does nothing else.
/// Training only.
struct HeartbeatMessage {
  std::int64_t step = 0;  ///< in progress, from 1; 0 before the first
  /// What the training thread does: loading, idle (no generation), connect, transfer (the state), data (waits
  /// for its samples), compute, reduce, commit (both wait for others), evaluate, save.
  std::string phase = "loading";
  double seconds = 0;      ///< since when
  std::int64_t share = 0;  ///< grains of a whole step that are this rank's; 0: it has not trained yet
  double step_ms = 0;      ///< what its own part of the last step took: data and passes; 0: there was none
  Telemetry telemetry{};
};

/// It is a member of this generation now, and holds the whole training state.
struct EnteredMessage {
  std::int64_t generation = 0;
};

/// It could not form a generation in the background, and goes on in the one where it is.
struct UnpreparedMessage {
  std::int64_t generation = 0;
  std::string message;
};

/// It has left the generation for good: nothing of it can complete here any more.
struct LeftMessage {
  std::int64_t generation = 0;
  std::int64_t applied = 0;     ///< steps
  bool reduced = false;         ///< it holds all reduced gradients of the step after those
  bool complete = true;         ///< it holds the whole training state
  std::string code;             ///< to_string(ErrorCode)
  std::string message;          ///< why
  std::int64_t lost_rank = -1;  ///< the rank to blame, if it is another
};

/// A committed step.
struct StepFigures {
  std::int64_t step = 0;   ///< from 1
  std::int64_t epoch = 0;  ///< from 1
  std::int64_t first = 0;  ///< position
  std::int64_t count = 0;
  std::string consumed;  ///< hash of its samples, as hex_word() writes it
  double time = 0;       ///< of the commit on the reporting rank: seconds since 1970
  double loss = 0;
  std::optional<double> accuracy{};    ///< of images
  std::optional<double> perplexity{};  ///< of text
  double learning_rate = 0;
  std::optional<double> gradient_norm{};  ///< nothing: it was not finite, and the step changed no weight
  std::optional<double> loss_scale{};     ///< where there is one
  double samples_per_second = 0;
};

/// Rank 0: what was committed since it last said so, in order. After a change of ranks some may come again.
struct StepsMessage {
  std::vector<StepFigures> steps;
};

/// Rank 0, about ten times a second while it trains, and at the end of each epoch.
struct ProgressMessage {
  std::int64_t step = 0;   ///< committed steps
  std::int64_t steps = 0;  ///< in the whole job
  std::int64_t epoch = 0;  ///< from 1
  std::int64_t epochs = 0;
  std::int64_t epoch_step = 0;    ///< committed steps of this epoch
  std::int64_t epoch_steps = 0;   ///< of this epoch; fewer than of others where the job ends within it
  double loss = 0;                ///< mean over the last committed step
  double epoch_loss = 0;          ///< mean over the samples of this epoch so far
  double samples_per_second = 0;  ///< over the last second or so, all ranks
  double seconds_left = 0;
};

/// Rank 0: from some step on the ranks have other shares.
struct SharesMessage {
  std::int64_t generation = 0;
  std::int64_t step = 0;               ///< the first with these shares, from 1
  std::vector<std::int64_t> shares{};  ///< grains of each rank, at least 1
  double gain = 0;                     ///< what a step is to get shorter, as a part of it
  std::string reason{};                ///< for people
};

/// Rank 0, after each evaluation, and as the answer to the action "eval".
struct EvalMessage {
  std::int64_t epoch = 0;  ///< from 1: epochs trained
  std::int64_t samples = 0;
  double loss = 0;                   ///< mean over the dataset; of text nats per token
  std::optional<double> accuracy;    ///< of images: the fraction that was classified right
  std::optional<double> perplexity;  ///< of text: exp(loss)
};

/// Each rank, once it has written its part of a checkpoint, or could not.
struct CheckpointMessage {
  std::int64_t step = 0;
  std::int64_t generation = 0;  ///< whose ranks these are
  std::int64_t rank = 0;
  std::int64_t ranks = 0;
  std::int64_t offset = 0;                ///< of its slice in the state
  std::int64_t bytes = 0;                 ///< of its slice
  std::string checksums{};                ///< of its blocks, 16 hexadecimal digits each
  std::vector<CheckpointEntry> layout{};  ///< rank 0: of the state
  std::string error{};                    ///< not empty: why the part was not written
};

struct Percentiles {
  double p50 = 0, p90 = 0, p99 = 0;
};

/// The last message of a worker that did what it was asked to. The figures of the lowest rank are read.
struct FinishedMessage {
  std::string status = "completed";  ///< completed; stopped after a StopMessage
  std::int64_t steps = 0, epochs = 0, samples = 0;
  double seconds = 0;  ///< first step to last commit, evaluation left out
  Percentiles step_ms, allreduce_ms, exposed_allreduce_ms, data_wait_ms;
  double data_wait_share = 0;       ///< of `seconds`, in which the rank waited for samples
  double train_loss = 0;            ///< mean over the last epoch
  std::optional<EvalMessage> eval;  ///< the last one
  std::string weights_sha256;
  std::int64_t peak_memory_bytes = 0;  ///< resident, of this rank's process
  std::int64_t rebalances = 0;         ///< changes of shares, while it was a rank
};

/// The last message of a worker that could not.
struct FailedMessage {
  std::string code;  ///< to_string(ErrorCode)
  std::string message;
  std::int64_t lost_rank = -1;  ///< the rank to blame, if it is another
};

using WorkerMessage =
    std::variant<StartMessage, FormMessage, AbandonMessage, LeaveMessage, StopMessage, DismissMessage,
                 AckMessage, HelloMessage, ReadyMessage, HeartbeatMessage, EnteredMessage, UnpreparedMessage,
                 LeftMessage, StepsMessage, ProgressMessage, SharesMessage, EvalMessage, CheckpointMessage,
                 FinishedMessage, FailedMessage>;

[[nodiscard]] std::string encode(const WorkerMessage& message);
/// Bytes from outside: any string gives a message or an error, never a crash.
[[nodiscard]] Result<WorkerMessage> decode(std::string_view bytes);

/// One end of the socket. Not thread-safe, except that one thread may send while another receives.
class WorkerChannel {
 public:
  explicit WorkerChannel(UniqueFd fd) : fd_(std::move(fd)) {}
  /// A connected pair: {agent's end, worker's end}, both close-on-exec.
  [[nodiscard]] static Result<std::pair<WorkerChannel, UniqueFd>> make_pair();

  /// Does not wait for the reader beyond `timeout` (a full socket); peer_lost when it is gone.
  [[nodiscard]] Status send(const WorkerMessage& message, Duration timeout = std::chrono::seconds(5));
  /// The next message; nothing if none came within `timeout`; peer_lost at end of stream.
  [[nodiscard]] Result<std::optional<WorkerMessage>> receive(Duration timeout);
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }

 private:
  UniqueFd fd_;
};

}  // namespace paceline
