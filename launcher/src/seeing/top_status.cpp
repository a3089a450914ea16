#include "seeing/top_status.hpp"

#include <algorithm>
#include <numeric>

#include "paceline/base/text.hpp"
#include "seeing/members.hpp"

namespace paceline {
namespace {

using Json = nlohmann::json;

constexpr std::size_t most_ranks_shown = 1'000'000;
constexpr std::size_t most_text = 200;

Telemetry read_telemetry_members(const Json& json) {
  Telemetry telemetry;
  const auto integer = [&json](const char* name, std::int64_t& into) {
    into = integer_in(json, name, -1).value_or(into);
  };
  const auto amount = [&json](const char* name, double& into) {
    into = amount_in(json, name).value_or(into);
  };
  integer("steps", telemetry.steps);
  integer("grains", telemetry.grains);
  integer("samples", telemetry.samples);
  amount("data_s", telemetry.data_s);
  amount("forward_s", telemetry.forward_s);
  amount("backward_s", telemetry.backward_s);
  amount("reduce_s", telemetry.reduce_s);
  amount("commit_s", telemetry.commit_s);
  amount("optimizer_s", telemetry.optimizer_s);
  amount("cpu_s", telemetry.cpu_s);
  integer("read_bytes", telemetry.read_bytes);
  integer("network_sent_bytes", telemetry.network_sent_bytes);
  integer("network_received_bytes", telemetry.network_received_bytes);
  integer("memory_bytes", telemetry.memory_bytes);
  telemetry.gpu_busy = amount_in(json, "gpu_busy");
  telemetry.gpu_memory_bytes = amount_in(json, "gpu_memory_bytes");
  telemetry.gpu_power_w = amount_in(json, "gpu_power_w");
  telemetry.gpu_temperature_c = number_in(json, "gpu_temperature_c");
  return telemetry;
}

TopRank read_rank(const Json& json) {
  TopRank rank;
  rank.rank = integer_in(json, "rank");
  rank.worker = integer_in(json, "worker").value_or(0);
  rank.node = plain_text_in(json, "node", most_text);
  rank.state = plain_text_in(json, "state", most_text);
  rank.doing = plain_text_in(json, "doing", most_text);
  rank.share = integer_in(json, "share").value_or(0);
  rank.step_ms = amount_in(json, "step_ms");
  const auto telemetry = json.find("telemetry");
  if (telemetry != json.end() && telemetry->is_object()) rank.telemetry = read_telemetry_members(*telemetry);
  return rank;
}

PerPart<double> parts_of(const Telemetry& telemetry) {
  return {telemetry.data_s,   telemetry.forward_s, telemetry.backward_s,
          telemetry.reduce_s, telemetry.commit_s,  telemetry.optimizer_s};
}

/// Of the steps between the two; nothing where there were none.
std::optional<PerPart<double>> fractions(const Telemetry& before, const Telemetry& now) {
  if (now.steps <= before.steps) return std::nullopt;
  PerPart<double> parts = parts_of(now);
  const PerPart<double> base = parts_of(before);
  for (std::size_t i = 0; i < parts.size(); ++i) parts.at(i) = std::max(0.0, parts.at(i) - base.at(i));
  const double sum = std::accumulate(parts.begin(), parts.end(), 0.0);
  if (sum <= 0) return std::nullopt;
  for (double& part : parts) part /= sum;
  return parts;
}

/// Nothing where the sum has begun anew.
std::optional<double> rate(double before, double now, double seconds) {
  if (seconds <= 0 || now < before) return std::nullopt;
  return (now - before) / seconds;
}

double network_bytes(const Telemetry& telemetry) {
  return static_cast<double>(telemetry.network_sent_bytes) +
         static_cast<double>(telemetry.network_received_bytes);
}

}  // namespace

Result<TopStatus> parse_top_status(const std::string& text) {
  const std::optional<Json> json = json_object(text);
  if (!json) return Error{ErrorCode::corrupt, "the coordinator's answer is no JSON object"};
  TopStatus status;
  status.state = plain_text_in(*json, "state", most_text);
  status.run_dir = text_in(*json, "run_dir");
  status.step = integer_in(*json, "step").value_or(0);
  status.steps = integer_in(*json, "steps").value_or(0);
  status.generation = integer_in(*json, "generation").value_or(0);
  status.wish = integer_in(*json, "wish").value_or(0);
  status.room = integer_in(*json, "room").value_or(0);
  status.repairs = integer_in(*json, "repairs").value_or(0);
  status.resizes = integer_in(*json, "resizes").value_or(0);
  status.efficiency = amount_in(*json, "efficiency");
  const auto coordinator = json->find("coordinator");
  if (coordinator != json->end() && coordinator->is_object())
    status.term = integer_in(*coordinator, "term").value_or(0);
  const auto ranks = json->find("ranks");
  if (ranks != json->end() && ranks->is_array() && ranks->size() <= most_ranks_shown)
    for (const Json& rank : *ranks)
      if (rank.is_object()) status.ranks.push_back(read_rank(rank));
  return status;
}

TopRow TopRates::row(const TopRank& rank, double time_s) {
  TopRow row{rank, {}, {}, {}, {}};
  if (!rank.telemetry) return row;
  const Telemetry& now = *rank.telemetry;
  const auto [found, is_new] = before_.try_emplace(rank.worker, Before{now, time_s, {}});
  Before& before = found->second;
  // At the first look, of all its steps.
  const auto parts = fractions(is_new ? Telemetry{} : before.telemetry, now);
  if (parts) before.parts = parts;
  row.parts = before.parts;
  if (is_new) return row;
  const double seconds = time_s - before.time_s;
  row.cpu_cores = rate(before.telemetry.cpu_s, now.cpu_s, seconds);
  row.read_bytes_per_s =
      rate(static_cast<double>(before.telemetry.read_bytes), static_cast<double>(now.read_bytes), seconds);
  row.network_bytes_per_s = rate(network_bytes(before.telemetry), network_bytes(now), seconds);
  before.telemetry = now;
  before.time_s = time_s;
  return row;
}

std::vector<TopRow> TopRates::rows(const TopStatus& status, double time_s) {
  std::vector<TopRow> rows;
  std::map<std::int64_t, Before> still;
  for (const TopRank& rank : status.ranks) {
    rows.push_back(row(rank, time_s));
    const auto seen = before_.find(rank.worker);
    if (seen != before_.end()) still.insert(*seen);
  }
  before_ = std::move(still);  // those who are gone don't come back
  return rows;
}

}  // namespace paceline
