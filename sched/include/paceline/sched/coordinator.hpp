#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "paceline/base/clock.hpp"
#include "paceline/sched/settle.hpp"

namespace paceline {

/// A worker process of a job, from its start to its end. Never used again for another.
using WorkerId = std::int64_t;

struct GenerationMember {
  WorkerId worker = 0;
  std::string node;
  std::string host;  ///< where it listens for the others, should it be rank 0
  std::uint16_t port = 0;
  friend bool operator==(const GenerationMember&, const GenerationMember&) = default;
};

/// What a generation is. Exists once it has been written to the run directory, and never changes (P1).
struct GenerationRecord {
  std::int64_t generation = 0;
  std::int64_t term = 0;  ///< of the coordinator that made it
  /// Steps that are applied when its first step begins. Of a planned one, which the ranks change to at a
  /// commit of their own, the least that it can be.
  std::int64_t base_step = 0;
  bool planned = false;                   ///< the generation before still trains; nobody was lost
  std::vector<GenerationMember> members;  ///< by rank
  /// Ranks that hold the training state; the others get it from them. None: nobody has trained yet.
  std::vector<std::int64_t> donors;
  std::string reason;  ///< for people
  friend bool operator==(const GenerationRecord&, const GenerationRecord&) = default;
};
using Generation = std::shared_ptr<const GenerationRecord>;

// ---- what happens to a coordinator -----------------------------------------------------------------

/// It has loaded everything that doesn't need the others, and can become a member.
struct WorkerReady {
  GenerationMember member;
};
/// Its process is gone.
struct WorkerLost {
  WorkerId worker = 0;
  std::string how;  ///< "was killed by signal 9 (Killed)"
};
/// It has irrevocably left the generation: nothing of that can complete on it any more (P6).
struct WorkerLeft {
  WorkerId worker = 0;
  std::int64_t generation = 0;
  Standing standing;
  std::string why;
};
/// It trains in this generation, and holds the whole training state.
struct WorkerEntered {
  WorkerId worker = 0;
  std::int64_t generation = 0;
};
/// It could not connect to the generation that it was to prepare. It goes on with the one it is in.
struct PreparationFailed {
  WorkerId worker = 0;
  std::int64_t generation = 0;
  std::string why;
};
struct StepsCommitted {
  std::int64_t applied = 0;  ///< steps, so far
};
/// The job's work is done, and its results are safe.
struct WorkerFinished {
  WorkerId worker = 0;
};
/// Something that going on with other ranks doesn't mend: its own words.
struct WorkerFailed {
  WorkerId worker = 0;
  std::string why;
};
/// What became of a RecordGeneration.
struct RecordWritten {
  enum class Result { written, exists, failed };
  std::int64_t generation = 0;
  Result result = Result::written;
  std::string why;
};
struct ResizeWanted {
  std::int64_t ranks = 0;
};
struct StopWanted {};
/// Nothing but the time, see Coordinator::wake.
struct Tick {};
using CoordinatorEvent =
    std::variant<WorkerReady, WorkerLost, WorkerLeft, WorkerEntered, PreparationFailed, StepsCommitted,
                 WorkerFinished, WorkerFailed, RecordWritten, ResizeWanted, StopWanted, Tick>;

// ---- what it wants done ----------------------------------------------------------------------------

/// A new worker of this name.
struct StartWorker {
  WorkerId worker = 0;
};
/// Write, sync and link it into place; answer with RecordWritten.
struct RecordGeneration {
  Generation record;
};
/// Tell a worker that has left, or is new: connect to the others, settle or receive the state, train.
struct FormGeneration {
  WorkerId worker = 0;
  Generation record;
};
/// Tell a worker: connect in the background, go on training, change at a commit that all are ready for. One
/// that is not a member then leaves the job.
struct PrepareGeneration {
  WorkerId worker = 0;
  Generation record;
};
/// Tell a worker: forget a generation that you were to prepare.
struct AbandonGeneration {
  WorkerId worker = 0;
  std::int64_t generation = 0;
};
/// Tell a worker: abort what you do in this or an earlier generation, and report.
struct LeaveGeneration {
  WorkerId worker = 0;
  std::int64_t generation = 0;
};
/// Tell a worker: leave with all others after the next commit, and save what there is.
struct StopTraining {
  WorkerId worker = 0;
};
/// Tell a worker: you are not needed any more, exit.
struct DismissWorker {
  WorkerId worker = 0;
};
/// End its process.
struct EndWorker {
  WorkerId worker = 0;
  std::string why;
};
/// For the log and the journal.
struct Announce {
  enum class Kind { repair, generation, resize, warning };
  Kind kind = Kind::warning;
  std::string text;
};
/// It is over; end what is still there.
struct EndJob {
  std::string status;          ///< completed, stopped, failed
  std::optional<WorkerId> by;  ///< the worker whose fault it is
  std::string why;
};
using CoordinatorEffect =
    std::variant<StartWorker, RecordGeneration, FormGeneration, PrepareGeneration, AbandonGeneration,
                 LeaveGeneration, StopTraining, DismissWorker, EndWorker, Announce, EndJob>;
using CoordinatorEffects = std::vector<CoordinatorEffect>;

struct CoordinatorLimits {
  Duration ready = std::chrono::seconds(120);  ///< from a worker's start to WorkerReady
  Duration enter = std::chrono::seconds(90);   ///< from FormGeneration to WorkerEntered, state included
  Duration report = std::chrono::seconds(60);  ///< from LeaveGeneration to WorkerLeft: a pass may be slow
  Duration gather = std::chrono::seconds(3);   ///< joiners that are ready wait so long for others that start
  Duration stop = std::chrono::seconds(5);     ///< from StopWanted to ending those who are still there
  Duration finish = std::chrono::minutes(10);  ///< from the first WorkerFinished to the last
  Duration record_again = std::chrono::seconds(1);  ///< between attempts to write a record
  Duration record = std::chrono::seconds(60);       ///< from the first attempt to giving up
  int start_failures = 3;  ///< workers lost in a row before they could train; then no more are started
  int redone = 3;          ///< times that a step is done again; then it is the step's fault (P11)
};

struct CoordinatorOptions {
  std::int64_t term = 1;
  std::int64_t last_generation = 0;  ///< highest number that is taken
  std::int64_t base_step = 0;        ///< steps that a checkpoint holds
  std::int64_t min_ranks = 1;
  std::int64_t max_ranks = 1;
  std::int64_t wish = 1;  ///< ranks that the job would like to have, within the two
  CoordinatorLimits limits;
};

/// The one authority over who belongs to a job: decides, and does nothing itself. No sockets, threads or
/// clocks: it is told what happens and when, and says what is to be done. One thread.
///
///   forming --wish ready--> recording --written--> running --joiners, resize--> recording --> preparing
///                               ^                   |  ^                                        |
///                               |                   |  +----first WorkerEntered, or abandoned---+
///                               +--all reported-- repairing <--a member is lost or left---------+
///   running --a member finished--> finishing --all gone--> ended
///
/// Invariants (`docs/protocol.md`): generation numbers only grow; nobody is told of a generation before it is
/// recorded; every generation after the first has a donor, a live member of the last one that trained.
class Coordinator {
 public:
  enum class State { forming, recording, running, preparing, repairing, finishing, ended };

