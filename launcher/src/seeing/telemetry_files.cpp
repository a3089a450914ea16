#include "seeing/telemetry_files.hpp"

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "paceline/base/text.hpp"
#include "seeing/lines.hpp"
#include "seeing/members.hpp"

namespace paceline {
namespace {

using Json = nlohmann::json;

constexpr std::string_view name_before = "worker-", name_after = ".jsonl", name_after_old = ".old.jsonl";
// Beyond these it is no measurement: a clock of the year 5138, a part of a step of a month.
constexpr double most_time_s = 1e11;
constexpr double most_part_us = 3e12;
constexpr std::size_t most_values = 100;

std::optional<double> time_in(const Json& json) {
  const std::optional<double> time = amount_in(json, "time");
  return time && *time <= most_time_s ? time : std::nullopt;
}

std::optional<double> took_in(const Json& json, const char* name) {
  const std::optional<double> us = amount_in(json, name);
  return us && *us <= most_part_us ? us : std::nullopt;
}

TelemetryLine worker_in(const Json& json, double time) {
  const auto worker = integer_in(json, "worker");
  if (!worker) return {};
  return WorkerBegun{*worker, text_in(json, "node"), integer_in(json, "pid").value_or(0), time};
}

TelemetryLine rank_in(const Json& json, double time) {
  const auto generation = integer_in(json, "generation", 1);
  const auto rank = integer_in(json, "rank");
  const auto ranks = integer_in(json, "ranks", 1);
  if (!generation || !rank || !ranks || *rank >= *ranks) return {};
  return RankTaken{time, *generation, *rank, *ranks, integer_in(json, "step").value_or(0)};
}

TelemetryLine step_in(const Json& json, double time) {
  const auto number = integer_in(json, "step", 1);
  if (!number) return {};
  StepTimed step{time, *number, integer_in(json, "grains").value_or(0), {}};
  for (std::size_t i = 0; i < step_part_names.size(); ++i) {
    const std::optional<double> us = took_in(json, step_part_names.at(i));
    if (!us) return {};
    step.parts_us.at(i) = *us;
  }
  return step;
}

TelemetryLine phase_in(const Json& json, double time) {
  const std::optional<double> took = took_in(json, "took");
  std::string phase = text_in(json, "phase");
  if (!took || phase.empty()) return {};
  return PhaseTimed{time, std::move(phase), *took};
}

TelemetryLine sample_in(const Json& json, double time) {
  Sampled sample{time, {}};
  if (json.size() > most_values) return {};
  for (const auto& [name, value] : json.items())
    if (const auto number = number_in(json, name.c_str()); number && name != "time")
      sample.values.emplace(name, *number);
  return sample;
}

/// Its worker; -1 where it is no such name.
std::int64_t worker_of(std::string_view name, std::string_view after) {
  if (!name.starts_with(name_before) || !name.ends_with(after)) return -1;
  if (name.size() <= name_before.size() + after.size()) return -1;
  const std::string_view digits =
      name.substr(name_before.size(), name.size() - name_before.size() - after.size());
  return parse_integer(digits, 0, most_json_integer).value_or(-1);
}

Status check_version(const Json& json, const std::string& path) {
  const auto version = integer_in(json, "version", 1);
  if (!version || *version <= telemetry_version) return {};
  return Error{ErrorCode::unsupported,
               concat(shown(path), " is of format ", *version, ", and this program reads format ",
                      telemetry_version, ": use a newer build")};
}

}  // namespace

double StepTimed::committed() const {
  return end() - parts_us.at(static_cast<std::size_t>(TimedPart::optimizer)) * 1e-6;
}

double StepTimed::end() const {
  double us = 0;
  for (const double part : parts_us) us += part;
  return time + us * 1e-6;
}

TelemetryLine parse_telemetry_line(std::string_view line) {
  if (line.empty()) return OtherLine{};  // after one that was cut off
  const std::optional<Json> json = json_object(line);
  if (!json) return {};
  const std::string type = text_in(*json, "type");
  if (type.empty()) return {};
  constexpr std::array<std::string_view, 6> known = {"step", "sample", "phase", "rank", "worker", "lost"};
  if (std::ranges::find(known, type) == known.end()) return OtherLine{};
  const std::optional<double> time = time_in(*json);
  if (!time) return {};
  if (type == "step") return step_in(*json, *time);
  if (type == "sample") return sample_in(*json, *time);
  if (type == "phase") return phase_in(*json, *time);
  if (type == "rank") return rank_in(*json, *time);
  if (type == "worker") return worker_in(*json, *time);
  return LinesLost{*time, integer_in(*json, "lines").value_or(0)};
}

Result<std::vector<TelemetryFiles>> find_telemetry(const std::string& run_dir) {
  const std::string folder = run_dir + "/telemetry";
  std::map<std::int64_t, TelemetryFiles> found;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    const std::int64_t old = worker_of(name, name_after_old), newer = worker_of(name, name_after);
    if (old < 0 && newer < 0) continue;
    TelemetryFiles& files = found[std::max(old, newer)];
    files.worker = std::max(old, newer);
    files.paths.insert(old >= 0 ? files.paths.begin() : files.paths.end(), it->path().string());
  }
  if (error && error != std::errc::no_such_file_or_directory)
    return Error{ErrorCode::io, concat("cannot list ", shown(folder), ": ", error.message())};
  std::vector<TelemetryFiles> all;
  for (auto& [worker, files] : found) all.push_back(std::move(files));
  return all;
}

Result<std::int64_t> read_telemetry(const TelemetryFiles& files, const TakeLine& take) {
  std::int64_t unreadable = 0;
  for (const std::string& path : files.paths) {
    LineFile file(path);
    Status checked;
    bool is_first = true;
    PACELINE_TRY(file.next([&](std::string_view line) {
      if (std::exchange(is_first, false))
        if (const auto header = json_object(line)) checked = check_version(*header, path);
      if (!checked.ok()) return;
      const TelemetryLine parsed = parse_telemetry_line(line);
      if (std::holds_alternative<std::monostate>(parsed))
        ++unreadable;
      else
        take(parsed);
    }));
    PACELINE_TRY(std::move(checked));
    unreadable += file.too_long();
  }
  return unreadable;
}

}  // namespace paceline
