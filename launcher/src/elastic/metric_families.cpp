#include "elastic/metric_families.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>

#include "paceline/base/assert.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

struct PartName {
  RankSum sum;
  std::string_view part;
};
constexpr std::array step_parts = {
    PartName{RankSum::data, "data"},         PartName{RankSum::forward, "forward"},
    PartName{RankSum::backward, "backward"}, PartName{RankSum::reduce, "reduce"},
    PartName{RankSum::commit, "commit"},     PartName{RankSum::optimizer, "optimizer"}};
struct SumName {
  RankSum sum;
  std::string_view metric;
};
constexpr std::array rank_sums = {SumName{RankSum::steps, "paceline_rank_steps_total"},
                                  SumName{RankSum::grains, "paceline_rank_grains_total"},
                                  SumName{RankSum::samples, "paceline_rank_samples_total"},
                                  SumName{RankSum::cpu, "paceline_rank_cpu_seconds_total"},
                                  SumName{RankSum::read, "paceline_rank_read_bytes_total"},
                                  SumName{RankSum::wire, "paceline_rank_wire_sent_bytes_total"},
                                  SumName{RankSum::wire_busy, "paceline_rank_wire_busy_seconds_total"}};

double of(std::int64_t value) {
  return static_cast<double>(value);
}

/// Prometheus refuses a whole scrape for one byte that is not UTF-8.
std::string label_value(std::string_view text) {
  std::string clean;
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    const bool is_well = length > 0 && text.front() != '\0';
    clean += is_well ? text.substr(0, length) : "\xEF\xBF\xBD";
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return clean;
}

/// Collects values under the names of the definitions; each combination of labels once, as Prometheus asks.
class Families {
 public:
  using Labels = std::vector<ClientMetric::Label>;

  /// `labels` has the values of the definition's labels, in its order.
  void add(std::string_view name, double value, const std::vector<std::string_view>& labels = {}) {
    const MetricDefinition& definition = definition_of(name);
    ClientMetric metric;
    const std::vector<std::string> names =
        definition.labels.empty() ? std::vector<std::string>{} : split(definition.labels, ',');
    PACELINE_ASSERT(names.size() == labels.size(), "a metric has other labels than its definition");
    for (std::size_t i = 0; i < names.size(); ++i) metric.label.push_back({names[i], label_value(labels[i])});
    if (!labels.empty() && !seen_[definition.name].insert(metric.label).second) return;
    if (definition.type == MetricType::Counter)
      metric.counter.value = value;
    else
      metric.gauge.value = value;
    by_name_[definition.name].push_back(std::move(metric));
  }
  /// A gauge that may be unknown; what is no number is unknown too.
  void add_known(std::string_view name, const std::optional<double>& value,
                 const std::vector<std::string_view>& labels = {}) {
    if (value && std::isfinite(*value)) add(name, *value, labels);
  }

  [[nodiscard]] std::vector<MetricFamily> take() {
    std::vector<MetricFamily> families;
    for (const MetricDefinition& definition : metric_definitions()) {
      const auto found = by_name_.find(definition.name);
      if (found == by_name_.end()) continue;
      families.push_back({std::string(definition.name), std::string(definition.help), definition.type,
                          std::move(found->second)});
    }
    return families;
  }

 private:
  static const MetricDefinition& definition_of(std::string_view name) {
    const auto found = std::ranges::find(metric_definitions(), name, &MetricDefinition::name);
    PACELINE_ASSERT(found != metric_definitions().end(), "a metric has no definition");
    return *found;
  }

  std::map<std::string_view, std::vector<ClientMetric>> by_name_;
  std::map<std::string_view, std::set<Labels>> seen_;
};

