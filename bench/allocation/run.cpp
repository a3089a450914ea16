#include "allocation/run.hpp"

#include <iostream>
#include <nlohmann/json.hpp>

#include "allocation/report.hpp"
#include "elastic/stage_run.hpp"
#include "elastic/training.hpp"

namespace paceline::bench {
namespace {

using nlohmann::json;

Status measure(Stage& stage, const AllocationOptions& options, json& report) {
  ElasticOptions images;
  images.images = options.images;
  PACELINE_ASSIGN(const std::string dataset, make_images(stage, images));
  if (options.wants("jobs")) {
    PACELINE_ASSIGN(const JobsReport jobs, measure_jobs(stage, options, dataset));
    std::cout << table_of(jobs) << std::flush;
    report["jobs"] = to_json(jobs);
  }
  if (options.wants("tasks")) {
    PACELINE_ASSIGN(const TasksReport tasks, measure_tasks(stage, options, dataset));
    std::cout << table_of(tasks) << std::flush;
    report["tasks"] = to_json(tasks);
  }
  return {};
}

}  // namespace

int run_allocation(const AllocationOptions& options) {
  return run_on_stage({options.folder, options.timeout_s, options.json, ""}, {{"settings", to_json(options)}},
                      [&](Stage& stage, json& report) { return measure(stage, options, report); });
}

}  // namespace paceline::bench