  explicit Coordinator(CoordinatorOptions options);

  /// The first effects: workers to start.
  [[nodiscard]] CoordinatorEffects begin(Instant now);
  [[nodiscard]] CoordinatorEffects on(const CoordinatorEvent& event, Instant now);
  /// When a Tick is due, should nothing happen before.
  [[nodiscard]] std::optional<Instant> wake() const;

  [[nodiscard]] State state() const noexcept { return state_; }
  /// What is trained in; nothing before the first.
  [[nodiscard]] const Generation& generation() const noexcept { return current_; }
  [[nodiscard]] std::int64_t wish() const noexcept { return options_.wish; }
  [[nodiscard]] std::int64_t repairs() const noexcept { return repairs_; }
  [[nodiscard]] std::int64_t resizes() const noexcept { return resizes_; }

 private:
  struct Worker {
    GenerationMember member;
    Instant since{};                 // started, told to form, told to leave: what it is waited for
    bool ready = false;              // can become a member
    bool complete = false;           // holds the whole training state
    bool ending = false;             // dismissed, finished or to be ended: counts no more
    bool entered = false;            // the generation that it was told to form
    std::int64_t told = 0;           // highest generation that it was told of
    std::optional<Standing> report;  // since the repair began
  };

  // one per event
  void handle(const WorkerReady& event);
  void handle(const WorkerLost& event);
  void handle(const WorkerLeft& event);
  void handle(const WorkerEntered& event);
  void handle(const PreparationFailed& event);
  void handle(const StepsCommitted& event);
  void handle(const WorkerFinished& event);
  void handle(const WorkerFailed& event);
  void handle(const RecordWritten& event);
  void handle(const ResizeWanted& event);
  void handle(const StopWanted& event);
  void handle(const Tick& event);

  void start_missing();
  void start_failed(const std::string& how);
  void try_to_form();
  void begin_repair(const std::string& why);
  void try_to_settle();
  void try_to_prepare();
  void abandon(const std::string& why);
  void record(GenerationRecord record);
  void write_record();
  void tell_formed();
  void tell_prepared();
  void try_to_end();
  void end_worker(WorkerId id, const std::string& why);
  void end_job(const std::string& status, std::optional<WorkerId> by, const std::string& why);
  void find_overdue();
  [[nodiscard]] bool is_member(WorkerId id) const;
  [[nodiscard]] bool is_told(WorkerId id) const;
  [[nodiscard]] std::vector<WorkerId> ready_joiners() const;
  [[nodiscard]] std::int64_t starting() const;
  [[nodiscard]] std::optional<Instant> gather_until() const;
  [[nodiscard]] std::optional<Instant> overdue_at(const Worker& worker) const;
  [[nodiscard]] bool is_proposed_whole() const;
  template <class Effect>
  void want(Effect effect) {
    effects_.emplace_back(std::move(effect));
  }

  CoordinatorOptions options_;
  State state_ = State::forming;
  Instant now_{};
  CoordinatorEffects effects_;  // of the event in hand
  std::map<WorkerId, Worker> workers_;
  WorkerId last_worker_ = 0;
  std::int64_t last_generation_ = 0;
  std::int64_t applied_ = 0;  // steps, as far as it is known
  Generation current_;
  Generation next_;         // being recorded, or prepared
  bool repairing_ = false;  // what is being recorded is the end of a repair
  std::string repair_reason_;
  Instant record_since_{}, record_at_{};
  bool record_pending_ = false;  // asked for, not answered
  std::int64_t redone_step_ = -1;
  int redone_ = 0;
  int start_failures_ = 0;
  bool start_no_more_ = false;
  std::optional<Instant> ready_since_;  // of the first joiner that waits
  std::optional<Instant> stop_at_, finish_at_;
  std::int64_t repairs_ = 0, resizes_ = 0;
};

}  // namespace paceline
