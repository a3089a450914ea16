#include "allocation/tasks.hpp"

#include <sys/wait.h>

#include <csignal>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "allocation/process_figures.hpp"
#include "allocation/run_files.hpp"
#include "allreduce/table.hpp"
#include "data/programs.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

using nlohmann::json;

constexpr std::size_t most_bytes = std::size_t{1} << 30;
// That load at the same time: more only take turns, and each then takes longer than its coordinator waits.
constexpr std::size_t most_beginning = 4;

struct Context {
  Stage& stage;
  const AllocationOptions& options;
  std::string job_file;
};

/// A job that trains until it is told to end.
struct Client {
  Process process;
  std::string folder;
};

/// As small as a job can be: what is measured is how tasks are served, not how a network is computed.
std::string job_text(const AllocationOptions& options, const std::string& dataset) {
  const json job = {{"name", "task"},
                    {"data", {{"train", dataset}, {"budget_mib", 16}}},
                    {"task", "image-classification"},
                    {"model", {{"kind", "mlp"}, {"hidden", 16}}},
                    {"optimizer", {{"kind", "sgd"}, {"learning_rate", 0.001}}},
                    {"batch", {{"global", options.grain}, {"grain", options.grain}}},
                    {"epochs", 1000000},
                    {"ranks", 1},
                    {"threads", 1},
                    {"checkpoint", {{"every_steps", -1}}},
                    {"seed", 1}};
  return job.dump(2) + "\n";  // JSON is YAML
}

Error ended_by_itself(const Client& client) {
  const Result<std::string> output = read_file(client.process.output_file, most_bytes);
  std::string why = output.ok() ? *output : output.error().message;
  while (!why.empty() && why.back() == '\n') why.pop_back();
  return {ErrorCode::io, concat("a job ended by itself: ", why.substr(why.rfind('\n') + 1))};
}

Result<Client> start_client(const Context& context) {
  static int clients = 0;
  Client client;
  client.folder = concat(context.stage.folder(), "/task-", ++clients);
  Command command;
  command.arguments = {own_program(), "train",     context.job_file, "--ranks",
                       "1",           "--run-dir", client.folder,    "--quiet"};
  command.output_file = client.folder + ".output";
  PACELINE_ASSIGN(client.process, start(command));
  return client;
}

Status await_first_commit(const Context& context, const Client& client) {
  return context.stage.wait_for("a job's first step", [&]() -> Result<bool> {
    if (has_ended(client.process)) return ended_by_itself(client);
    std::error_code error;
    const auto bytes = std::filesystem::file_size(client.folder + "/metrics.jsonl", error);
    return !error && bytes > 0;
  });
}

Result<std::vector<Client>> start_all(const Context& context, std::int64_t count) {
  std::vector<Client> clients;
  for (std::int64_t i = 0; i < count; ++i) {
    if (clients.size() >= most_beginning)
      PACELINE_TRY(await_first_commit(context, clients[clients.size() - most_beginning]));
    PACELINE_ASSIGN(Client client, start_client(context));
    clients.push_back(std::move(client));
  }
  for (const Client& client : clients) PACELINE_TRY(await_first_commit(context, client));
  return clients;
}

OneJobMemory memory_of_job(const Client& client) {
  OneJobMemory memory{.job_anonymous = memory_of(client.process.pid).anonymous};
  for (const pid_t pid : children_of(client.process.pid)) {
    const ProcessMemory one = memory_of(pid);
    memory.job_anonymous += one.anonymous;
    if (worker_number(pid)) memory.worker_resident += one.resident;
  }
  return memory;
}

/// Tells all before it waits for any.
Status end_all(const Context& context, std::vector<Client>& clients) {
  for (const Client& client : clients) {
    if (has_ended(client.process)) return ended_by_itself(client);
    ::kill(client.process.pid, SIGTERM);
  }
  for (Client& client : clients) {
    PACELINE_TRY(
        context.stage.wait_for("a job to end", [&] { return Result<bool>(has_ended(client.process)); }));
    ::waitpid(client.process.pid, nullptr, 0);
    client.process.pid = -1;
  }
  return {};
}

Status read_clients(const std::vector<Client>& clients, TasksFigures& figures) {
  std::vector<Commits> commits;
  figures.totals.energy_j = 0;
  for (const Client& client : clients) {
    PACELINE_ASSIGN(const std::string metrics, read_file(client.folder + "/metrics.jsonl", most_bytes));
    commits.push_back(parse_commits(metrics));
    PACELINE_ASSIGN(const std::string summary, read_file(client.folder + "/summary.json", most_bytes));
    JobRun run;
    PACELINE_TRY(add_summary(summary, run));
    figures.totals = added(figures.totals, run.totals);
  }
  const auto rate = common_rate(commits);
  if (!rate) return Error{ErrorCode::io, "the jobs were never all at work: --seconds allows more time"};
  figures.grains_per_second = rate->grains_per_second;
  figures.seconds = rate->seconds;
  return {};
}

Result<TasksFigures> train_at_once(const Context& context, std::int64_t count, OneJobMemory* one) {
  TasksFigures figures{.tasks = count};
  PACELINE_ASSIGN(std::vector<Client> clients, start_all(context, count));
  const std::chrono::duration<double> seconds(context.options.tasks_seconds);
  PACELINE_TRY(context.stage.pause(std::chrono::duration_cast<Duration>(seconds)));
  for (const Client& client : clients) figures.bytes += memory_of_job(client).job_anonymous;
  if (one != nullptr) *one = memory_of_job(clients.front());
  PACELINE_TRY(end_all(context, clients));
  PACELINE_TRY(read_clients(clients, figures));
  std::error_code ignored;
  for (const Client& client : clients) std::filesystem::remove_all(client.folder, ignored);
  return figures;
}

}  // namespace

std::string why_not_fitting(std::int64_t jobs, double bytes_each, std::optional<double> available) {
  if (!available) return "";
  const double wanted = bytes_each * static_cast<double>(jobs), usable = usable_memory * *available;
  if (wanted <= usable) return "";
  const auto bytes = [](double number) { return human_bytes(static_cast<std::uint64_t>(number)); };
  return concat(jobs, " jobs need ", bytes(wanted), ", and there are ", bytes(usable), " to use");
}

Result<TasksReport> measure_tasks(Stage& stage, const AllocationOptions& options,
                                  const std::string& dataset) {
  const Context context{stage, options, stage.folder() + "/task.yaml"};
  PACELINE_TRY(write_file_atomically(context.job_file, job_text(options, dataset)));
  TasksReport report;
  PACELINE_ASSIGN(const TasksFigures alone, train_at_once(context, 1, &report.memory));
  report.grains_per_second_alone = alone.grains_per_second;
  for (const std::int64_t count : options.tasks) {
    TasksFigures figures{.tasks = count};
    figures.skipped = why_not_fitting(count, report.memory.job_anonymous, available_memory());
    if (figures.skipped.empty()) {
      PACELINE_ASSIGN(figures, train_at_once(context, count, nullptr));
      figures.score = tasks_score(count, figures.grains_per_second, alone.grains_per_second);
      std::cout << concat(count, " tasks at once: ", short_number(figures.grains_per_second), " a second")
                << std::endl;
    } else {
      std::cout << concat(count, " tasks at once: left out, since ", figures.skipped) << std::endl;
    }
    report.rows.push_back(std::move(figures));
  }
  return report;
}

}  // namespace paceline::bench
