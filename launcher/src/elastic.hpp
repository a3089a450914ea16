#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "agent.hpp"
#include "checkpoints.hpp"
#include "launch.hpp"
#include "paceline/sched/coordinator.hpp"
#include "run_record.hpp"
#include "worker_process.hpp"

namespace paceline {

/// A job whose ranks may be lost and replaced while it trains: the agent of all its workers, and the
/// coordinator beside it. What is decided is in sched/Coordinator; here that becomes processes, messages and
/// files. One thread, one poll loop. No worker outlives it.
class ElasticJob {
 public:
  /// Nothing is owned; all outlive it.
  ElasticJob(const LaunchRequest& request, const Team& team, RunRecord& record, StopSignals& signals,
             Display& display);
  ~ElasticJob();
  ElasticJob(const ElasticJob&) = delete;
  ElasticJob& operator=(const ElasticJob&) = delete;

  /// From the first worker's start to the last one's end.
  [[nodiscard]] Outcome run();

 private:
  struct Worker {
    std::size_t slot = 0;  ///< its place on the node: cores and node name
    WorkerProcess process;
    StartMessage start;
    bool greeted = false;
    std::string ended_because{};         ///< it was killed for this
    std::optional<Instant> closed_at{};  ///< it is to be gone soon after
    std::optional<FinishedMessage> finished{};
  };

  void carry_out(CoordinatorEffects effects);
  void feed(const CoordinatorEvent& event);
  void poll_once();
  void receive(WorkerId id);
  void handle(WorkerId id, const WorkerMessage& message);
  void reap(WorkerId id);
  void obey_signals();
  void acknowledge_steps();
  void end_loiterers();
  void distrust(WorkerId id, const std::string& why);
  void end_with(WorkerId id, const std::string& why);
  void fail(const std::string& why);

  // one per effect
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

  [[nodiscard]] Result<Worker> start_worker(WorkerId id);
  [[nodiscard]] std::size_t free_slot() const;
  [[nodiscard]] const std::string& node_of(std::size_t slot) const;
  void tell(WorkerId id, const WorkerMessage& message);
  void tell_form(WorkerId id, const Generation& record, bool background);
  [[nodiscard]] std::string name_of(WorkerId id, const Worker& worker) const;
  [[nodiscard]] std::int64_t rank_of(WorkerId id) const;
  [[nodiscard]] std::string log_of(WorkerId id) const;
  [[nodiscard]] std::string where_in_job() const;
  void write_down(const Status& written);

  const LaunchRequest& request_;
  const Team& team_;
  RunRecord& record_;
  StopSignals& signals_;
  Display& display_;
  SteadyClock clock_;
  Coordinator coordinator_;
  CheckpointKeeper keeper_;
  std::map<WorkerId, Worker> workers_;
  std::vector<CoordinatorEvent> events_;  // that the effects in hand have led to
  bool ended_ = false;
  std::int64_t acknowledged_ = 0;
  Instant acknowledged_at_{};
  std::optional<std::int64_t> finished_rank_;  // whose figures the outcome has
  Outcome outcome_;
};

}  // namespace paceline
