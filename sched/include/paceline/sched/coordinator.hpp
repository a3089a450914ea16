#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
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
/// What the training thread of a worker does, as far as that matters to the others.
enum class WorkPhase {
  other,     ///< what only it does, or what has a limit of its own: start, connect, receive the state, save
  data,      ///< waits for its samples
  compute,   ///< its passes, the optimizer
  evaluate,  ///< its part of the evaluation
  waits,     ///< in a collective, for other ranks
};
/// That it is there, about ten times a second: from a thread that does nothing else, so that only a process
/// that stands still is silent. Nothing is concluded about a worker that has never sent one.
struct WorkerHeartbeat {
  WorkerId worker = 0;
  std::int64_t step = 0;  ///< in progress
  WorkPhase phase = WorkPhase::other;
  Duration in_phase_for{};
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
/// What became of a RecordGeneration. `exists`: another coordinator's record is there (one that reads the
/// same as ours was written by an attempt that seemed to fail, and is `written`).
struct RecordWritten {
  enum class Result { written, exists, failed };
  std::int64_t generation = 0;
  Result result = Result::written;
  std::string why;
};
struct ResizeWanted {
  std::int64_t ranks = 0;
};
/// There is room for so many workers from now on.
struct RoomChanged {
  std::int64_t workers = 0;
};
/// The job is to go on without these, and others are to take their places where there is room: for so many
/// workers, these not counted.
struct DrainWanted {
  std::vector<WorkerId> workers;
  std::int64_t room = 0;
};
struct StopWanted {};
/// Nothing but the time, see Coordinator::wake.
struct Tick {};
using CoordinatorEvent =
    std::variant<WorkerReady, WorkerLost, WorkerLeft, WorkerEntered, PreparationFailed, WorkerHeartbeat,
                 StepsCommitted, WorkerFinished, WorkerFailed, RecordWritten, ResizeWanted, RoomChanged,
                 DrainWanted, StopWanted, Tick>;

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
/// End its process, and answer with WorkerLost. What it still says doesn't count.
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
  std::string status;            ///< completed, stopped, failed
  std::optional<WorkerId> by{};  ///< the worker whose fault it is
  std::string why{};
  bool fenced =
      false;  ///< only this coordinator ends: another is in charge of the job, and nobody is to be told
};
using CoordinatorEffect =
    std::variant<StartWorker, RecordGeneration, FormGeneration, PrepareGeneration, AbandonGeneration,
                 LeaveGeneration, StopTraining, DismissWorker, EndWorker, Announce, EndJob>;
using CoordinatorEffects = std::vector<CoordinatorEffect>;

/// A worker as its agent describes it to a coordinator that succeeds another.
struct FoundWorker {
  GenerationMember member;
  bool ready = false;
  std::int64_t told = 0;     ///< the highest generation that it was told to form or prepare since `left`
  std::int64_t entered = 0;  ///< the highest that it said it is in
  std::optional<WorkerLeft> left{};  ///< where that, and not that it entered one, is the last that it said
  bool stopping = false;             ///< it was told to stop
  bool dismissed = false;
  bool ending = false;  ///< its process is being ended
  bool finished = false;
  bool gone = false;                           ///< and has exited since
  std::optional<std::string> failed{};         ///< its own words
  std::optional<WorkerHeartbeat> heartbeat{};  ///< its last: it may have frozen since
};

