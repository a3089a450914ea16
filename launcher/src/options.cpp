#include "options.hpp"

#include <CLI/CLI.hpp>

#include "data_options.hpp"
#include "job_size.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

/// Everything that the command line can fill in, and which subcommand was chosen.
struct Parsed {
  TrainOptions train;
  std::vector<std::string> sets;
  EvalOptions eval;
  ExportOptions export_run;
  AuditOptions audit;
  StatusOptions status;
  ResizeOptions resize;
  DrainOptions drain;
  StopOptions stop;
  JoinOptions join;
  CoordinatorCommand coordinator;
  AgentCommand agent;
  DataCommands data;
};

void add_train(CLI::App& app, Parsed& parsed) {
  CLI::App* train = app.add_subcommand("train", "Train a network as a job file says");
  train->add_option("JOB", parsed.train.job_file, "the job file (YAML)");
  train->add_option("--ranks", parsed.train.ranks,
                    "number of ranks (default: the cores, within the job's limits)");
  // One value each time, or it would swallow the job file where that comes after it.
  train
      ->add_option("--set", parsed.sets,
                   "key=value: replaces what the job file says, e.g. model=mlp; repeatable")
      ->allow_extra_args(false);
  train->add_option("--resume", parsed.train.resume,
                    "a run's folder: goes on with it from its newest checkpoint, instead of a JOB");
  train->add_option(
      "--hosts", parsed.train.hosts,
      "machines to train on, through ssh: a file with lines NAME [slots=N], or NAME[:N],NAME[:N]...");
  train->add_option(
      "--interface", parsed.train.interface,
      "name or address of the network interface between machines (default: PACELINE_INTERFACE)");
  train->add_option("--run-dir", parsed.train.run_dir, "the run's folder (default: runs/<name>/<UTC time>)");
  train
      ->add_option("--threads", parsed.train.threads, "compute threads per rank (default: the cores it owns)")
      ->check(CLI::Range(1, 4096));
  train->add_option("--json", parsed.train.json, "write the summary to this file too");
  train->add_flag("--quiet", parsed.train.quiet, "show nothing but errors");
}

void add_run_commands(CLI::App& app, Parsed& parsed) {
  CLI::App* eval = app.add_subcommand("eval", "Evaluate the model of a run on its evaluation dataset");
  eval->add_option("RUN", parsed.eval.run_dir, "the run directory")->required();
  eval->add_option("--ranks", parsed.eval.ranks,
                   "number of ranks (default: the cores, within the job's limits)");
  eval->add_option("--json", parsed.eval.json, "write the result to this file too");
  CLI::App* export_run =
      app.add_subcommand("export", "Write the model of a run in a format for other programs");
  export_run->add_option("RUN", parsed.export_run.run_dir, "the run directory")->required();
  export_run->add_option("--format", parsed.export_run.format, "safetensors, pickle or torchscript")
      ->required()
      ->check(CLI::IsMember({"safetensors", "pickle", "torchscript"}));
  export_run->add_option("--out", parsed.export_run.out, "the file to write")->required();
  CLI::App* audit = app.add_subcommand("audit", "Prove that a run used every sample exactly once per epoch");
  audit->add_option("RUN", parsed.audit.run_dir, "the run directory")->required();
  audit->add_option("--json", parsed.audit.json, "write what was found to this file too");
}

void add_job_commands(CLI::App& app, Parsed& parsed) {
  CLI::App* status =
      app.add_subcommand("status", "Show a running job: its ranks, their processes, how far it is");
  status->add_option("RUN", parsed.status.run_dir, "the run directory")->required();
  status->add_flag("--json", parsed.status.json, "as JSON");
  CLI::App* resize = app.add_subcommand("resize", "Give a running job another number of ranks");
  resize->add_option("RUN", parsed.resize.run_dir, "the run directory")->required();
  resize->add_option("N", parsed.resize.ranks, "the number of ranks")
      ->required()
      ->check(CLI::Range(std::int64_t{1}, most_ranks));
  CLI::App* drain = app.add_subcommand("drain", "Let a running job leave a node");
  drain->add_option("RUN", parsed.drain.run_dir, "the run directory")->required();
  drain->add_option("NODE", parsed.drain.node, "the node, as `paceline status` names it")->required();
  CLI::App* stop = app.add_subcommand("stop", "Let a running job stop after the step in progress");
  stop->add_option("RUN", parsed.stop.run_dir, "the run directory")->required();
  CLI::App* join =
      app.add_subcommand("join", "Let this node take part in a running job, until the job or this ends");
  join->add_option("RUN", parsed.join.run_dir, "the run directory")->required();
  join->add_option("--places", parsed.join.places, "workers that it may start (default: the cores)")
      ->check(CLI::Range(1, 4096));
  CLI::App* coordinator = app.add_subcommand("coordinator", "")->group("");
  coordinator->add_option("RUN", parsed.coordinator.run_dir)->required();
  coordinator->add_option("--after", parsed.coordinator.after)->required();
  CLI::App* agent = app.add_subcommand("agent", "")->group("");
  agent->add_option("--see", parsed.agent.must_see)->allow_extra_args(false);
}

