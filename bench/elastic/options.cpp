#include "elastic/options.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "command_line.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

constexpr int most_times = 10000;

void add_job(CLI::App& app, ElasticOptions& options) {
  app.add_option("--model", options.model, "mlp (default) or cnn")->check(CLI::IsMember({"mlp", "cnn"}));
  app.add_option("--ranks", options.ranks, "of the job (default: 4)")->check(CLI::Range(2, 64));
  app.add_option("--batch", options.batch, "samples per step (default: 256)")->check(CLI::Range(1, 1 << 20));
  app.add_option("--images", options.images, "of the dataset that is made (default: 16384)")
      ->check(CLI::Range(1, 1 << 20));
}

void add_repeats(CLI::App& app, ElasticOptions& options) {
  const CLI::Range times(1, most_times);
  app.add_option("--kills", options.kills, "ranks killed (default: 20)")->check(times);
  app.add_option("--coordinator-kills", options.coordinator_kills, "coordinators killed (default: 5)")
      ->check(times);
  app.add_option("--resizes", options.resizes, "changes of the number of ranks (default: 6)")->check(times);
  app.add_option("--cost-pairs", options.cost_pairs,
                 "runs of steps with and without the messages that elasticity needs (default: 40)")
      ->check(times);
  app.add_option("--checkpoints", options.checkpoints, "written in the background (default: 5)")
      ->check(times);
  app.add_option("--checkpoint-steps", options.checkpoint_steps, "from one to the next (default: 100)")
      ->check(CLI::Range(2, 1 << 20));
}

}  // namespace

bool ElasticOptions::wants(const std::string& part) const {
  return parts.empty() || std::ranges::find(parts, part) != parts.end();
}

Result<ElasticOptions> parse_elastic(std::vector<std::string> arguments) {
  CLI::App app(
      "Measures what it costs a job to be elastic, and what that gives: ranks and coordinators are killed.",
      "paceline bench elastic");
  ElasticOptions options;
  app.add_option("--only", options.parts, "parts to measure: kill, coordinator, resize, cost, checkpoint")
      ->delimiter(',')
      ->check(CLI::IsMember(elastic_parts));
  add_job(app, options);
  add_repeats(app, options);
  app.add_option("--folder", options.folder, "where the temporary folder with the runs is made");
  app.add_option("--timeout", options.timeout_s, "seconds for each thing that is waited for (default: 120)")
      ->check(CLI::Range(1.0, 86400.0));
  app.add_option("--json", options.json, "write the figures to this file too");
  PACELINE_TRY(parse_arguments(app, std::move(arguments)));
  if (options.images < options.batch)
    return Error{ErrorCode::invalid_argument,
                 concat("--images ", options.images, " is less than one batch of ", options.batch)};
  return options;
}

}  // namespace paceline::bench
