#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "link.hpp"
#include "paceline/sched/coordinator.hpp"
#include "queue.hpp"

namespace paceline::sim {

/// A worker that breaks a rule, to see that the simulation finds it out.
enum class Bug {
  none,
  breaks_its_promise,       ///< forgets a prepared generation that it has voted for
  votes_after_its_report,   ///< its part in a sum and a commit goes on after it has said how far it came (P6)
  forgets_what_is_reduced,  ///< says that it holds nothing of the step that it holds reduced (P7)
  gives_what_it_has_not,    ///< says that it has the whole state while it still receives it (P8)
  redoes_with_old_sums,     ///< applies what it has reduced when the step is to be done again (P7)
  joins_without_the_log,    ///< gets the state, and not the steps that the journal still lacks
  log_after_the_state,      ///< has those a moment later, if who gives them still lives
};

/// What a simulated job is, and what happens to it.
struct Setting {
  std::uint64_t seed = 1;
  CoordinatorOptions job;
  std::int64_t steps = 20;
  bool orderly = true;        ///< who leaves a generation by agreement disturbs nobody's commit in it
  bool entered_early = true;  ///< donors say that they have entered before the joiners have
  Duration compute = std::chrono::milliseconds(30);
  Duration heartbeat = std::chrono::seconds(1);      ///< from one to the next; zero: there are none
  Duration data_timeout = std::chrono::seconds(10);  ///< of a collective
  std::int64_t slow_step = 0;                        ///< one that takes every rank nearly a minute; 0: none
  // faults, all of them before `calm`
  Duration calm = std::chrono::seconds(20);
  std::int64_t kills = 0;  ///< moments; one, some or many at each
  std::int64_t nodes =
      0;  ///< workers that vanish with their machine: noticed late, their last words are lost
  std::int64_t freezes = 0;
  std::int64_t hangs = 0;      ///< ranks that are alive, and stay in their own part of a step
  std::int64_t hung_sums = 0;  ///< generations in which from then on none ends
  std::int64_t stalls = 0;
  std::int64_t reconnects = 0;
  std::int64_t resizes = 0;
  std::int64_t by_hand = 0;
  bool stop = false;
  std::int64_t crashes = 0;         ///< of the coordinator; another takes over
  std::int64_t bad_starts = 0;      ///< one in so many workers dies before it is ready; 0: none
  std::int64_t bad_records = 0;     ///< one in so many attempts to write fails
  bool fenced = false;              ///< another coordinator takes a number at some time
  std::int64_t eager_kills = 0;     ///< at the moments that hurt: forming, receiving, committing, preparing
  std::int64_t eager_chances = 60;  ///< one dies at one in so many of those
  bool deadly = false;              ///< nobody need survive
  Bug bug = Bug::none;
  bool trace = false;
  [[nodiscard]] static Setting random(std::uint64_t seed);
};

struct Outcome {
  std::string status, why;
  std::string violation;  ///< empty: every invariant held
  std::int64_t repairs = 0, resizes = 0, applied = 0;
  Duration lasted{};
  std::vector<std::string> trace;
};

/// A job around a Coordinator: workers, their data plane, and the links. Decides nothing by itself:
/// everything follows from the setting. See worker.cpp for how a worker behaves, checks.cpp for what must
/// hold.
class Simulation {
 public:
  explicit Simulation(Setting setting);
  [[nodiscard]] Outcome run();

 private:
  enum class Phase { starting, waiting, connecting, receiving, training, applying, finishing, gone };
  struct Worker {
    WorkerId id = 0;
    Phase phase = Phase::starting;
    Instant frozen_until{};
    Instant hangs_until{};    // only its training thread does
    Instant stalled_until{};  // the link from it
    WorkPhase does = WorkPhase::other;
    Instant does_since{};
    std::uint64_t doing = 0;  // grows with each change of what it does: older wake-ups mean nothing
    std::int64_t applied = 0;
    std::int64_t keeps_from = 1;  // the first step that, as far as it knows, the journal lacks
    std::uint64_t state = 0;      // hash of all that it has applied
    bool reduced = false;
    std::uint64_t gradients = 0;  // of the step after `applied`, if reduced
    bool complete = false;
    std::int64_t highest = 0;  // generation that it was told of or left
    Generation in;
    Generation prepared;
    bool connected = false;  // to all of the prepared
    bool promised = false;   // voted ready in a commit whose result it doesn't know: can't be taken back
    bool forget = false;     // the prepared, unless the result says otherwise
    std::string forget_why;  // empty: it was told to
    bool stopping = false;
    std::string leave;     // after the apply in progress, for this reason
    bool evicted = false;  // EndWorker or DismissWorker was sent
    std::unique_ptr<Link> up, down;
    FoundWorker known;                                        // to its agent, which outlives coordinators
    std::pair<std::int64_t, std::int64_t> known_steps{1, 0};  // the same, from and to
  };
  /// The shared part of a step's collectives.
  struct Step {
    std::set<WorkerId> contributed, voted;
    // Of the generations that the ranks are ready to change to, 0 for none (P16): if only a flag were voted,
    // ranks that mean different generations would believe that they agree.
    std::int64_t least_ready = std::numeric_limits<std::int64_t>::max(), greatest_ready = 0;
    bool stop = false;
    [[nodiscard]] std::int64_t change_to() const {
      return least_ready == greatest_ready && !stop ? least_ready : 0;
    }
  };
  /// A generation's data plane.
  struct Plane {
    Generation record;
    std::set<WorkerId> members, arrived, gone, switched, at_end;
    std::map<std::int64_t, Step> steps;
    std::optional<std::int64_t> base;
    bool hangs = false;
  };

