#include "elastic/metric_totals.hpp"

#include <algorithm>
#include <cmath>
#include <set>

namespace paceline {
namespace {

RankSums sums_of(const Telemetry& t) {
  const auto count = [](std::int64_t value) { return static_cast<double>(value); };
  return {count(t.steps),      count(t.grains),     count(t.samples), t.data_s,      t.forward_s,
          t.backward_s,        t.reduce_s,          t.commit_s,       t.optimizer_s, t.cpu_s,
          count(t.read_bytes), count(t.wire_bytes), t.wire_busy_s};
}

/// What a sum has grown by since `before`, which then is `now`. A sensor that began anew or says no number
/// has counted nothing.
double growth(double now, double& before) {
  if (!std::isfinite(now)) return 0;
  const double grown = std::max(0.0, now - before);
  before = now;
  return grown;
}

/// The same of a sensor that may come and go: what it says first is where it begins.
void add_growth(std::optional<double>& total, const std::optional<double>& now,
                std::optional<double>& before) {
  if (!now || !std::isfinite(*now)) return;
  if (!before) before = *now;
  total = total.value_or(0) + growth(*now, *before);
}

}  // namespace

template <class Key, class Total>
Total& MetricTotals::Ledger<Key, Total>::open(const Key& key) {
  const auto [place, is_new] = present.try_emplace(key);
  if (!is_new) return place->second;
  if (const auto before = gone.find(key); before != gone.end()) {
    place->second = before->second;
    gone.erase(before);
    std::erase(order, key);
  }
  return place->second;
}

template <class Key, class Total>
template <class IsThere>
void MetricTotals::Ledger<Key, Total>::close_all_but(IsThere is_there) {
  for (auto place = present.begin(); place != present.end();) {
    if (is_there(place->first)) {
      ++place;
      continue;
    }
    gone.insert(*place);
    order.push_back(place->first);
    place = present.erase(place);
  }
  while (order.size() > most_kept) {
    gone.erase(order.front());
    order.pop_front();
  }
}

void MetricTotals::add(const JobSnapshot& snapshot) {
  std::set<std::int64_t> workers;
  std::set<RankPlace> places;
  std::set<std::string> nodes;
  for (const WorkerSnapshot& worker : snapshot.workers) {
    workers.insert(worker.worker);
    nodes.insert(worker.node);
    if (worker.rank >= 0) places.emplace(worker.rank, worker.node);
  }
  std::erase_if(seen_, [&](const auto& each) { return !workers.contains(each.first); });
  ranks_.close_all_but([&](const RankPlace& place) { return places.contains(place); });
  nodes_.close_all_but([&](const std::string& node) { return nodes.contains(node); });
  add_nodes(snapshot);
  for (const WorkerSnapshot& worker : snapshot.workers) {
    const auto [place, is_new] = seen_.try_emplace(worker.worker);
    if (is_new && succeeds_) place->second.counted = sums_of(worker.telemetry);
    if (worker.rank >= 0) add_rank(worker, place->second);
    place->second.node_energy_j = worker.telemetry.node_energy_j;
    place->second.sent_bytes = worker.telemetry.network_sent_bytes;
    place->second.received_bytes = worker.telemetry.network_received_bytes;
  }
}

void MetricTotals::add_rank(const WorkerSnapshot& worker, Seen& seen) {
  RankTotal& total = ranks_.open({worker.rank, worker.node});
  const RankSums now = sums_of(worker.telemetry);
  for (std::size_t i = 0; i < now.size(); ++i) total.sums[i] += growth(now[i], seen.counted[i]);
  add_growth(total.gpu_energy_j, worker.telemetry.gpu_energy_j, seen.gpu_energy_j);
}

/// All workers of a node say the same, so that one speaks for it: the first that was there before. When it is
/// replaced, the next one's growth since the last snapshot is what is added.
void MetricTotals::add_nodes(const JobSnapshot& snapshot) {
  std::map<std::string, const WorkerSnapshot*> speakers;
  for (const WorkerSnapshot& worker : snapshot.workers) {
    const WorkerSnapshot*& speaker = speakers[worker.node];
    const bool known = seen_.contains(worker.worker);
    const bool better = speaker == nullptr || (known && !seen_.contains(speaker->worker)) ||
                        (known == seen_.contains(speaker->worker) && worker.worker < speaker->worker);
    if (better) speaker = &worker;
  }
  for (const auto& [node, speaker] : speakers) {
    NodeTotal& total = nodes_.open(node);
    const Telemetry& now = speaker->telemetry;
    const auto before = seen_.find(speaker->worker);
    if (before == seen_.end()) {
      if (now.node_energy_j && !total.energy_j) total.energy_j = 0;
      continue;
    }
    double sent = static_cast<double>(before->second.sent_bytes);
    double received = static_cast<double>(before->second.received_bytes);
    total.sent_bytes += growth(static_cast<double>(now.network_sent_bytes), sent);
    total.received_bytes += growth(static_cast<double>(now.network_received_bytes), received);
    add_growth(total.energy_j, now.node_energy_j, before->second.node_energy_j);
  }
}

}  // namespace paceline
