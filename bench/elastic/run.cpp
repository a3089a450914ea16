#include "elastic/run.hpp"

#include <iostream>
#include <nlohmann/json.hpp>

#include "allreduce/report.hpp"
#include "command_line.hpp"
#include "elastic/parts.hpp"
#include "elastic/training.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

using nlohmann::json;

int complain(const Error& error) {
  std::cout.flush();
  std::cerr << "paceline: " << error.message << "\n";
  return error.code == ErrorCode::invalid_argument ? 2 : 1;
}

json to_json(const ElasticOptions& options) {
  return {{"model", options.model},
          {"ranks", options.ranks},
          {"batch", options.batch},
          {"images", options.images},
          {"checkpoint_steps", options.checkpoint_steps}};
}

Status measure_all(Stage& stage, const ElasticOptions& options, json& parts) {
  using Measure = Result<PartReport> (*)(const PartContext&);
  static const std::vector<std::pair<std::string, Measure>> measures = {
      {"kill", measure_kills},
      {"coordinator", measure_coordinator_kills},
      {"resize", measure_resizes},
      {"cost", measure_cost},
      {"checkpoint", measure_checkpoints}};
  PACELINE_ASSIGN(const std::string dataset, make_images(stage, options));
  for (const auto& [name, measure] : measures) {
    if (!options.wants(name)) continue;
    PACELINE_ASSIGN(const PartReport report, measure({stage, options, dataset}));
    std::cout << table_of(report) << std::flush;
    parts.push_back(to_json(report));
  }
  return {};
}

}  // namespace

int run_elastic(const ElasticOptions& options) {
  if (const Status writable = check_json(options.json); !writable.ok()) return complain(writable.error());
  const auto limit = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(options.timeout_s));
  const Result<std::unique_ptr<Stage>> stage = Stage::make(options.folder, limit);
  if (!stage.ok()) return complain(stage.error());
  const Machine machine = this_machine();
  std::cout << describe(machine) << "\n"
            << options.model << ", " << options.ranks << " ranks, batches of " << options.batch << "\n"
            << std::flush;
  json report = {{"machine", to_json(machine)}, {"settings", to_json(options)}, {"parts", json::array()}};
  const Status measured = measure_all(**stage, options, report["parts"]);
  if (!measured.ok()) {
    const int code = complain(measured.error());
    return (*stage)->signal() != 0 ? 128 + (*stage)->signal() : code;
  }
  if (options.json.empty()) return 0;
  const Status written = write_file_atomically(options.json, report.dump(2) + "\n");
  return written.ok() ? 0 : complain(written.error());
}

}  // namespace paceline::bench