struct CoordinatorLimits {
  Duration ready = std::chrono::seconds(120);  ///< from a worker's start to WorkerReady
  Duration enter = std::chrono::seconds(90);   ///< from FormGeneration to WorkerEntered, state included
  Duration report = std::chrono::seconds(60);  ///< from LeaveGeneration to WorkerLeft: a pass may be slow
  Duration gather = std::chrono::seconds(3);   ///< joiners that are ready wait so long for others that start
  Duration stop = std::chrono::seconds(15);    ///< from StopWanted to ending those who are still there
  Duration finish = std::chrono::minutes(10);  ///< from the first WorkerFinished to the last
  Duration exit = std::chrono::seconds(
      30);  ///< from DismissWorker or WorkerFinished to EndWorker, and from that to WorkerLost
  Duration silence = std::chrono::seconds(5);  ///< without a heartbeat; then it is ended
  /// That a rank may be in one part of its own work while the others wait for it, and how many times as long
  /// as those took for that part; then it is ended. The same for waiting of all, which begins a generation.
  Duration progress = std::chrono::seconds(30);
  int slower = 5;
  Duration look = std::chrono::seconds(1);            ///< from one look for those two to the next
  Duration prepare_again = std::chrono::seconds(10);  ///< from giving a planned generation up to the next
  Duration record_again = std::chrono::seconds(1);    ///< between attempts to write a record
  Duration record = std::chrono::seconds(60);         ///< from the first attempt to giving up
  int start_failures = 3;  ///< workers lost in a row before they could train; then no more for a while
  /// That while. Twice as long each time that those who are started after it are lost as well, up to the
  /// most.
  Duration start_again = std::chrono::seconds(10);
  Duration start_again_most = std::chrono::minutes(5);
  int redone = 3;  ///< times that a step is done again; then it is the step's fault (P11)
  int not_entered =
      10;  ///< generations in a row in which nobody could begin to train; then it is the network's
};

/// What earlier coordinators of a job have announced.
struct CoordinatorHistory {
  std::int64_t announced = 0;  ///< the newest generation that trained; none yet: 0
  std::int64_t repairs = 0;
  std::int64_t resizes = 0;
};

struct CoordinatorOptions {
  std::int64_t term = 1;
  std::int64_t last_generation = 0;  ///< highest number that is taken
  WorkerId last_worker = -1;         ///< the same of workers, who count from 0
  std::int64_t base_step = 0;        ///< steps that a checkpoint holds
  std::int64_t min_ranks = 1;
  std::int64_t max_ranks = 1;
  std::int64_t wish = 1;  ///< ranks that the job would like to have, within the two
  std::int64_t room = std::numeric_limits<std::int64_t>::max();  ///< for workers, until RoomChanged
  CoordinatorHistory history;
  CoordinatorLimits limits;
};

/// The one authority over who belongs to a job: decides, and does nothing itself. No sockets, threads or
/// clocks: it is told what happens and when, and says what is to be done. One thread. Any event may come in
/// any state, once more than once, and of workers and generations that are no more: it is then nothing.
///
///   forming --wish ready--> recording --written--> running --joiners, resize--> recording --> preparing
///                               ^                   |  ^                                        |
///                               |                   |  +--somebody is in it, or it is given up--+
///                               +--all reported-- repairing <--a member is lost or left---------+
///   running --a member finished--> finishing --all gone--> ended
///
/// Invariants (`docs/protocol.md`): generation numbers only grow, by one, and a record that was begun is
/// written to its end before the next (else another coordinator could take the number between, unseen);
/// nobody is told of a generation before it is recorded; every generation after the first has a donor, a live
/// member of the last one that trained.
class Coordinator {
 public:
  enum class State { forming, recording, running, preparing, repairing, finishing, ended };

  explicit Coordinator(CoordinatorOptions options);

  /// The first effects: workers to start.
  [[nodiscard]] CoordinatorEffects begin(Instant now);
  /// In place of begin(): goes on with a job whose coordinator was lost. `records` are all that were ever
  /// made, by number; `workers` all that there are. Training is not disturbed where nothing else was lost.
  [[nodiscard]] CoordinatorEffects take_over(const std::vector<Generation>& records,
                                             const std::vector<FoundWorker>& workers, Instant now);
  [[nodiscard]] CoordinatorEffects on(const CoordinatorEvent& event, Instant now);
  /// A worker that somebody else started, by hand: its name. It is waited for like one of StartWorker.
  [[nodiscard]] WorkerId admit(Instant now);
  /// When a Tick is due, should nothing happen before.
  [[nodiscard]] std::optional<Instant> wake() const;

