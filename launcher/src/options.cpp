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
  ExplainOptions explain;
  LogsOptions logs;
  TopOptions top;
  TimelineOptions timeline;
  ReportOptions report;
  PlanOptions plan;
  std::vector<std::string> plan_sets;
  SubmitOptions submit;
  DoctorOptions doctor;
  CoordinatorCommand coordinator;
  AgentCommand agent;
  DataCommands data;
};

void add_starter(CLI::App& command, std::string& starter) {
  command
      .add_option(
          "--starter", starter,
          "what starts agents on other machines: ssh, srun or mpirun (default: srun in a Slurm job, ssh with "
          "--hosts)")
      ->check(CLI::IsMember({"ssh", "srun", "mpirun"}));
}

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
  add_starter(*train, parsed.train.starter);
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
  coordinator->add_option("--starter", parsed.coordinator.starter);
  CLI::App* agent = app.add_subcommand("agent", "")->group("");
  agent->add_option("--see", parsed.agent.must_see)->allow_extra_args(false);
  agent->add_flag("--resources", parsed.agent.with_resources);
}

void add_explain(CLI::App& app, Parsed& parsed) {
  CLI::App* explain = app.add_subcommand(
      "explain",
      "Show why a run had the ranks and shares that it had: resizes, repairs, slow ranks, decisions");
  explain->add_option("RUN", parsed.explain.run_dir, "the run directory")->required();
  explain->add_option("--last", parsed.explain.last, "only the newest so many")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40));
  explain->add_flag("--json", parsed.explain.json, "as JSON");
  explain->add_flag("--replay", parsed.explain.replay,
                    "decide again from what is recorded; exit status 1 where a decision differs");
}

void add_logs(CLI::App& app, Parsed& parsed) {
  CLI::App* logs = app.add_subcommand("logs", "Show what the ranks of a run wrote, each line with its rank");
  logs->add_option("RUN", parsed.logs.run_dir, "the run directory")->required();
  logs->add_option("--rank", parsed.logs.rank, "of this rank alone")
      ->check(CLI::Range(std::int64_t{0}, most_ranks - 1));
  logs->add_option("--lines", parsed.logs.lines, "only the last so many of each rank")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40));
  logs->add_flag("--follow", parsed.logs.follow, "go on with what they write, until the run ends");
}

void add_seeing(CLI::App& app, Parsed& parsed) {
  CLI::App* top =
      app.add_subcommand("top", "Watch a running job: its ranks, what each does and what it takes");
  top->add_option("RUN", parsed.top.run_dir, "the run directory")->required();
  top->add_option("--interval", parsed.top.interval_s, "seconds between two looks (default: 1)")
      ->check(CLI::Range(0.1, 3600.0));
  top->add_flag("--once", parsed.top.once, "one look, as plain text");
  CLI::App* timeline =
      app.add_subcommand("timeline", "Write what all ranks did when, to be opened in ui.perfetto.dev");
  timeline->add_option("RUN", parsed.timeline.run_dir, "the run directory")->required();
  timeline->add_option("--out", parsed.timeline.out, "the file to write (default: RUN/timeline.json)");
  timeline->add_option("--from", parsed.timeline.from, "the first step to show")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 53));
  timeline->add_option("--to", parsed.timeline.to, "the last step to show")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 53));
  CLI::App* report =
      app.add_subcommand("report", "Write a page about a run: what it reached, and what it cost");
  report->add_option("RUN", parsed.report.run_dir, "the run directory")->required();
  report->add_option("--html", parsed.report.html, "the file to write")->required();
}

void add_plan(CLI::App& app, Parsed& parsed) {
  CLI::App* plan =
      app.add_subcommand("plan", "Show which rank would run where, and why, without starting anything");
  plan->add_option("JOB", parsed.plan.job_file, "the job file (YAML)")->required();
  plan->add_option("--set", parsed.plan_sets, "key=value: replaces what the job file says; repeatable")
      ->allow_extra_args(false);
  plan->add_option("--ranks", parsed.plan.ranks, "number of ranks (default: as `paceline train`)");
  plan->add_option("--inventory", parsed.plan.inventory,
                   "a file of nodes to plan for, as `paceline plan --json` writes it, or - (default: here)");
  plan->add_option("--hosts", parsed.plan.hosts, "machines to ask, as `paceline train --hosts`");
  add_starter(*plan, parsed.plan.starter);
  plan->add_option("--device", parsed.plan.device,
                   "cpu or gpu: what a rank computes on (default: the job's device)")
      ->check(CLI::IsMember({"cpu", "gpu"}));
  plan->add_option("--gpu-kind", parsed.plan.gpu_kind, "only GPUs with this in their name");
  plan->add_option("--gpu-memory", parsed.plan.gpu_memory_gib, "GiB that every GPU must have")
      ->check(CLI::Range(0.0, 1e6));
  plan->add_option("--memory", parsed.plan.memory_gib, "GiB of free memory that a node needs for each rank")
      ->check(CLI::Range(0.0, 1e6));
  plan->add_flag("--json", parsed.plan.json, "as JSON, with the inventory");
}

