#include "elastic/insight.hpp"

#include <algorithm>
#include <set>

namespace paceline {
namespace {

// Heartbeats come ten times a second.
constexpr Duration silence = std::chrono::seconds(5);
constexpr Duration power_interval = std::chrono::seconds(2);

std::int64_t nodes_of(const std::vector<Insight::Member>& members) {
  std::set<std::string> nodes;
  for (const Insight::Member& member : members) nodes.insert(member.node);
  return std::ssize(nodes);
}

/// All joules that the nodes of these ranks, and their GPUs, say they have used. Nothing where one is silent.
std::optional<double> energy_of(const std::vector<Insight::Member>& members) {
  std::map<std::string, double> nodes;
  double gpus_j = 0;
  for (const Insight::Member& member : members) {
    if (!member.heartbeat || !member.heartbeat->telemetry.node_energy_j) return std::nullopt;
    double& node_j = nodes[member.node];
    node_j = std::max(node_j, *member.heartbeat->telemetry.node_energy_j);
    gpus_j += member.heartbeat->telemetry.gpu_energy_j.value_or(0);
  }
  for (const auto& [node, joules] : nodes) gpus_j += joules;
  return gpus_j;
}

}  // namespace

MeasuredSums measured_sums(const Telemetry& telemetry) {
  MeasuredSums sums;
  sums.steps = telemetry.steps;
  sums.grains = telemetry.grains;
  sums.data_s = telemetry.data_s;
  sums.forward_s = telemetry.forward_s;
  sums.backward_s = telemetry.backward_s;
  sums.reduce_s = telemetry.reduce_s;
  sums.commit_s = telemetry.commit_s;
  sums.optimizer_s = telemetry.optimizer_s;
  sums.cpu_s = telemetry.cpu_s;
  sums.wire_bytes = telemetry.wire_bytes;
  sums.wire_busy_s = telemetry.wire_busy_s;
  return sums;
}

Insight::Findings Insight::observe(Instant now, std::int64_t generation, const std::vector<Member>& members) {
  const bool same_ranks = std::ranges::equal(members_, members, {}, &Member::worker, &Member::worker);
  members_ = members;
  if (!same_ranks) power_w_.reset(), energy_j_.reset();
  std::vector<RankReport> reports;
  std::vector<RankSums> sums;
  for (const Member& member : members) {
    if (!member.heartbeat) continue;
    const Telemetry& telemetry = member.heartbeat->telemetry;
    reports.push_back({.worker = member.worker,
                       .rank = member.rank,
                       .node = member.node,
                       .heard = member.heard,
                       .share = member.heartbeat->share,
                       .sums = measured_sums(telemetry),
                       .slowest_wire_rank = telemetry.slowest_wire_rank,
                       .slowest_wire_bytes_per_s = telemetry.slowest_wire_bytes_per_s});
    sums.push_back({member.worker, reports.back().sums});
  }
  Findings findings;
  findings.events = detector_.observe(now, generation, reports);
  watch_power(now);
  if (sums.size() != members.size() || members.empty()) return findings;
  const std::int64_t ranks = std::ssize(members);
  const auto made =
      meter_.take(to_seconds(now.time_since_epoch()), generation, size_of(ranks, nodes_of(members)), sums);
  if (!made) return findings;
  if (const Status taken = model_.observe(*made); !taken.ok()) findings.refused = taken.error().message;
  return findings;
}

void Insight::watch_power(Instant now) {
  if (energy_j_ && now - energy_at_ < power_interval) return;
  const std::optional<double> energy_j = energy_of(members_);
  power_w_.reset();
  if (energy_j && energy_j_ && *energy_j >= *energy_j_)
    power_w_ = (*energy_j - *energy_j_) / to_seconds(now - energy_at_);
  energy_j_ = energy_j;
  energy_at_ = now;
}

JobSize Insight::size_of(std::int64_t ranks, std::int64_t nodes) const {
  return {ranks, std::clamp<std::int64_t>(nodes, 1, ranks), batch_};
}

std::optional<SizePrediction> Insight::predict(std::int64_t ranks, std::int64_t nodes) const {
  if (model_.sizes() == 0) return std::nullopt;
  const Result<SizePrediction> made = model_.predict(size_of(ranks, nodes));
  return made.ok() ? std::optional(*made) : std::nullopt;
}

std::optional<SizePrediction> Insight::present() const {
  return members_.empty() ? std::nullopt : predict(std::ssize(members_), nodes_of(members_));
}

std::optional<double> Insight::gradient_noise_scale() const {
  const Telemetry* oldest = nullptr;
  for (const Member& member : members_) {
    if (!member.heartbeat) continue;
    const Telemetry& telemetry = member.heartbeat->telemetry;
    if (oldest == nullptr || telemetry.steps > oldest->steps) oldest = &telemetry;
  }
  return oldest == nullptr ? std::nullopt : oldest->gradient_noise_scale;
}

std::optional<std::int64_t> Insight::silent_rank(Instant now) const {
  for (const Member& member : members_)
    if (!member.heartbeat || now - member.heard > silence) return member.rank;
  const std::vector<UnusableRank> unusable = detector_.unusable();
  if (!unusable.empty()) return unusable.front().who.rank;
  return std::nullopt;
}

}  // namespace paceline
