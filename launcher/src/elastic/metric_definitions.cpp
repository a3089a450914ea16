#include "elastic/metric_definitions.hpp"

#include <array>

#include "paceline/base/text.hpp"

namespace paceline {
namespace {

using prometheus::MetricType;

constexpr MetricType gauge = MetricType::Gauge;
constexpr MetricType counter = MetricType::Counter;

constexpr std::array definitions = {
    // The job.
    MetricDefinition{"paceline_job_info", gauge, "1", "name,version",
                     "The job's name, and the version of Paceline that trains it."},
    MetricDefinition{"paceline_job_state", gauge, "1", "state",
                     "What the coordinator says of the job, as in paceline status."},
    MetricDefinition{"paceline_coordinator_term", gauge, "number", "",
                     "Term of the coordinator; a higher one has taken over."},
    MetricDefinition{
        "paceline_snapshot_age_seconds", gauge, "seconds", "",
        "Since the coordinator renewed what is shown here; more than a second means that it stands still."},
    MetricDefinition{"paceline_steps_total", counter, "steps", "", "Committed steps since the job began."},
    MetricDefinition{"paceline_job_steps", gauge, "steps", "", "Steps of the whole job."},
    MetricDefinition{"paceline_samples_total", counter, "samples", "",
                     "Samples of committed steps since the job began; work that was redone counts once."},
    MetricDefinition{"paceline_epoch", gauge, "number", "", "Epoch in progress, from 1."},
    MetricDefinition{"paceline_loss", gauge, "as the task's", "",
                     "Mean training loss of the last committed step."},
    MetricDefinition{"paceline_samples_per_second", gauge, "samples per second", "",
                     "Throughput of all ranks over the last second or so."},
    MetricDefinition{"paceline_scaling_efficiency_ratio", gauge, "ratio", "",
                     "Throughput over that of as many ranks without cost of scaling, by the efficiency "
                     "model; 1 is linear."},
    MetricDefinition{"paceline_gradient_noise_scale_samples", gauge, "samples", "",
                     "Gradient noise scale of late: a larger global batch than that hardly helps."},
    MetricDefinition{"paceline_generation", gauge, "number", "", "Generation that trains."},
    MetricDefinition{"paceline_ranks", gauge, "ranks", "", "Ranks of that generation."},
    MetricDefinition{"paceline_ranks_wish", gauge, "ranks", "", "Ranks that the job is to have."},
    MetricDefinition{"paceline_ranks_room", gauge, "ranks", "", "Ranks that its agents have places for."},
    MetricDefinition{"paceline_repairs_total", counter, "generations", "",
                     "Generations that were formed because ranks were lost."},
    MetricDefinition{"paceline_resizes_total", counter, "generations", "",
                     "Generations that were formed to change the number of ranks."},
    MetricDefinition{"paceline_rebalances_total", counter, "changes", "",
                     "Changes of shares within generations."},
    MetricDefinition{"paceline_checkpoints_total", counter, "checkpoints", "", "Checkpoints that are whole."},
    MetricDefinition{"paceline_pause_seconds_total", counter, "seconds", "",
                     "Time in which no step could be worked on, as ranks were lost or changed."},
    MetricDefinition{"paceline_stragglers", gauge, "ranks", "",
                     "Ranks that are slower than their peers now."},
    // Ranks.
    MetricDefinition{"paceline_rank_straggler", gauge, "1", "rank,node,part",
                     "This rank is slower than its peers now, in this part of the step."},
    MetricDefinition{"paceline_rank_worker", gauge, "number", "rank,node",
                     "Number of the worker that is this rank, as in its log's name."},
    MetricDefinition{"paceline_rank_phase_seconds", gauge, "seconds", "rank,node,phase",
                     "How long the rank has been doing what it does now."},
    MetricDefinition{"paceline_rank_share_grains", gauge, "grains", "rank,node",
                     "The rank's share of a whole step."},
    MetricDefinition{"paceline_rank_steps_total", counter, "steps", "rank,node", "Steps that it committed."},
    MetricDefinition{"paceline_rank_grains_total", counter, "grains", "rank,node",
                     "Grains of these steps that were its own."},
    MetricDefinition{"paceline_rank_samples_total", counter, "samples", "rank,node",
                     "Samples of these steps that were its own."},
    MetricDefinition{"paceline_step_part_seconds_total", counter, "seconds", "rank,node,part",
                     "Time of these steps by part: data (waiting for samples), forward, backward, reduce "
                     "(waiting for sums after the last backward), commit (waiting for votes), optimizer."},
    MetricDefinition{"paceline_rank_cpu_seconds_total", counter, "seconds", "rank,node",
                     "Processor time of the rank's process, user and system."},
    MetricDefinition{"paceline_rank_memory_bytes", gauge, "bytes", "rank,node",
                     "Resident memory of the rank's process."},
    MetricDefinition{"paceline_rank_read_bytes_total", counter, "bytes", "rank,node",
                     "What it read from files, cached or not."},
    MetricDefinition{"paceline_rank_wire_sent_bytes_total", counter, "bytes", "rank,node",
                     "What it sent to ranks of other nodes."},
    MetricDefinition{"paceline_rank_wire_busy_seconds_total", counter, "seconds", "rank,node",
                     "Time in which some of that was on its way, summed over connections."},
    MetricDefinition{"paceline_rank_slowest_wire_rank", gauge, "rank", "rank,node",
                     "Rank of another node to which sending was slowest of late."},
    MetricDefinition{"paceline_rank_slowest_wire_bytes_per_second", gauge, "bytes per second", "rank,node",
                     "How fast that was, while there was something to send."},
    // GPUs.
    MetricDefinition{"paceline_gpu_busy_ratio", gauge, "ratio", "rank,node",
                     "Part of the driver's last sampling period in which the rank's GPU was busy."},
    MetricDefinition{"paceline_gpu_memory_bytes", gauge, "bytes", "rank,node",
                     "Memory in use on that GPU, by anybody."},
    MetricDefinition{"paceline_gpu_power_watts", gauge, "watts", "rank,node", "Power that it draws."},
    MetricDefinition{"paceline_gpu_temperature_celsius", gauge, "degrees Celsius", "rank,node",
                     "Its temperature."},
    MetricDefinition{"paceline_gpu_energy_joules_total", counter, "joules", "rank,node",
                     "Energy that it used while it was this rank's."},
    // Nodes.
    MetricDefinition{"paceline_node_network_sent_bytes_total", counter, "bytes", "node",
                     "Sent by all network cards of the node but the loopback, while the job was there."},
    MetricDefinition{"paceline_node_network_received_bytes_total", counter, "bytes", "node",
                     "Received by them."},
    MetricDefinition{"paceline_node_energy_joules_total", counter, "joules", "node",
                     "Energy of the node's processors and memory while the job was there, whoever used them; "
                     "only where it can be read."},
};

}  // namespace

std::span<const MetricDefinition> metric_definitions() {
  return definitions;
}

std::string metrics_table() {
  std::string table = "| metric | type | unit | labels | meaning |\n|---|---|---|---|---|\n";
  for (const MetricDefinition& each : definitions) {
    std::string labels;
    if (!each.labels.empty())
      for (const std::string& label : split(each.labels, ','))
        labels += concat(labels.empty() ? "" : ", ", "`", label, "`");
    table += concat("| `", each.name, "` | ", each.type == counter ? "counter" : "gauge", " | ", each.unit,
                    " | ", labels, " | ", each.help, " |\n");
  }
  return table;
}

}  // namespace paceline