void add_job(Families& families, const JobSnapshot& job, double age_s) {
  families.add("paceline_job_info", 1, {job.name, PACELINE_VERSION});
  families.add("paceline_job_state", 1, {job.state});
  families.add("paceline_coordinator_term", of(job.term));
  families.add("paceline_snapshot_age_seconds", age_s);
  families.add("paceline_steps_total", of(job.step));
  families.add("paceline_job_steps", of(job.steps));
  families.add("paceline_samples_total", of(job.samples));
  families.add("paceline_epoch", of(job.epoch));
  families.add_known("paceline_loss", job.loss);
  families.add_known("paceline_samples_per_second", job.samples_per_second);
  families.add_known("paceline_scaling_efficiency_ratio", job.scaling_efficiency);
  families.add_known("paceline_gradient_noise_scale_samples", job.gradient_noise_scale);
  families.add("paceline_generation", of(job.generation));
  families.add("paceline_ranks", of(job.ranks));
  families.add("paceline_ranks_wish", of(job.wish));
  families.add("paceline_ranks_room", of(job.room));
  families.add("paceline_repairs_total", of(job.repairs));
  families.add("paceline_resizes_total", of(job.resizes));
  families.add("paceline_rebalances_total", of(job.rebalances));
  families.add("paceline_checkpoints_total", of(job.checkpoints));
  families.add("paceline_pause_seconds_total", job.pause_seconds);
  families.add("paceline_stragglers", of(std::ssize(job.stragglers)));
  for (const StragglerSnapshot& straggler : job.stragglers)
    families.add("paceline_rank_straggler", 1,
                 {std::to_string(straggler.rank), straggler.node, straggler.part});
}

void add_worker(Families& families, const WorkerSnapshot& worker) {
  const std::string rank = std::to_string(worker.rank);
  const std::vector<std::string_view> labels = {rank, worker.node};
  const Telemetry& now = worker.telemetry;
  families.add("paceline_rank_worker", of(worker.worker), labels);
  if (!worker.phase.empty())
    families.add_known("paceline_rank_phase_seconds", worker.phase_seconds,
                       {rank, worker.node, worker.phase});
  families.add("paceline_rank_share_grains", of(worker.share), labels);
  families.add("paceline_rank_memory_bytes", of(now.memory_bytes), labels);
  if (now.slowest_wire_rank >= 0) {
    families.add("paceline_rank_slowest_wire_rank", of(now.slowest_wire_rank), labels);
    families.add_known("paceline_rank_slowest_wire_bytes_per_second", now.slowest_wire_bytes_per_s, labels);
  }
  families.add_known("paceline_gpu_busy_ratio", now.gpu_busy, labels);
  families.add_known("paceline_gpu_memory_bytes", now.gpu_memory_bytes, labels);
  families.add_known("paceline_gpu_power_watts", now.gpu_power_w, labels);
  families.add_known("paceline_gpu_temperature_celsius", now.gpu_temperature_c, labels);
}

void add_rank_totals(Families& families, const RankPlace& place, const RankTotal& total) {
  const std::string rank = std::to_string(place.first);
  const auto sum = [&](RankSum which) { return total.sums[static_cast<std::size_t>(which)]; };
  for (const SumName& each : rank_sums) families.add(each.metric, sum(each.sum), {rank, place.second});
  for (const PartName& each : step_parts)
    families.add("paceline_step_part_seconds_total", sum(each.sum), {rank, place.second, each.part});
  families.add_known("paceline_gpu_energy_joules_total", total.gpu_energy_j, {rank, place.second});
}

}  // namespace

std::vector<MetricFamily> metric_families(const MetricsView& view, double age_s) {
  Families families;
  add_job(families, view.snapshot, age_s);
  for (const WorkerSnapshot& worker : view.snapshot.workers)
    if (worker.rank >= 0) add_worker(families, worker);
  for (const auto& [place, total] : view.ranks) add_rank_totals(families, place, total);
  for (const auto& [node, total] : view.nodes) {
    families.add("paceline_node_network_sent_bytes_total", total.sent_bytes, {node});
    families.add("paceline_node_network_received_bytes_total", total.received_bytes, {node});
    families.add_known("paceline_node_energy_joules_total", total.energy_j, {node});
  }
  return families.take();
}

}  // namespace paceline
