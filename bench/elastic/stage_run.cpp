#include "elastic/stage_run.hpp"

#include <iostream>
#include <nlohmann/json.hpp>

#include "allreduce/report.hpp"
#include "command_line.hpp"
#include "paceline/base/fd.hpp"

namespace paceline::bench {
namespace {

int complain(const Error& error) {
  std::cout.flush();
  std::cerr << "paceline: " << error.message << "\n";
  return error.code == ErrorCode::invalid_argument ? 2 : 1;
}

}  // namespace

int run_on_stage(const StageRun& run, nlohmann::json report,
                 const std::function<Status(Stage&, nlohmann::json& report)>& measure) {
  if (const Status writable = check_json(run.json); !writable.ok()) return complain(writable.error());
  const auto limit = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(run.timeout_s));
  const Result<std::unique_ptr<Stage>> stage = Stage::make(run.folder, limit);
  if (!stage.ok()) return complain(stage.error());
  const Machine machine = this_machine();
  report["machine"] = to_json(machine);
  std::cout << describe(machine) << "\n";
  if (!run.heading.empty()) std::cout << run.heading << "\n";
  std::cout << std::flush;
  const Status measured = measure(**stage, report);
  if (!measured.ok()) {
    const int code = complain(measured.error());
    return (*stage)->signal() != 0 ? 128 + (*stage)->signal() : code;
  }
  if (run.json.empty()) return 0;
  const Status written = write_file_atomically(run.json, report.dump(2) + "\n");
  return written.ok() ? 0 : complain(written.error());
}

}  // namespace paceline::bench
