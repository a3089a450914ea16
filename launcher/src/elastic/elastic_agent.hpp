#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "agent.hpp"
#include "elastic/coordinator_link.hpp"
#include "launch.hpp"
#include "worker_process.hpp"

namespace paceline {

/// The agent of some workers of a job whose ranks may be lost and replaced while it trains: starts and ends
/// workers as the coordinator says, and carries what they and the coordinator have to say to each other.
/// Decides nothing about the job. One thread, one poll loop. No worker outlives it.
class ElasticAgent {
 public:
  /// Nothing is owned; all outlive it.
  ElasticAgent(const LaunchRequest& request, const Team& team, const AgentName& name, StopSignals& signals,
               Display& display, AgentHooks hooks = {});
  ~ElasticAgent();
  ElasticAgent(const ElasticAgent&) = delete;
  ElasticAgent& operator=(const ElasticAgent&) = delete;

  /// Until the job has ended.
  [[nodiscard]] Outcome run();

 private:
  struct Worker {
    std::size_t slot = 0;
    std::int64_t rank = 0;  ///< for people: its last; before its first the worker's number
    WorkerProcess process;
    StartMessage start;
    bool greeted = false;
    bool finished = false;
    bool expected_to_go = false;         ///< dismissed, finished or ended
    std::string ended_because{};         ///< it was killed for this
    std::optional<Instant> closed_at{};  ///< it is to be gone soon after
    // What another coordinator would have to know of it.
    std::int64_t told_generation = 0;
    bool told_stop = false, dismissed = false;
    std::int64_t told_since{};  ///< the same, since it left a generation
    std::string ready{}, standing{}, eval{}, last{};
    std::string heartbeat{};                                   ///< the newest
    bool heartbeat_is_told = true;                             ///< it was handed on
    std::deque<std::pair<std::int64_t, std::string>> steps{};  ///< by their last step; not in the journal yet
  };

  void poll_once();
  void obey_signals();
  void end_loiterers();
  void beat();
  void obey(const control::ToAgent& message);
  void start(const control::StartWorker& order);
  void start_those_who_wait();
  [[nodiscard]] bool gpu_is_held(std::size_t slot) const;
  void tell(const control::TellWorker& order);
  void end_with(std::int64_t id, const std::string& why);
  void distrust(std::int64_t id, const std::string& why);
  void acknowledge(std::int64_t step);
  void finish(const control::JobEnded& ended);
  void end_without_coordinator(const Error& why);
  void look_after_launch();
  void leave_if_orphaned();
  [[nodiscard]] Result<Worker> start_worker(std::int64_t id, std::size_t slot);
  [[nodiscard]] control::Register introduce() const;
  [[nodiscard]] control::WorkerReport report_of(std::int64_t id, const Worker& worker) const;

  void receive(std::int64_t id);
  void handle(std::int64_t id, const WorkerMessage& message);
  void reap(std::int64_t id);
  void forget_all_workers();
  [[nodiscard]] std::string name_of(const Worker& worker) const;

  const LaunchRequest& request_;
  const Team& team_;
  StopSignals& signals_;
  Display& display_;
  AgentHooks hooks_;
  SteadyClock clock_;
  CoordinatorLink link_;
  MergedLog merged_log_;
  bool may_leave_;  // told to stop, it goes, and the job goes on
  std::map<std::int64_t, Worker> workers_;
  std::vector<control::StartWorker> to_start_;   // whose GPU a process holds that is still going
  std::vector<control::WorkerReport> finished_;  // of workers that are gone: another coordinator must know
  std::string consumed_key_;
  Instant beat_at_{};
  std::optional<Error> abandoned_;  // the launch has lost the other agents
  Instant abandoned_at_{};
  bool orphaned_ = false;
  bool ended_ = false;
  Outcome outcome_;
};

}  // namespace paceline
