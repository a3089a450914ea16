#include "seeing/run_totals.hpp"

#include <algorithm>
#include <filesystem>

namespace paceline {
namespace {

// A second's work to read.
constexpr std::uintmax_t most_bytes_at_end = std::uintmax_t{16} << 20;

std::uintmax_t bytes_of(const TelemetryFiles& files) {
  std::uintmax_t bytes = 0;
  for (const std::string& path : files.paths) {
    std::error_code error;
    const std::uintmax_t size = std::filesystem::file_size(path, error);
    if (!error) bytes += size;
  }
  return bytes;
}

}  // namespace

RunTotals totals_of(const ReportTelemetry& telemetry, std::int64_t committed, std::int64_t batch) {
  RunTotals totals;
  // Steps that a resumed run did again stand in telemetry twice.
  const std::int64_t steps =
      telemetry.is_from_the_beginning ? committed : std::min(committed, telemetry.steps);
  totals.useful_samples = steps * batch;
  for (const ReportWorker& worker : telemetry.workers) totals.memory_byte_s += worker.memory_byte_s;
  if (telemetry.has_all_energy)
    totals.energy_j = telemetry.node_energy_j.value_or(0) + telemetry.gpu_energy_j.value_or(0);
  return totals;
}

Result<std::optional<RunTotals>> totals_at_end(const std::string& run_dir) {
  PACELINE_ASSIGN(const std::vector<TelemetryFiles> all, find_telemetry(run_dir));
  std::uintmax_t bytes = 0;
  for (const TelemetryFiles& files : all) bytes += bytes_of(files);
  if (all.empty() || bytes > most_bytes_at_end) return {std::nullopt};
  PACELINE_ASSIGN(const ReportData data, gather_report(run_dir));
  return {totals_of(data.telemetry, data.steps, data.batch)};
}

}  // namespace paceline