  [[nodiscard]] State state() const noexcept { return state_; }
  /// What is trained in; nothing before the first.
  [[nodiscard]] const Generation& generation() const noexcept { return current_.record; }
  /// For people.
  [[nodiscard]] std::string state_name() const;
  /// What a worker is at, for people; "gone" where it is unknown.
  [[nodiscard]] std::string describe(WorkerId id) const;
  [[nodiscard]] std::int64_t wish() const noexcept { return options_.wish; }
  /// Of the whole job, under whichever coordinator.
  [[nodiscard]] std::int64_t repairs() const noexcept { return options_.history.repairs; }
  [[nodiscard]] std::int64_t resizes() const noexcept { return options_.history.resizes; }

 private:
  enum class Stage {
    starting,  // not ready yet
    waiting,   // can become a member
    entering,  // told to form a generation, or known to change to it
    training,  // in a generation
    leaving,   // told to leave
    left,      // has left, and said how far it came
    exiting,   // finished, dismissed or shed: counts no more
    ending,    // evicted; until it is dead, it may write to what others share with it (P12)
  };
  static constexpr std::size_t stages = 8;

  /// What a worker's heartbeats have told.
  struct Pulse {
    Instant heard{};
    Instant awake{};              // its first heartbeat after it had stood still, or of all
    std::int64_t first_step = 0;  // in its first heartbeat
    std::int64_t step = 0;
    WorkPhase phase = WorkPhase::other;
    Instant since{};                 // it is in that phase
    std::array<Duration, 5> took{};  // by phase: the last time that it was through with it
    bool silence_told = false;       // that it is waited for
    /// It has been in its phase, without the time in which it stood still.
    [[nodiscard]] Duration busy() const { return heard - std::max(since, awake); }
  };

  struct Worker {
    GenerationMember member;
    Stage stage = Stage::starting;
    std::optional<Instant> deadline;  // of its stage
    std::int64_t generation = 0;      // that it was told to form or said that it is in: nothing older is news
    Standing standing;                // once it has left
    bool trained = false;             // has entered a generation
    bool receives = false;            // the state, in the generation that it is told to form
    bool shed = false;                // told to prepare a generation that goes on without it
    bool draining = false;            // to be replaced, or done without
    std::optional<Pulse> pulse;       // nothing before its first heartbeat, or until that is due
  };
  using Workers = std::map<WorkerId, Worker>;

  /// A generation, and who is in it without searching.
  struct Roll {
    Generation record;
    std::unordered_map<WorkerId, std::size_t> ranks;
    Roll() = default;
    explicit Roll(Generation from);
    [[nodiscard]] bool has(WorkerId id) const { return ranks.contains(id); }
    [[nodiscard]] bool is(std::int64_t generation) const {
      return record != nullptr && record->generation == generation;
    }
  };

  // one per event: they note what happened, and advance() does what follows from it
  void handle(const WorkerReady& event);
  void handle(const WorkerLost& event);
  void handle(const WorkerLeft& event);
  void handle(const WorkerEntered& event);
  void handle(const PreparationFailed& event);
  void handle(const WorkerHeartbeat& event);
  void handle(const StepsCommitted& event);
  void handle(const WorkerFinished& event);
  void handle(const WorkerFailed& event);
  void handle(const RecordWritten& event);
  void handle(const ResizeWanted& event);
  void handle(const RoomChanged& event);
  void handle(const DrainWanted& event);
  void handle(const StopWanted& event);
  void handle(const Tick& event);

  // taking over
  void find(const FoundWorker& found);
  void find_generation(const std::vector<Generation>& records);
  void sort_out_members();
  void sort_out_others();

  void advance();
  void start_missing();
  void start_follows(const Worker& lost, const std::string& how);
  void start_failed(const std::string& how);
  void start_without_pause();
  [[nodiscard]] bool start_no_more() const;
  void try_to_form();
  void try_to_prepare();
  void try_to_settle();

  void record(GenerationRecord record);
  void record_again();
  [[nodiscard]] bool is_next_whole() const;
  void tell_formed();
  void announce_generation();
  void tell_prepared();
  void changed_to_next();
  void give_up_next(const std::string& why);

