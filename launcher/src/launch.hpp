#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent.hpp"
#include "display.hpp"
#include "inventory.hpp"
#include "listener.hpp"
#include "paceline/job/job.hpp"
#include "paceline/sched/allocation.hpp"
#include "rendezvous.hpp"
#include "where/place.hpp"

namespace paceline {

/// What the workers of a job are to do.
struct LaunchRequest {
  std::string action = "train";  ///< train, eval, export
  Job job;
  std::string run_dir;  ///< absolute
  std::int64_t ranks = 1;
  std::string export_format;
  std::string export_path;
  std::string worker_program;
  std::int64_t first_term = 1;  ///< train: of this launch's first coordinator
};

/// An agent's part of a launch: its workers' places, and how the ranks find each other.
struct Team {
  std::vector<RankPlace> places;     ///< of this agent's workers; `rank` is the rank in the job
  std::vector<MemberSpec> members;   ///< of all ranks
  std::optional<Listener> listener;  ///< rank 0's
  std::string secret;
  std::vector<std::string>
      slots;  ///< training: the node of each place for a worker; beyond `places` without cores
  std::vector<std::string> gpus;  ///< by slot, by UUID; empty: the job's ranks compute on CPUs
};

/// Task 0's, or the shell's, part: allocates ranks to cores, opens rank 0's socket and makes the secret.
[[nodiscard]] Result<Team> make_team(const Place& place, std::int64_t ranks, const Job& job);

/// The part of another task of the launch, which has read `rendezvous`.
[[nodiscard]] Result<Team> join_team(const Place& place, const Rendezvous& rendezvous, const Job& job);

/// What a node is to give a job.
struct NodeShare {
  std::int64_t places = 0;  ///< for workers with cores of their own; 0: as many as there are cores
  bool may_grow = false;    ///< up to the job's most ranks, which then share the cores
  std::string host;         ///< where others reach its workers; empty: the node's address
  std::string secret;
};

/// The part of an agent that is started for a node alone: of a launch that has more of them, or by hand.
[[nodiscard]] Result<Team> make_node_team(const Place& place, const NodeShare& share, const Job& job);

/// The part of a launcher whose workers all have other agents.
[[nodiscard]] Result<Team> make_head_team(const Place& place);

/// How many of a node's cores the launch may use.
[[nodiscard]] std::int64_t usable_cores(const Place& place, const NodeInventory& node);

/// The address for others to reach this process at: of one host 127.0.0.1.
[[nodiscard]] Result<std::string> listening_host(const Place& place);

/// What else an agent's launch has to do meanwhile.
struct AgentHooks {
  std::function<void()> on_first_step;   ///< called once, when a step was committed, which takes every rank
  std::function<Status()> on_each_turn;  ///< ten times a second at least; an error: the job is to stop
  std::function<bool()> is_orphaned;     ///< as often: the launcher that started this agent is gone
};

/// Is the agent of some workers until their end. Training goes on when some are lost; elsewhere the loss of
/// one is the end.
[[nodiscard]] Outcome run_team(const Place& place, const LaunchRequest& request, const Team& team,
                               StopSignals& signals, Display& display, AgentHooks hooks = {});

/// The same of a node's agent in a training: of the launch, or, with an index beyond those, of one that has
/// `joined` later and may go again.
[[nodiscard]] Outcome run_agent(const LaunchRequest& request, const Team& team, std::int64_t index,
                                bool joined, StopSignals& signals, Display& display, AgentHooks hooks = {});

/// "2 ranks with 1 thread each on node vm".
[[nodiscard]] std::string describe_team(const Place& place, const Team& team);

/// The same of a training's worker.
[[nodiscard]] std::string worker_log_path(const std::string& run_dir, std::int64_t worker);

/// RUN/logs/rank-000.log; evaluation and export have files of their own.
[[nodiscard]] std::string log_path(const LaunchRequest& request, std::int64_t rank);

}  // namespace paceline
