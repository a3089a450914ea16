#include "allocation/job_runner.hpp"

#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "allocation/run_files.hpp"
#include "allocation/slow_place.hpp"
#include "data/programs.hpp"
#include "elastic/training.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

using nlohmann::json;

const SteadyClock steady_clock;
constexpr std::size_t most_bytes = std::size_t{1} << 30;
constexpr Duration look_interval = std::chrono::milliseconds(5);
// More faults than that are more than any plan has: the job doesn't come forward.
constexpr std::int64_t most_launches = 100;

std::string last_line_of(const std::string& file) {
  const Result<std::string> text = read_file(file, most_bytes);
  if (!text.ok()) return text.error().message;
  std::string line = *text;
  while (!line.empty() && line.back() == '\n') line.pop_back();
  return line.substr(line.rfind('\n') + 1);  // npos + 1 is 0: all of it
}

/// Of what is left, without those that have happened. A job that is lost with any of its ranks has one fault
/// a launch.
void take_off(FaultPlan& left, std::int64_t happened) {
  left.erase(left.begin(), left.begin() + std::min(happened, std::ssize(left)));
}

}  // namespace

std::string JobRunner::job_text(const JobTask& task) const {
  const bool is_fixed = task.way == Way::fixed;
  json job = {{"name", "allocation"},
              {"data", {{"train", dataset_}}},
              {"task", "image-classification"},
              {"model", options_.model},
              {"optimizer", {{"kind", "sgd"}, {"learning_rate", 0.001}, {"momentum", 0.9}}},
              {"batch", {{"global", options_.batch}}},
              {"epochs", 1000000},
              {"steps", options_.steps},
              {"ranks", {{"min", is_fixed ? options_.ranks : 1}, {"max", options_.ranks}}},
              {"checkpoint", {{"every_steps", options_.checkpoint_steps}}},
              {"rebalance", task.way == Way::policy_and_balance},
              {"seed", 1}};
  if (!is_fixed) {
    // Jobs that end within dwell time would be left as they are.
    job["resize"] = {
        {"objective", options_.objective}, {"prices", {{"cpu", options_.price}}}, {"dwell_s", 0}};
    if (options_.objective == "deadline") job["resize"]["deadline_s"] = task.deadline_s;
  }
  return job.dump(2) + "\n";  // JSON is YAML
}

Result<bool> JobRunner::watch(Process& process, const JobTask& task, const Run& run, const FaultPlan& left,
                              const Crew& crew) {
  SlowPlace slow(options_.slow, left, crew);
  while (!has_ended(process)) {
    if (steady_clock.now() > run.until) {
      ::kill(process.pid, SIGKILL);
      ::waitpid(process.pid, nullptr, 0);
      return false;
    }
    if (task.has_slow_rank) slow.look(process.pid);
    PACELINE_TRY(stage_.pause(look_interval));
  }
  return true;
}

Result<JobRunner::Launch> JobRunner::launch(const JobTask& task, const Run& run, const FaultPlan& left,
                                            bool resumes) {
  const Crew crew{options_.ranks, highest_worker(run.folder + "/logs") + 1};
  Command command;
  command.arguments = {own_program(), "train", "--ranks", concat(options_.ranks), "--quiet"};
  if (resumes)
    command.arguments.insert(command.arguments.end(), {"--resume", run.folder});
  else
    command.arguments.insert(command.arguments.end(), {run.folder + ".yaml", "--run-dir", run.folder});
  if (!left.empty())
    command.environment["PACELINE_FAULTS"] =
        task.way == Way::fixed ? fault_of_job(left.front(), crew) : faults_of_ranks(left, crew);
  command.output_file = run.folder + ".output";
  PACELINE_ASSIGN(Process process, bench::start(command));
  PACELINE_ASSIGN(const bool ended, watch(process, task, run, left, crew));
  if (!ended) return Launch{.why = "it took too long (--timeout allows more)"};
  int status = 0;
  ::waitpid(process.pid, &status, 0);
  process.pid = -1;
  Launch launch{.completed = status == 0, .refused = WIFEXITED(status) && WEXITSTATUS(status) == 2};
  launch.faults = faults_in(run.folder + "/logs", crew.first_worker);
  if (!launch.completed)
    launch.why = concat(describe_status(status), ": ", last_line_of(command.output_file));
  return launch;
}

Status JobRunner::read_figures(const JobTask& task, const Run& run, JobTrained& trained) const {
  JobRun& figures = trained.run;
  PACELINE_ASSIGN(const std::string summary, read_file(run.folder + "/summary.json", most_bytes));
  PACELINE_ASSIGN(const std::string journals, texts_in(run.folder + "/journal", ".jsonl"));
  PACELINE_TRY(add_summary(summary, figures));
  const double ended = run.began + figures.seconds;
  // A static allocation is one until its job has ended.
  const double rank_seconds = task.way == Way::fixed
                                  ? static_cast<double>(options_.ranks) * figures.seconds
                                  : held_rank_seconds(journals, options_.ranks, run.began, ended);
  figures.cost = options_.price / 3600 * rank_seconds;
  PACELINE_ASSIGN(const std::string metrics, read_file(run.folder + "/metrics.jsonl", most_bytes));
  const Commits commits = parse_commits(metrics);
  trained.step_s = median_gap(commits, 1, options_.steps).value_or(0);
  const auto is_after = [&run](const auto& commit) { return commit.second > run.launched; };
  const auto first = std::ranges::find_if(commits, is_after);
  if (figures.launches > 1 && first != commits.end())
    trained.restart_s = std::max(0.0, first->second - run.launched - trained.step_s);
  return {};
}

Result<JobTrained> JobRunner::train(const JobTask& task) {
  Run run{.folder = concat(stage_.folder(), "/run-", ++runs_)};
  PACELINE_TRY(write_file_atomically(run.folder + ".yaml", job_text(task)));
  const auto limit = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(options_.timeout_s));
  const Instant began = steady_clock.now();
  run.until = began + limit;
  run.began = seconds_since_1970();
  JobTrained trained;
  JobRun& figures = trained.run;
  FaultPlan left = task.faults;
  while (!figures.completed && figures.launches < most_launches) {
    run.launched = seconds_since_1970();
    PACELINE_ASSIGN(const Launch launch, this->launch(task, run, left, figures.launches > 0));
    if (launch.refused) return Error{ErrorCode::invalid_argument, concat("a training: ", launch.why)};
    ++figures.launches;
    // All ranks of a job that is lost at once meet the same fault.
    const std::int64_t happened =
        task.way == Way::fixed ? std::min<std::int64_t>(launch.faults, 1) : launch.faults;
    figures.faults += happened;
    take_off(left, happened);
    figures.completed = launch.completed;
    figures.why = launch.why;
    if (!launch.completed && happened == 0) break;
    if (!launch.completed) PACELINE_TRY(add_lost_launch(run.folder + "/summary.json", figures));
  }
  figures.seconds = to_seconds(steady_clock.now() - began);
  if (figures.completed) PACELINE_TRY(read_figures(task, run, trained));
  std::error_code ignored;
  std::filesystem::remove_all(run.folder, ignored);
  return trained;
}

}  // namespace paceline::bench
