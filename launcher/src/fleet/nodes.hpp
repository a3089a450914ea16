#pragma once

#include <memory>
#include <string>
#include <vector>

#include "display.hpp"
#include "fleet/fleet.hpp"
#include "fleet/slurm_growth.hpp"
#include "fleet/slurm_watch.hpp"
#include "launch.hpp"
#include "where/allocation.hpp"

namespace paceline {

/// The nodes of an allocation, each with an agent that waits for its order.
struct Nodes {
  std::unique_ptr<Fleet> fleet;
  std::vector<AgentOrder> agents;       ///< what they are to be
  std::int64_t ranks = 1;               ///< of the job
  std::string text;                     ///< for people: "4 ranks on 2 of 4 nodes, started by srun"
  std::unique_ptr<SlurmWatch> slurm;    ///< where the nodes are Slurm's
  std::unique_ptr<SlurmGrowth> growth;  ///< where the job may ask Slurm for more of them
};

/// Call often while the job trains: keeps the connections going, lets the job leave the nodes that Slurm
/// drains, and asks Slurm for more where the job lacks some. An error once nobody is connected any more.
[[nodiscard]] Status look_after(Nodes& nodes, const std::string& run_dir, Display& display);

/// What all nodes must see besides the dataset.
struct LaunchFolders {
  std::string worker_program;
  std::string runs;  ///< where the run's folder is, or will be made
};

/// Starts the agents, asks what their nodes have, and shares the ranks out: `asked` of them, or as many as
/// the allocation or the cores and the job's limits say. Nodes that get none are there for when the job
/// grows, or loses another. From here on this process uses the network that leads to them. Errors:
/// invalid_argument, where the nodes cannot train together; those of Fleet.
[[nodiscard]] Result<Nodes> prepare_nodes(const Allocation& allocation, const Job& job,
                                          const std::optional<std::int64_t>& asked,
                                          const LaunchFolders& folders, StopSignals& signals);

}  // namespace paceline
