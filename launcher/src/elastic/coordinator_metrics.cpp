// What a coordinator shows of its job to who watches it from outside.
#include <algorithm>

#include "elastic/coordinator_process.hpp"

namespace paceline {

MetricsEndpoint::Options CoordinatorProcess::metrics_options() const {
  MetricsEndpoint::Options options;
  options.run_dir = options_.run_dir;
  options.job = job_.name;
  options.host = options_.host;
  const auto port = static_cast<std::uint16_t>(job_.metrics.port);
  options.ports = port == 0 ? facts_.ports : PortRange{port, port};
  options.succeeds = options_.succeeds;
  return options;
}

/// Once more at the end, for the last state.
void CoordinatorProcess::report_metrics() {
  if (job_.metrics.port == no_metrics) return;
  if (!metrics_) metrics_.emplace(metrics_options(), [this](const std::string& why) { notice(true, why); });
  const Instant now = clock_.now();
  if (ended_ || metrics_->is_due(now)) metrics_->report(snapshot(), now);
}

JobSnapshot CoordinatorProcess::snapshot() {
  JobSnapshot shown;
  shown.name = job_.name;
  shown.state = ended_ ? outcome_.status : coordinator_ ? coordinator_->state_name() : "gathering";
  shown.term = options_.term;
  shown.wish = coordinator_ ? coordinator_->wish() : facts_.ranks;
  shown.room = roster_.room();
  shown.step = steps();
  shown.steps = plan_.steps();
  if (shown.step > 0) {
    const StepRange range = plan_.range(shown.step - 1);
    shown.epoch = range.epoch + 1;
    shown.samples = range.epoch * dataset_.samples + range.positions.first + range.positions.count;
  }
  if (outcome_.progress) {
    shown.loss = outcome_.progress->loss;
    shown.samples_per_second = outcome_.progress->samples_per_second;
  }
  if (const auto present = insight_.present()) shown.scaling_efficiency = present->efficiency.value;
  shown.gradient_noise_scale = insight_.gradient_noise_scale();
  shown.rebalances = rebalances_;
  shown.checkpoints = keeper_ ? keeper_->published() : 0;
  shown.pause_seconds = pauses_.total_s();
  if (coordinator_) {
    shown.repairs = coordinator_->repairs();
    shown.resizes = coordinator_->resizes();
    if (const Generation generation = coordinator_->generation()) {
      shown.generation = generation->generation;
      shown.ranks = std::ssize(generation->members);
    }
  }
  for (const StragglerEvent& event : insight_.stragglers())
    if (event.suspect)
      shown.stragglers.push_back({event.suspect->rank, event.suspect->node, paceline::name_of(event.part)});
  for (const Insight::Member& member : members()) {
    WorkerSnapshot& worker = shown.workers.emplace_back();
    worker.worker = member.worker;
    worker.rank = member.rank;
    worker.node = member.node;
    if (!member.heartbeat) continue;
    worker.share = member.heartbeat->share;
    worker.phase = member.heartbeat->phase;
    worker.phase_seconds = member.heartbeat->seconds;
    worker.telemetry = member.heartbeat->telemetry;
  }
  return shown;
}

}  // namespace paceline
