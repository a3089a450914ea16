#include "scaling/earlier.hpp"

#include <nlohmann/json.hpp>
#include <optional>

#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

using nlohmann::json;

constexpr std::int64_t most = std::int64_t{1} << 40;
constexpr double longest_ms = 1e9;

std::string text_at(const json& object, const char* key) {
  const auto at = object.find(key);
  return at != object.end() && at->is_string() ? at->get<std::string>() : "";
}

std::optional<std::int64_t> integer_at(const json& object, const char* key) {
  const auto at = object.find(key);
  if (at == object.end() || !at->is_number_integer()) return std::nullopt;
  const auto value = at->get<std::int64_t>();
  if (value < 1 || value > most) return std::nullopt;
  return value;
}

const json& object_at(const json& object, const char* key) {
  static const json none = json::object();
  const auto at = object.find(key);
  return at != object.end() && at->is_object() ? *at : none;
}

bool is_simulated(const json& row) {
  const auto at = row.find("simulated");
  return at != row.end() && at->is_boolean() && at->get<bool>();
}

std::optional<EarlierRow> row_in(const json& row) {
  const std::string mode = text_at(row, "mode");
  const auto ranks = integer_at(row, "ranks"), batch = integer_at(row, "samples_per_step");
  const auto step = row.find("step_ms");
  if ((mode != "strong" && mode != "weak") || !ranks || !batch || step == row.end() || !step->is_number())
    return std::nullopt;
  const double step_ms = step->get<double>();
  if (!(step_ms > 0 && step_ms <= longest_ms)) return std::nullopt;
  return EarlierRow{mode == "strong" ? ScalingMode::strong : ScalingMode::weak, {*ranks, *batch}, step_ms};
}

}  // namespace

const EarlierRow* EarlierRun::row_like(const ScalingRow& row) const {
  for (const EarlierRow& earlier : rows)
    if (earlier.mode == row.mode && earlier.size == row.size && !row.simulated) return &earlier;
  return nullptr;
}

Result<EarlierRun> parse_earlier(const std::string& text, const std::string& name) {
  const auto refuse = [&](const std::string& what) {
    return Error{ErrorCode::invalid_argument,
                 concat("--compare ", shown(name), ": ", what,
                        ": name a file that `paceline bench scaling --json` has written")};
  };
  const json all = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!all.is_object() || !all.contains("rows") || !all["rows"].is_array())
    return refuse("this is no JSON with rows");
  EarlierRun run;
  for (const json& entry : all["rows"]) {
    if (!entry.is_object()) return refuse("a row is no object");
    if (is_simulated(entry)) continue;
    const auto row = row_in(entry);
    if (!row) return refuse("a row has no mode, ranks, samples_per_step and step_ms that can be");
    run.rows.push_back(*row);
  }
  if (run.rows.empty()) return refuse("no row was measured");
  run.processor = text_at(object_at(all, "machine"), "processor");
  run.cores = integer_at(object_at(all, "machine"), "cores").value_or(0);
  run.model = text_at(object_at(all, "settings"), "model");
  run.threads = integer_at(object_at(all, "settings"), "threads").value_or(0);
  return run;
}

}  // namespace paceline::bench