  // the worker, worker.cpp
  void start(WorkerId id);
  void beat(WorkerId id);
  void begin(Worker& worker, WorkPhase phase);
  void wake(Worker& worker, Duration after, void (Simulation::*what)(Worker&));
  void limit(Worker& worker, Duration after, const char* what);
  void told(Worker& worker, const CoordinatorEffect& effect);
  void told_to(Worker& worker, const FormGeneration& effect);
  void told_to(Worker& worker, const PrepareGeneration& effect);
  void told_to(Worker& worker, const AbandonGeneration& effect);
  void told_to(Worker& worker, const LeaveGeneration& effect);
  void arrive(Worker& worker, Plane& plane);
  void connected(Worker& worker);
  void prepared_connected(Worker& worker, std::int64_t generation);
  void try_to_receive(Plane& plane);
  void received(Worker& worker);
  void entered(Worker& worker);
  void begin_step(Worker& worker);
  void contribute(Worker& worker);
  void reduced(Worker& worker);
  void committed(Worker& worker);
  void apply(Worker& worker);
  void change_generation(Worker& worker);
  void finish(Worker& worker);
  void finished(Worker& worker);
  void exit(Worker& worker, const std::string& how);
  void kill(Worker& worker, const std::string& how, bool with_its_node);
  void lose(Worker& worker, const std::string& why);
  void leave(Worker& worker, const std::string& why);
  void forget_prepared(Worker& worker);
  void vote(Worker& worker);
  void gone_from(Plane& plane, WorkerId id, bool silent);
  void notice(Worker& worker, std::int64_t generation, const std::string& why);
  [[nodiscard]] Plane& plane_of(const Generation& record);
  [[nodiscard]] Standing standing(const Worker& worker) const;
  void tell_steps(Worker& worker);
  void record_steps(std::int64_t from, std::int64_t to);

  // network, coordinator, faults
  void report(Worker& worker, CoordinatorEvent event);
  void happen(const CoordinatorEvent& event);
  void follow(const CoordinatorEffects& effects);
  void write(const Generation& record);
  void schedule_tick();
  void wake_up(WorkerId id, std::uint64_t doing, const std::function<void(Worker&)>& what);
  void later(WorkerId id, Duration after, std::uint64_t doing, std::function<void(Worker&)> what);
  template <class Effect>
  void tell(const Effect& effect);
  void crash();
  void take_over();
  void say_to_agent(WorkerId id, const CoordinatorEvent& event);
  void said_by_agent(WorkerId id, const CoordinatorEffect& effect);
  void do_it(const StartWorker& effect);
  void do_it(const RecordGeneration& effect);
  void do_it(const FormGeneration& effect);
  void do_it(const PrepareGeneration& effect);
  void do_it(const AbandonGeneration& effect);
  void do_it(const LeaveGeneration& effect);
  void do_it(const StopTraining& effect);
  void do_it(const DismissWorker& effect);
  void do_it(const EndWorker& effect);
  void do_it(const Announce& effect);
  void do_it(const EndJob& effect);
  void plan_faults();
  void strike();
  void lose_node();
  void freeze();
  void hang();
  void hang_sums();
  void stall();
  void reconnect();
  void resize();
  void start_by_hand();
  void stop();
  void maybe_die(Worker& worker, const char* where);
  [[nodiscard]] Worker* any_worker();
  [[nodiscard]] bool may_die(const Worker& worker) const;

  // checks.cpp
  void check(bool holds, const std::string& rule);
  void check_record(const Generation& record);
  void check_told(const Generation& record);
  void check_applied(Worker& worker);
  [[nodiscard]] bool is_left_out(const Worker& worker) const;
  void check_end(const EndJob& end);
  void check_accused(const EndWorker& end);
  void say(const std::string& what);

  Setting setting_;
  Queue queue_;
  Dice dice_;
  std::optional<Coordinator> coordinator_;  // none: it has crashed
  std::int64_t term_ = 1;
  std::map<WorkerId, Worker> workers_;
  std::map<std::int64_t, Plane> planes_;
  std::map<std::int64_t, std::uint64_t> committed_;                    // step -> state after it
  std::map<std::pair<std::int64_t, std::int64_t>, Generation> asked_;  // by term and number
  std::map<std::int64_t, Generation> written_;
  std::set<std::int64_t> by_the_dead_;  // records that a coordinator wrote after another had taken over
  Coordinator::State state_before_ = Coordinator::State::forming;
  CoordinatorHistory journal_;           // what the coordinators have announced
  std::int64_t recorded_ = 0;            // steps in the journal
  std::set<std::int64_t> announced_;     // generations
  std::set<std::int64_t> trained_;       // generations that committed a step
  std::set<std::int64_t> acknowledged_;  // records that the coordinator knows to be written
  std::optional<EndJob> end_;
  std::uint64_t tick_ = 0;
  std::int64_t wish_ = 1;
  bool fenced_ = false, stop_sent_ = false;
  std::int64_t deaths_ = 0, early_deaths_ = 0, disturbances_ = 0;
  std::int64_t eager_left_ = 0;
  Outcome outcome_;
};

}  // namespace paceline::sim
