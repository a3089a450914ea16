#include "rebalance/options.hpp"

#include <CLI/CLI.hpp>

#include "command_line.hpp"

namespace paceline::bench {

Result<RebalanceOptions> parse_rebalance(std::vector<std::string> arguments) {
  CLI::App app("Replays a trace of ranks that differ, with shares by several laws (docs/rebalancing.md).",
               "paceline bench rebalance");
  RebalanceOptions options;
  app.add_option("--trace", options.trace, "CSV file with what each rank took in each iteration");
  app.add_option("--grains", options.grains, "for each rank, at equal shares (default: 16)")
      ->check(CLI::Range(1, 4096));
  app.add_option("--iterations", options.iterations, "replay so many, the first ones (default: all)")
      ->check(CLI::Range(2, 1 << 30));
  app.add_option("--json", options.json, "write the figures to this file too");
  PACELINE_TRY(parse_arguments(app, std::move(arguments)));
  if (options.trace.empty())
    return Error{ErrorCode::invalid_argument,
                 "say what to replay: --trace FILE; `paceline bench rebalance --help` shows what there is"};
  return options;
}

}  // namespace paceline::bench
