#include "rebalance/run.hpp"

#include <iostream>
#include <nlohmann/json.hpp>

#include "command_line.hpp"
#include "paceline/base/fd.hpp"
#include "rebalance/report.hpp"

namespace paceline::bench {
namespace {

constexpr std::size_t most_bytes = std::size_t{256} << 20;

Status measure(const RebalanceOptions& options) {
  PACELINE_TRY(check_json(options.json));
  PACELINE_ASSIGN(const std::string text, read_file(options.trace, most_bytes));
  PACELINE_ASSIGN(Trace trace, parse_trace(text, options.trace));
  const RebalanceReport report = evaluate(std::move(trace), options);
  std::cout << table_of(report, options) << std::flush;
  if (options.json.empty()) return {};
  return write_file_atomically(options.json, to_json(report, options).dump(2) + "\n");
}

}  // namespace

int run_rebalance(const RebalanceOptions& options) {
  const Status measured = measure(options);
  if (measured.ok()) return 0;
  std::cerr << "paceline: " << measured.error().message << "\n";
  return 2;
}

}  // namespace paceline::bench