/// Only for the list of commands: `bench` reads its arguments itself.
void add_bench(CLI::App& app) {
  app.add_subcommand("bench", "Measure beside the machine's limits and other libraries");
}

Result<std::vector<JobOverride>> overrides(const std::vector<std::string>& sets) {
  std::vector<JobOverride> result;
  for (const std::string& set : sets) {
    const std::size_t equals = set.find('=');
    if (equals == std::string::npos || equals == 0)
      return Error{ErrorCode::invalid_argument,
                   concat("--set ", set, ": write key=value, for example --set epochs=3")};
    result.push_back({set.substr(0, equals), set.substr(equals + 1)});
  }
  return result;
}

/// A run begins with a job file, or goes on with what its folder has.
Status check_train(const TrainOptions& train) {
  const auto wrong = [](const std::string& what) {
    return Error{ErrorCode::invalid_argument, concat(what, "; `paceline train --help` shows how it is used")};
  };
  if (train.resume.empty()) {
    if (train.job_file.empty()) return wrong("train needs a JOB file, or --resume RUN");
    return {};
  }
  if (!train.job_file.empty())
    return wrong(
        concat("--resume goes on with the job in ", train.resume, ": leave ", train.job_file, " out"));
  if (!train.run_dir.empty()) return wrong("--resume goes on in the run's own folder: leave --run-dir out");
  return {};
}

Result<Command> chosen(const CLI::App& app, Parsed parsed) {
  if (app.got_subcommand("train")) {
    PACELINE_ASSIGN(parsed.train.overrides, overrides(parsed.sets));
    PACELINE_TRY(check_train(parsed.train));
    return Command(std::move(parsed.train));
  }
  if (app.got_subcommand("eval")) return Command(std::move(parsed.eval));
  if (app.got_subcommand("export")) return Command(std::move(parsed.export_run));
  if (app.got_subcommand("audit")) return Command(std::move(parsed.audit));
  if (app.got_subcommand("status")) return Command(std::move(parsed.status));
  if (app.got_subcommand("resize")) return Command(std::move(parsed.resize));
  if (app.got_subcommand("drain")) return Command(std::move(parsed.drain));
  if (app.got_subcommand("stop")) return Command(std::move(parsed.stop));
  if (app.got_subcommand("join")) return Command(std::move(parsed.join));
  if (app.got_subcommand("agent")) return Command(std::move(parsed.agent));
  if (app.got_subcommand("coordinator")) return Command(std::move(parsed.coordinator));
  return chosen_data_command(*app.get_subcommand("data"), std::move(parsed.data));
}

/// The help of the innermost subcommand that was named.
std::string help_of(const CLI::App& app, const std::string& names_before = "") {
  const std::vector<const CLI::App*> named = app.get_subcommands([](const CLI::App*) { return true; });
  for (const CLI::App* subcommand : named)
    if (subcommand->parsed())
      return help_of(*subcommand, concat(names_before, names_before.empty() ? "" : " ", app.get_name()));
  return app.help(names_before);
}

/// For the most common slip, which CLI11 takes for no command at all; empty where it was something else.
std::string unknown_command(const CLI::App& app, int argc, const char* const* argv) {
  if (argc < 2 || argv[1][0] == '-') return "";
  std::vector<std::string> names;
  for (const CLI::App* subcommand : app.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(subcommand->get_name());
  if (std::find(names.begin(), names.end(), argv[1]) != names.end()) return "";
  const std::string near = nearest(argv[1], names);
  return concat("there is no command ", argv[1], near.empty() ? "" : concat(" (did you mean ", near, "?)"));
}

}  // namespace

Result<Command> parse_command_line(int argc, const char* const* argv) {
  CLI::App app("Trains neural networks on many processors at once.", "paceline");
  Parsed parsed;
  app.set_version_flag("--version", concat("paceline ", PACELINE_VERSION));
  app.require_subcommand(1);
  add_train(app, parsed);
  add_run_commands(app, parsed);
  add_job_commands(app, parsed);
  add_data_commands(app, parsed.data);
  add_bench(app);
  if (argc > 1 && std::string_view(argv[1]) == "bench")
    return Command(BenchArguments{{argv + 2, argv + argc}});
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    return Command(ShowText{help_of(app)});
  } catch (const CLI::CallForVersion& version) {
    return Command(ShowText{concat(version.what(), "\n")});
  } catch (const CLI::ParseError& problem) {
    std::string text = unknown_command(app, argc, argv);
    if (text.empty()) text = problem.what();
    std::replace(text.begin(), text.end(), '\n', ' ');
    return Error{ErrorCode::invalid_argument, concat(text, "; `paceline --help` shows how it is used")};
  }
  return chosen(app, std::move(parsed));
}

}  // namespace paceline