  void begin_repair(const std::string& why);
  [[nodiscard]] std::vector<WorkerId> survivors_by_rank() const;
  [[nodiscard]] Result<std::int64_t> settled_base(const std::vector<WorkerId>& survivors) const;
  [[nodiscard]] bool is_a_change_lost(const std::vector<WorkerId>& survivors) const;
  void leave_behind(std::vector<WorkerId>& survivors, std::int64_t base);
  [[nodiscard]] bool is_tried_too_often(std::int64_t base);
  void note_attempt(std::int64_t base);
  [[nodiscard]] bool is_survivor(const Worker& worker) const;

  void missed(WorkerId id, Stage stage, const std::string& what);
  [[nodiscard]] bool is_to_look() const;
  void look_after_workers();
  void end_silent();
  void end_stuck();
  void end_hang();
  void expel(WorkerId id, const std::string& why);
  [[nodiscard]] bool may_hold_state(const Worker& worker) const;
  [[nodiscard]] std::string cause_of_delay(const Pulse& late, const std::vector<const Pulse*>& waiting) const;
  [[nodiscard]] std::string place_of(WorkerId id) const;

  [[nodiscard]] std::string overdue(WorkerId id);
  void set_stage(WorkerId id, Worker& worker, Stage stage, std::optional<Duration> limit = {});
  void dismiss(WorkerId id, Worker& worker);
  void end_worker(WorkerId id, const std::string& why);
  void evict(WorkerId id, Worker& worker, const std::string& why);
  Workers::iterator forget(Workers::iterator worker);
  void end_job(const std::string& status, std::optional<WorkerId> by, const std::string& why);
  [[nodiscard]] std::int64_t number(Stage stage) const;
  [[nodiscard]] std::int64_t live() const;
  [[nodiscard]] std::int64_t wanted() const;
  [[nodiscard]] std::int64_t draining_members() const;
  [[nodiscard]] std::vector<WorkerId> joiners() const;
  [[nodiscard]] bool is_to_change_size() const;
  [[nodiscard]] Instant prepare_at() const;
  template <class Effect>
  void want(Effect effect) {
    effects_.emplace_back(std::move(effect));
  }

  CoordinatorOptions options_;
  State state_ = State::forming;
  Instant now_{};
  CoordinatorEffects effects_;  // of the event in hand
  Workers workers_;
  std::array<std::int64_t, stages> numbers_{};        // of workers in each stage
  std::int64_t survivors_ = 0;                        // workers that have left with the whole state
  std::set<WorkerId> draining_;                       // that are still there
  std::set<std::pair<Instant, WorkerId>> deadlines_;  // of all workers
  WorkerId last_worker_;
  std::int64_t last_generation_;  // highest number taken, whether written yet or not
  std::int64_t applied_;          // steps, as far as it is known
  Roll current_;
  Roll next_;           // to be told when it is recorded, or prepared
  Generation writing_;  // a record without an answer, `next_` or one that is void by now
  Instant writing_since_{};
  std::optional<Instant> write_again_;  // after a failed attempt
  Instant waiting_since_{};             // of the first joiner that is ready
  Instant prepare_after_ = Instant::min();
  Instant prepare_until_{};  // while preparing
  std::string repair_reason_;
  bool reason_is_hearsay_ = false;    // a rank that left gave it, and who was lost may be known soon
  bool entered_ = false;              // somebody has begun to train in the current generation
  std::int64_t tried_base_ = -1;      // of the last repair
  int redone_ = 0, not_entered_ = 0;  // repairs in a row at that base
  int start_failures_ = 0;
  Duration start_pause_{};           // the last, or none since somebody has begun to train
  std::optional<Instant> start_at_;  // none are started before
  Instant looked_at_{};              // for silent and stuck workers
  std::optional<Instant> look_at_;   // for the next time; nothing before the first heartbeat
  std::optional<Instant> stop_at_, finish_at_;
};

}  // namespace paceline