void add_submit(CLI::App& app, Parsed& parsed) {
  CLI::App* submit = app.add_subcommand(
      "submit", "Put a job into Slurm's queue: submit JOB --slurm [options of sbatch] [-- options of train]");
  // For the help; submit_options() reads them.
  submit->add_option("JOB", parsed.submit.job_file, "the job file (YAML)")->required();
  submit->add_flag("--slurm", parsed.submit.slurm, "to Slurm, with sbatch");
  submit->add_flag("--dry-run", parsed.submit.dry_run, "show what would be submitted");
}

/// What is not ours is sbatch's, whose options may have values that look like anything: so the job file comes
/// before them.
Result<Command> submit_options(const std::vector<std::string>& words) {
  SubmitOptions submit;
  const auto end = std::find(words.begin(), words.end(), "--");
  for (auto word = words.begin(); word != end; ++word) {
    if (*word == "--slurm") {
      submit.slurm = true;
    } else if (*word == "--dry-run") {
      submit.dry_run = true;
    } else if (!submit.job_file.empty()) {
      submit.sbatch_options.push_back(*word);
    } else if (word->empty() || word->front() == '-') {
      break;
    } else {
      submit.job_file = *word;
    }
  }
  if (submit.job_file.empty())
    return Error{ErrorCode::invalid_argument,
                 "submit needs the JOB file first, before options of sbatch; `paceline submit --help` shows "
                 "how it is used"};
  if (end != words.end()) submit.train_options.assign(end + 1, words.end());
  return Command(std::move(submit));
}

/// Which the library reads, as it does all that it can.
bool asks_for_help(const std::vector<std::string>& words) {
  const auto end = std::find(words.begin(), words.end(), "--");
  return std::any_of(words.begin(), end,
                     [](const std::string& word) { return word == "--help" || word == "-h"; });
}

void add_doctor(CLI::App& app, Parsed& parsed) {
  CLI::App* doctor = app.add_subcommand("doctor", "Check this machine or allocation, and say what to mend");
  doctor->add_option("--folder", parsed.doctor.folder,
                     "where runs are to be made: its filesystem is checked (default: here)");
  doctor->add_option("--hosts", parsed.doctor.hosts, "machines to check too, as `paceline train --hosts`");
  doctor->add_flag("--json", parsed.doctor.json, "as JSON");
  doctor->add_flag("--node", parsed.doctor.as_node)->group("");
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
  if (app.got_subcommand("explain")) return Command(std::move(parsed.explain));
  if (app.got_subcommand("logs")) return Command(std::move(parsed.logs));
  if (app.got_subcommand("top")) return Command(std::move(parsed.top));
  if (app.got_subcommand("timeline")) return Command(std::move(parsed.timeline));
  if (app.got_subcommand("report")) return Command(std::move(parsed.report));
  if (app.got_subcommand("plan")) {
    PACELINE_ASSIGN(parsed.plan.overrides, overrides(parsed.plan_sets));
    return Command(std::move(parsed.plan));
  }
  if (app.got_subcommand("doctor")) return Command(std::move(parsed.doctor));
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
  add_explain(app, parsed);
  add_logs(app, parsed);
  add_seeing(app, parsed);
  add_plan(app, parsed);
  add_submit(app, parsed);
  add_doctor(app, parsed);
  add_data_commands(app, parsed.data);
  add_bench(app);
  if (argc > 1 && std::string_view(argv[1]) == "bench")
    return Command(BenchArguments{{argv + 2, argv + argc}});
  if (argc > 1 && std::string_view(argv[1]) == "submit") {
    const std::vector<std::string> words(argv + 2, argv + argc);
    if (!asks_for_help(words)) return submit_options(words);
  }
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
