#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent.hpp"
#include "checkpoints.hpp"
#include "elastic/insight.hpp"
#include "elastic/launch_facts.hpp"
#include "elastic/metrics_reporter.hpp"
#include "elastic/roster.hpp"
#include "paceline/control/server.hpp"
#include "paceline/sched/coordinator.hpp"
#include "paceline/sched/pause_meter.hpp"
#include "paceline/sched/resize_policy.hpp"
#include "run_record.hpp"

namespace paceline {

/// A coordinator around sched/Coordinator: turns what agents say into events, and effects into messages,
/// records and lines of the journal. Has no workers of its own. One thread, one poll loop.
class CoordinatorProcess {
 public:
  struct Options {
    std::string run_dir;
    std::int64_t term = 1;
    std::string node;          ///< this machine's, for people
    std::string host{};        ///< where it listens
    bool succeeds = false;     ///< another coordinator, in the job that is going on
    std::int64_t starter = 0;  ///< the process that has started this one, if it is to be looked after
  };
  /// From taking the term to the job's end, or to the end of this coordinator's part in it.
  [[nodiscard]] static Status run(const Options& options);

 private:
  struct Worker {
    std::int64_t pid = 0;
    std::string ended_because;
    std::deque<std::string> last_words;  // of one that said that it failed
    std::optional<HeartbeatMessage> heartbeat;
    Instant heard{};                    // it
    std::optional<Instant> started_at;  // until it has entered a generation
  };

  CoordinatorProcess(Options options, LaunchFacts facts, Job job, std::unique_ptr<control::Server> server,
                     std::uint64_t key, const StepPlan& plan);

  [[nodiscard]] Status loop();
  void poll_once();
  void work_off_backlog();
  void part();

  // agents
  void heard(control::StreamId stream, const control::FromAgent& message);
  void register_agent(control::StreamId stream, const control::FromAgent& message);
  [[nodiscard]] std::string gpu_that_another_has(const control::Register& self);
  void refuse(control::StreamId stream, const std::string& why, bool for_good = false);
  void send(Roster::Agent& agent, control::ToAgent message);
  void send_all(const control::ToAgent& message);
  void drop_silent_agents();
  void drop_agent(const std::string& name, const std::string& why);
  void beat();
  void room_changed();
  [[nodiscard]] bool has_launcher();
  /// Its ranks are done and leave. A job that is stopped still wants its last checkpoint.
  [[nodiscard]] bool is_completed() const {
    return outcome_.finished && outcome_.finished->status == "completed";
  }
  void let_go(const std::string& agent);
  void release(const std::string& agent);
  void begin_when_all_are_there();
  [[nodiscard]] bool are_all_there();
  void note_attending();
  void take_reports(const std::string& agent, const control::Register& message);
  [[nodiscard]] FoundWorker found_worker(const std::string& agent, const control::WorkerReport& report);
  [[nodiscard]] Status begin();
  [[nodiscard]] Status open_record();
  [[nodiscard]] Status succeed();
  void begin_turn();
  void look_for_newer();
  [[nodiscard]] std::int64_t steps() const { return record_ ? record_->steps() : facts_.position.base_step; }

  // what they say
  void started(const std::string& agent, const control::WorkerStarted& message);
  void said(const std::string& agent, const control::WorkerSaid& message);
  void hear_heartbeats(const std::string& agent, const control::Heartbeat& message);
  void gone(const std::string& agent, const control::WorkerGone& message);
  void handle(WorkerId id, const WorkerMessage& message, const control::WorkerSaid& said);
  void note_shares(const SharesMessage& message);
  void note_finished(WorkerId id, const FinishedMessage& finished);
  void end_with(WorkerId id, const std::string& why);
  void acknowledge_steps();
  void write_down(const Status& written);
  void fail(const std::string& why);

  // effects
  void feed(const CoordinatorEvent& event);
  void carry_out(CoordinatorEffects effects);
  void carry_out(const StartWorker& effect);
  void carry_out(const RecordGeneration& effect);
  void carry_out(const FormGeneration& effect);
  void carry_out(const PrepareGeneration& effect);
  void carry_out(const AbandonGeneration& effect);
  void carry_out(const LeaveGeneration& effect);
  void carry_out(const StopTraining& effect);
  void carry_out(const DismissWorker& effect);
  void carry_out(const EndWorker& effect);
  void carry_out(const Announce& effect);
  void carry_out(const EndJob& effect);
  void tell(WorkerId id, const WorkerMessage& message);
  void tell_form(WorkerId id, const Generation& record, bool background);
  void notice(bool warning, const std::string& text);
  void show(const std::string& message);
  void end_job(const std::string& warning);

  // what it learns from them
  [[nodiscard]] std::vector<Insight::Member> members() const;
  void look_at_ranks();
  void note_straggler(const StragglerEvent& event);
  [[nodiscard]] double lead_s() const;
  [[nodiscard]] ResizeFacts resize_facts();
  void choose_size();
  [[nodiscard]] MetricsEndpoint::Options metrics_options() const;
  [[nodiscard]] JobSnapshot snapshot();
  void report_metrics();

  // what people ask
  void answer(control::QuestionId question, const control::Request& request);
  [[nodiscard]] control::Answer answer_to(const control::Request& request);
  [[nodiscard]] control::Answer resize(std::int64_t ranks);
  [[nodiscard]] control::Answer drain(const std::string& node);
  [[nodiscard]] std::string status_json();

  // names
  [[nodiscard]] std::int64_t rank_of(WorkerId id) const;
  [[nodiscard]] std::string name_of(WorkerId id) const;
  [[nodiscard]] std::string where_in_job() const { return describe_place(outcome_.progress); }

  Options options_;
  LaunchFacts facts_;
  Job job_;
  SteadyClock clock_;
  std::unique_ptr<control::Server> server_;
  // Nothing until it begins: what its predecessor could still tell agents must have been written before.
  std::optional<RunRecord> record_;
  std::optional<CheckpointKeeper> keeper_;
  std::uint64_t key_;  // of the run's consumed hashes
  StepPlan plan_;
  DatasetInfo dataset_;
  std::optional<Coordinator> coordinator_;  // nothing until all agents are there, or waited for long enough
  Roster roster_;
  std::vector<FoundWorker> found_;          // where it succeeds another
  std::set<std::string> seen_;              // agents that have registered here
  std::string launch_problem_;              // why the job can't begin
  std::vector<WorkerMessage> told_before_;  // steps and evaluations that they had reported
  std::map<WorkerId, Worker> workers_;
  std::deque<control::ServerEvent> backlog_;  // of what agents said
  std::vector<CoordinatorEvent> events_;      // that wait: for the effects in hand, or for the coordinator
  bool ended_ = false, fenced_ = false;
  bool attending_changed_ = false;
  Instant began_at_{}, turn_at_{}, beat_at_{}, looked_at_{}, acknowledged_at_{}, alone_since_{};
  std::int64_t acknowledged_ = 0;
  Insight insight_;
  std::optional<MetricsReporter> metrics_;
  std::int64_t rebalances_ = 0;
  PauseMeter pauses_;
  ResizePolicy policy_;
  std::optional<ResizeDecision> decided_;  // last
  std::optional<double> lead_s_;           // from starting a worker to its entering, as last measured
  double elapsed_before_s_ = 0;            // of the run, before this coordinator began
  Instant ranks_looked_at_{}, decided_at_{};
  std::optional<std::int64_t> finished_rank_;  // whose figures the outcome has
  Outcome outcome_;
};

}  // namespace paceline
