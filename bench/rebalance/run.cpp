#include "rebalance/run.hpp"

#include <iostream>
#include <nlohmann/json.hpp>

#include "allreduce/report.hpp"
#include "command_line.hpp"
#include "paceline/base/fd.hpp"
#include "rebalance/live.hpp"
#include "rebalance/report.hpp"

namespace paceline::bench {
namespace {

constexpr std::size_t most_bytes = std::size_t{256} << 20;

Status write_json(const RebalanceOptions& options, const nlohmann::json& figures) {
  if (options.json.empty()) return {};
  return write_file_atomically(options.json, figures.dump(2) + "\n");
}

Status replay_trace(const RebalanceOptions& options) {
  PACELINE_ASSIGN(const std::string text, read_file(options.trace, most_bytes));
  PACELINE_ASSIGN(Trace trace, parse_trace(text, options.trace));
  const RebalanceReport report = evaluate(std::move(trace), options);
  std::cout << table_of(report, options) << std::flush;
  return write_json(options, to_json(report, options));
}

int complain(const Error& error, int code) {
  std::cout.flush();
  std::cerr << "paceline: " << error.message << "\n";
  return code;
}

int run_live(const RebalanceOptions& options) {
  const LiveOptions& live = *options.live;
  const auto limit = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(live.timeout_s));
  const Result<std::unique_ptr<Stage>> stage = Stage::make(live.folder, limit);
  if (!stage.ok()) return complain(stage.error(), 2);
  const Machine machine = this_machine();
  std::cout << describe(machine) << "\n"
            << live.model << ", " << live.ranks << " ranks, batches of " << live.batch << "\n"
            << std::flush;
  const Result<LiveReport> report = train_with_slow_rank(**stage, live);
  if (!report.ok()) {
    const int signal = (*stage)->signal();
    const int code = report.error().code == ErrorCode::invalid_argument ? 2 : 1;
    return complain(report.error(), signal != 0 ? 128 + signal : code);
  }
  std::cout << table_of(summary_of(*report, live)) << std::flush;
  nlohmann::json figures = to_json(*report, live);
  figures["machine"] = to_json(machine);
  const Status written = write_json(options, figures);
  return written.ok() ? 0 : complain(written.error(), 2);
}

}  // namespace

int run_rebalance(const RebalanceOptions& options) {
  if (const Status writable = check_json(options.json); !writable.ok()) return complain(writable.error(), 2);
  if (options.live) return run_live(options);
  const Status replayed = replay_trace(options);
  return replayed.ok() ? 0 : complain(replayed.error(), 2);
}

}  // namespace paceline::bench
