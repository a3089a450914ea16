#include "allocation/options.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "command_line.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

constexpr std::int64_t most_tasks = 1000;

Error refuse(const std::string& why) {
  return {ErrorCode::invalid_argument, why};
}

/// What an option is given as, where it takes more than CLI11 checks.
struct Texts {
  std::string slow, tasks;
};

void add_jobs(CLI::App& app, AllocationOptions& options, Texts& texts) {
  app.add_option("--runs", options.runs, "of each way (default: 100)")->check(CLI::Range(1, 100'000));
  app.add_option("--seed", options.seed, "of the first run's faults (default: 1)")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 53));
  app.add_option("--ranks", options.ranks, "of a job (default: 2)")->check(CLI::Range(2, 64));
  app.add_option("--steps", options.steps, "of a job (default: 100)")->check(CLI::Range(20, 1'000'000));
  app.add_option("--checkpoint-steps", options.checkpoint_steps, "from one to the next (default: 20)")
      ->check(CLI::Range(2, 1'000'000));
  app.add_option("--model", options.model, "mlp or cnn (default)")->check(CLI::IsMember({"mlp", "cnn"}));
  app.add_option("--batch", options.batch, "samples per step (default: 256)")->check(CLI::Range(2, 1 << 20));
  app.add_option("--images", options.images, "of the dataset that is made (default: 4096)")
      ->check(CLI::Range(2, 1 << 20));
  app.add_option("--slow", texts.slow, "the rank that is held back (default: rank=1,factor=1.25)");
  app.add_option("--objective", options.objective,
                 "of the resize policy: throughput (default), cost or deadline")
      ->check(CLI::IsMember({"throughput", "cost", "deadline"}));
  app.add_option("--price", options.price, "of a rank's hour, as resize.prices has it (default: 0.05)")
      ->check(CLI::Range(1e-9, 1e9));
  app.add_option("--static-failures", options.wanted_failures,
                 "part of the static runs that the faults are to make fail (default: 0.05)")
      ->check(CLI::Range(0.0, 1.0));
}

void add_tasks(CLI::App& app, AllocationOptions& options, Texts& texts) {
  app.add_option("--tasks", texts.tasks, "numbers of tasks at once (default: 10,50,100)");
  app.add_option("--grain", options.grain, "samples of a task (default: 8)")->check(CLI::Range(1, 1 << 20));
  app.add_option("--seconds", options.tasks_seconds, "for which each number is measured (default: 10)")
      ->check(CLI::Range(1.0, 86400.0));
}

Result<std::vector<std::int64_t>> parse_tasks(const std::string& text) {
  std::vector<std::int64_t> tasks;
  for (const std::string& word : split(text, ',')) {
    const auto number = parse_integer(word, 1, most_tasks);
    if (!number)
      return refuse(concat("--tasks ", shown(text), ": ", shown(word), " is no number from 1 to ", most_tasks,
                           ": write for example --tasks 10,50,100"));
    if (std::ranges::find(tasks, *number) != tasks.end())
      return refuse(concat("--tasks ", text, " has ", *number, " twice: name each number of tasks once"));
    tasks.push_back(*number);
  }
  std::ranges::sort(tasks);
  return tasks;
}

Status check(const AllocationOptions& options) {
  if (options.slow.rank >= options.ranks)
    return refuse(concat("--slow: there is no rank ", options.slow.rank, " among the ", options.ranks,
                         " of --ranks, which count from 0"));
  if (options.checkpoint_steps > options.steps)
    return refuse(concat("--checkpoint-steps ", options.checkpoint_steps, " is more than the ", options.steps,
                         " of --steps: no checkpoint would be written"));
  if (options.images < options.batch)
    return refuse(concat("--images ", options.images, " is less than one batch of ", options.batch));
  if (options.images < options.grain)
    return refuse(concat("--images ", options.images, " is less than one grain of ", options.grain));
  if (options.batch < options.ranks)
    return refuse(
        concat("--batch ", options.batch, " leaves no sample for each of the ", options.ranks, " ranks"));
  return {};
}

/// An option that was given and would do nothing; null: there is none.
const char* idle_option(const CLI::App& app, const AllocationOptions& options) {
  static const std::vector<const char*> of_jobs = {
      "--runs",  "--seed", "--ranks",     "--steps", "--checkpoint-steps", "--model",
      "--batch", "--slow", "--objective", "--price", "--static-failures"};
  static const std::vector<const char*> of_tasks = {"--tasks", "--grain", "--seconds"};
  for (const auto& [part, names] : {std::pair("jobs", &of_jobs), std::pair("tasks", &of_tasks)}) {
    if (options.wants(part)) continue;
    for (const char* name : *names)
      if (app.count(name) > 0) return name;
  }
  return nullptr;
}

}  // namespace

bool AllocationOptions::wants(const std::string& part) const {
  return parts.empty() || std::ranges::find(parts, part) != parts.end();
}

Result<AllocationOptions> parse_allocation(std::vector<std::string> arguments) {
  CLI::App app(
      "Measures what allocation by policy and balancing are worth to a job whose ranks are lost, and how "
      "many "
      "tasks at once are served (docs/benchmarks.md).",
      "paceline bench allocation");
  AllocationOptions options;
  Texts texts;
  app.add_option("--only", options.parts, "parts to measure: jobs, tasks")
      ->delimiter(',')
      ->check(CLI::IsMember(allocation_parts));
  add_jobs(app, options, texts);
  add_tasks(app, options, texts);
  app.add_option("--folder", options.folder, "where the temporary folder with the runs is made");
  app.add_option("--timeout", options.timeout_s, "seconds for each thing that is waited for (default: 300)")
      ->check(CLI::Range(1.0, 86400.0));
  app.add_option("--json", options.json, "write the figures to this file too");
  PACELINE_TRY(parse_arguments(app, std::move(arguments)));
  if (const char* idle = idle_option(app, options))
    return refuse(concat(idle, " means nothing to what --only names: leave one of them out"));
  if (app.count("--slow") > 0) {
    PACELINE_ASSIGN(options.slow, parse_slow_rank(texts.slow));
  }
  if (app.count("--tasks") > 0) {
    PACELINE_ASSIGN(options.tasks, parse_tasks(texts.tasks));
  }
  PACELINE_TRY(check(options));
  return options;
}

}  // namespace paceline::bench
