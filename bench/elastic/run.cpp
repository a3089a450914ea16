#include "elastic/run.hpp"

#include <iostream>
#include <nlohmann/json.hpp>

#include "elastic/parts.hpp"
#include "elastic/stage_run.hpp"
#include "elastic/training.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

using nlohmann::json;

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
  const std::string heading =
      concat(options.model, ", ", options.ranks, " ranks, batches of ", options.batch);
  return run_on_stage(
      {options.folder, options.timeout_s, options.json, heading},
      {{"settings", to_json(options)}, {"parts", json::array()}},
      [&](Stage& stage, json& report) { return measure_all(stage, options, report["parts"]); });
}

}  // namespace paceline::bench
