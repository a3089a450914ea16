#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent.hpp"
#include "display.hpp"
#include "listener.hpp"
#include "paceline/job/job.hpp"
#include "paceline/sched/allocation.hpp"
#include "rendezvous.hpp"
#include "where/place.hpp"

namespace paceline {

/// Where a run goes on: at its beginning, or where it is resumed.
struct RunPosition {
  std::int64_t term = 1;             ///< of its coordinator
  std::int64_t base_step = 0;        ///< steps that are trained
  std::string checkpoint{};          ///< folder of the state after those; empty: there are none
  std::int64_t last_generation = 0;  ///< the highest number that is taken
  std::int64_t last_worker = -1;     ///< the same of workers
};

/// What the workers of a job are to do.
struct LaunchRequest {
  std::string action = "train";  ///< train, eval, export
  Job job;
  std::string run_dir;  ///< absolute
  std::int64_t ranks = 1;
  std::string export_format;
  std::string export_path;
  std::string worker_program;
  std::string consumed_key;  ///< train: of the journal, see StartMessage
  RunPosition position;      ///< train
};

/// An agent's part of a launch: its workers' places, and how the ranks find each other.
struct Team {
  std::vector<RankPlace> places;     ///< of this agent's workers; `rank` is the rank in the job
  std::vector<MemberSpec> members;   ///< of all ranks
  std::optional<Listener> listener;  ///< rank 0's
  std::string secret;
};

/// Task 0's, or the shell's, part: allocates ranks to cores, opens rank 0's socket and makes the secret.
/// `threads` 0: one for every core that a rank owns.
[[nodiscard]] Result<Team> make_team(const Place& place, std::int64_t ranks, std::int64_t threads);

/// The part of another task of the launch, which has read `rendezvous`.
[[nodiscard]] Result<Team> join_team(const Place& place, const Rendezvous& rendezvous, std::int64_t threads);

/// Starts this agent's workers and waits for their end. `record`, not null where rank 0 is this agent's and
/// trains: what is written down of it. In a plain shell training goes on when ranks are lost; under a
/// launcher the loss of one is the end.
[[nodiscard]] Outcome run_team(const Place& place, const LaunchRequest& request, const Team& team,
                               StopSignals& signals, Display& display, RunRecord* record,
                               std::function<void()> on_first_step = {});

/// "2 ranks with 1 thread each on node vm".
[[nodiscard]] std::string describe_team(const Place& place, const Team& team);

/// RUN/logs/rank-000.log; evaluation and export have files of their own.
[[nodiscard]] std::string log_path(const LaunchRequest& request, std::int64_t rank);

}  // namespace paceline
