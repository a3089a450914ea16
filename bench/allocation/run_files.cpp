#include "allocation/run_files.hpp"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

using nlohmann::json;

/// "rank-012.log": 12; -1: no worker's log.
std::int64_t worker_of(const std::filesystem::path& log) {
  const std::string name = log.filename().string();
  constexpr std::string_view begin = "rank-", end = ".log";
  if (!name.starts_with(begin) || !name.ends_with(end)) return -1;
  const std::string digits = name.substr(begin.size(), name.size() - begin.size() - end.size());
  return parse_integer(digits, 0, std::int64_t{1} << 40).value_or(-1);
}

std::int64_t count_in(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_number_integer() ? found->get<std::int64_t>() : 0;
}

std::optional<double> number_in(const json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_number()) return std::nullopt;
  return found->get<double>();
}

}  // namespace

std::int64_t highest_worker(const std::string& logs) {
  std::int64_t highest = -1;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(logs, error))
    highest = std::max(highest, worker_of(entry.path()));
  return highest;
}

std::int64_t faults_in(const std::string& logs, std::int64_t first_worker) {
  constexpr std::size_t most_bytes = std::size_t{64} << 20;
  std::int64_t faults = 0;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(logs, error)) {
    if (worker_of(entry.path()) < std::max<std::int64_t>(0, first_worker)) continue;
    const Result<std::string> text = read_file(entry.path().string(), most_bytes);
    if (text.ok() && text->find("PACELINE_FAULTS: signal") != std::string::npos) ++faults;
  }
  return faults;
}

Status add_summary(std::string_view text, JobRun& run) {
  const json summary = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!summary.is_object())
    return Error{ErrorCode::corrupt, "a training wrote a summary that is no JSON object"};
  run.repairs += count_in(summary, "repairs");
  run.resizes += count_in(summary, "resizes");
  run.rebalances += count_in(summary, "rebalances");
  const auto totals = summary.find("resource_efficiency");
  if (totals == summary.end() || !totals->is_object()) return {};
  run.totals.useful_samples = count_in(*totals, "useful_samples");
  run.totals.memory_byte_s = number_in(*totals, "memory_byte_s").value_or(0);
  run.totals.energy_j = number_in(*totals, "energy_j");
  return {};
}

Status add_lost_launch(const std::string& summary_file, JobRun& run) {
  const Result<std::string> text = read_file(summary_file);
  return text.ok() ? add_summary(*text, run) : Status();
}

}  // namespace paceline::bench
