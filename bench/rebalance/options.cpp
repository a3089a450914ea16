#include "rebalance/options.hpp"

#include <CLI/CLI.hpp>

#include "command_line.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

constexpr std::int64_t least_steps = 40, most_steps = 100'000;

void add_replay(CLI::App& app, RebalanceOptions& options) {
  app.add_option("--trace", options.trace, "CSV file with what each rank took in each iteration");
  app.add_option("--grains", options.grains, "for each rank, at equal shares (default: 16)")
      ->check(CLI::Range(1, 4096));
  app.add_option("--iterations", options.iterations, "replay so many, the first ones (default: all)")
      ->check(CLI::Range(2, 1 << 30));
}

void add_live(CLI::App& app, LiveOptions& live, std::string& slow) {
  app.add_option("--slow", slow, "train, and hold a rank back now and then: rank=1,factor=2");
  app.add_option("--model", live.model, "mlp or cnn (default)")->check(CLI::IsMember({"mlp", "cnn"}));
  app.add_option("--ranks", live.ranks, "of the job (default: 2)")->check(CLI::Range(2, 64));
  app.add_option("--batch", live.batch, "samples per step (default: 256)")->check(CLI::Range(2, 1 << 20));
  app.add_option("--grain", live.grain, "samples that move together (default: 16 grains for each rank)")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--steps", live.steps, "with the rank slowed, and as many without (default: 100)")
      ->check(CLI::Range(least_steps, most_steps));
  app.add_option("--rounds", live.rounds,
                 "times that the rank is slowed, and pairs of runs of equal ranks (default: 5)")
      ->check(CLI::Range(1, 1000));
  app.add_option("--images", live.images, "of the dataset that is made (default: 16384)")
      ->check(CLI::Range(2, 1 << 20));
  app.add_option("--folder", live.folder, "where the temporary folder with the runs is made");
  app.add_option("--timeout", live.timeout_s, "seconds for each thing that is waited for (default: 120)")
      ->check(CLI::Range(1.0, 86400.0));
}

Error refusal(const std::string& why) {
  return {ErrorCode::invalid_argument, why};
}

/// An option that was given and would do nothing; null: there is none.
const char* idle_option(const CLI::App& app, bool replays) {
  static const std::vector<const char*> of_replay = {"--grains", "--iterations"};
  static const std::vector<const char*> of_live = {"--model",  "--ranks",  "--batch",  "--grain",  "--steps",
                                                   "--rounds", "--images", "--folder", "--timeout"};
  for (const char* option : replays ? of_live : of_replay)
    if (app.count(option) > 0) return option;
  return nullptr;
}

Status check_live(const LiveOptions& live) {
  if (live.slow.rank >= live.ranks)
    return refusal(concat("--slow: there is no rank ", live.slow.rank, " among the ", live.ranks,
                          " of --ranks, which count from 0"));
  if (live.images < live.batch)
    return refusal(concat("--images ", live.images, " is less than one batch of ", live.batch));
  if (live.grain * live.ranks > live.batch)
    return refusal(concat("--grain ", live.grain, " leaves no grain for each of the ", live.ranks,
                          " ranks: --batch is ", live.batch));
  return {};
}

}  // namespace

Result<RebalanceOptions> parse_rebalance(std::vector<std::string> arguments) {
  CLI::App app(
      "Replays a trace of ranks that differ, with shares by several laws; or trains with a rank that is held "
      "back now and then (docs/rebalancing.md).",
      "paceline bench rebalance");
  RebalanceOptions options;
  LiveOptions live;
  std::string slow;
  add_replay(app, options);
  add_live(app, live, slow);
  app.add_option("--json", options.json, "write the figures to this file too");
  PACELINE_TRY(parse_arguments(app, std::move(arguments)));
  const bool replays = app.count("--trace") > 0, trains = app.count("--slow") > 0;
  if (replays && trains) return refusal("--trace replays and --slow trains: name one of them");
  if (!replays && !trains)
    return refusal(
        "say what to do: --trace FILE or --slow rank=1,factor=2; `paceline bench rebalance --help` shows "
        "what "
        "there is");
  if (const char* idle = idle_option(app, replays))
    return refusal(concat(idle, " means nothing with ", replays ? "--trace" : "--slow", ": leave it out"));
  if (replays && options.trace.empty()) return refusal("--trace names no file");
  if (replays) return options;
  PACELINE_ASSIGN(live.slow, parse_slow_rank(slow));
  PACELINE_TRY(check_live(live));
  options.live = std::move(live);
  return options;
}

}  // namespace paceline::bench
