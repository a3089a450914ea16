#include "scaling/options.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "command_line.hpp"
#include "paceline/base/text.hpp"
#include "paceline/job/plan.hpp"

namespace paceline::bench {
namespace {

constexpr std::int64_t most_ranks = 4096;

Error refuse(const std::string& what) {
  return {ErrorCode::invalid_argument, what};
}

Result<std::vector<std::int64_t>> parse_ranks(const std::string& text) {
  std::vector<std::int64_t> ranks;
  for (const std::string& word : split(text, ',')) {
    const auto number = parse_integer(word, 1, most_ranks);
    if (!number)
      return refuse(concat("--ranks ", shown(text), ": ", shown(word), " is no number from 1 to ", most_ranks,
                           ": write for example --ranks 1,2,4"));
    if (std::ranges::find(ranks, *number) != ranks.end())
      return refuse(concat("--ranks ", text, " has ", *number, " twice: name each number of ranks once"));
    ranks.push_back(*number);
  }
  std::ranges::sort(ranks);
  return ranks;
}

Result<std::vector<JobOverride>> overrides_of(const std::vector<std::string>& sets) {
  std::vector<JobOverride> overrides;
  for (const std::string& set : sets) {
    const std::size_t equals = set.find('=');
    if (equals == std::string::npos || equals == 0)
      return refuse(concat("--set ", shown(set), ": write key=value, for example --set model=mlp"));
    overrides.push_back({set.substr(0, equals), set.substr(equals + 1)});
  }
  return overrides;
}

void add_what(CLI::App& app, ScalingOptions& options, std::string& ranks) {
  app.add_option("JOB", options.job_file, "the job file (YAML)");
  app.add_option("--ranks", ranks, "numbers of ranks, as 1,2,4 (default: 1, 2, 4 ... up to the cores)");
  app.add_flag("--weak", options.weak, "also with as many samples for each rank, whatever their number");
  app.add_option("--set", options.sets, "key=value: replaces what the job file says; repeatable")
      ->allow_extra_args(false);
  app.add_option("--rounds", options.rounds, "in which every size is measured once (default: 3)")
      ->check(CLI::Range(1, 1000));
  app.add_option("--steps", options.steps, "of each training (default: 100)")->check(CLI::Range(5, 1 << 20));
  app.add_option("--threads", options.threads,
                 "compute threads of each rank (default: the job's, or an equal part of the cores)")
      ->check(CLI::Range(1, 4096));
  app.add_option("--simulate", options.simulate,
                 "also show what the fitted model says of up to so many ranks, beyond this machine")
      ->check(CLI::Range(std::int64_t{1}, most_ranks));
}

void add_files(CLI::App& app, ScalingOptions& options) {
  app.add_option("--compare", options.compare, "the --json of an earlier run, to show what has changed");
  app.add_option("--json", options.json, "write the figures to this file too");
  app.add_option("--html", options.html, "and a page with charts, which opens offline, to this one");
  app.add_option("--folder", options.folder, "where the temporary folder with the runs is made");
  app.add_option("--timeout", options.timeout_s, "seconds for each training (default: 14400)")
      ->check(CLI::Range(1.0, 1e7));
}

/// Each rank needs a grain, and the job must allow the number.
Status check_sizes(const ScalingOptions& options, const Job& job) {
  for (const std::int64_t ranks : options.ranks) {
    if (ranks < job.ranks.min || ranks > job.ranks.max)
      return refuse(concat("--ranks ", ranks, ": the job ", shown(options.job_file), " is for ",
                           job.ranks.min, " to ", job.ranks.max,
                           " ranks: choose among these, or change them with --set ranks.max=", ranks));
    const Result<Shares> shares = equal_shares(grain_count(job.batch.global, job_grain(job, ranks)), ranks);
    if (!shares.ok()) return refuse(concat("--ranks ", ranks, ": ", shares.error().message));
  }
  if (options.simulate == 0) return {};
  if (options.simulate <= options.ranks.back())
    return refuse(concat("--simulate ", options.simulate, ": ", options.ranks.back(),
                         " ranks are measured already: give more than that"));
  if (options.simulate > job.batch.global)
    return refuse(concat("--simulate ", options.simulate, ": a step of ", job.batch.global,
                         " samples has none for each of so many ranks: give fewer"));
  return {};
}

}  // namespace

Result<ScalingOptions> parse_scaling(std::vector<std::string> arguments) {
  CLI::App app("Measures what each further rank is worth to a job, and what that costs (docs/benchmarks.md).",
               "paceline bench scaling");
  ScalingOptions options;
  std::string ranks;
  add_what(app, options, ranks);
  add_files(app, options);
  PACELINE_TRY(parse_arguments(app, std::move(arguments)));
  if (options.job_file.empty())
    return refuse("say which job to measure: `paceline bench scaling --help` shows how it is used");
  if (app.count("--ranks") > 0) {
    PACELINE_ASSIGN(options.ranks, parse_ranks(ranks));
  }
  PACELINE_TRY(overrides_of(options.sets));
  return options;
}

Result<Job> load_scaling_job(const ScalingOptions& options) {
  PACELINE_ASSIGN(const std::vector<JobOverride> overrides, overrides_of(options.sets));
  return load_job(options.job_file, overrides);
}

Result<ScalingOptions> settled(ScalingOptions options, const Job& job, std::int64_t cores) {
  if (options.ranks.empty()) {
    for (std::int64_t ranks = job.ranks.min; ranks <= std::min(cores, job.ranks.max); ranks *= 2)
      options.ranks.push_back(ranks);
    if (options.ranks.empty()) options.ranks.push_back(job.ranks.min);
  }
  PACELINE_TRY(check_sizes(options, job));
  if (options.threads == 0) options.threads = job.threads;
  if (options.threads == 0) options.threads = std::max<std::int64_t>(1, cores / options.ranks.back());
  return options;
}

}  // namespace paceline::bench
