#include "allocation/run.hpp"

#include <iostream>
#include <nlohmann/json.hpp>

#include "allocation/report.hpp"
#include "allreduce/report.hpp"
#include "command_line.hpp"
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
  if (const Status writable = check_json(options.json); !writable.ok()) return complain(writable.error());
  const auto limit = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(options.timeout_s));
  const Result<std::unique_ptr<Stage>> stage = Stage::make(options.folder, limit);
  if (!stage.ok()) return complain(stage.error());
  const Machine machine = this_machine();
  std::cout << describe(machine) << std::endl;
  json report = {{"machine", to_json(machine)}, {"settings", to_json(options)}};
  const Status measured = measure(**stage, options, report);
  if (!measured.ok()) {
    const int code = complain(measured.error());
    return (*stage)->signal() != 0 ? 128 + (*stage)->signal() : code;
  }
  if (options.json.empty()) return 0;
  const Status written = write_file_atomically(options.json, report.dump(2) + "\n");
  return written.ok() ? 0 : complain(written.error());
}

}  // namespace paceline::bench
