#include "allocation/tasks.hpp"

#include <sys/wait.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "allocation/process_figures.hpp"
#include "allreduce/table.hpp"
#include "data/programs.hpp"
#include "elastic/figures.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

using nlohmann::json;

constexpr std::size_t most_bytes = std::size_t{1} << 30;
// That load at the same time: more only take turns, and each then takes longer than its coordinator waits.
constexpr std::size_t most_beginning = 4;
// Of a step of a job that waits for others to begin: long beside the work that is in it.
constexpr std::int64_t held_step_ms = 500;

struct Context {
  Stage& stage;
  const AllocationOptions& options;
  std::string job_file;
};

/// A job that trains until it is told to end.
struct Client {
  Process process;
  std::string folder;
  std::int64_t held_steps = 0;  ///< its first ones, which it takes its time for
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

/// `held_s`: for so long its steps are few, so that it leaves the processor to those that are still loading.
Result<Client> start_client(const Context& context, double held_s) {
  static int clients = 0;
  Client client;
  client.folder = concat(context.stage.folder(), "/task-", ++clients);
  client.held_steps = static_cast<std::int64_t>(held_s * 1e3 / static_cast<double>(held_step_ms));
  Command command;
  command.arguments = {own_program(), "train",     context.job_file, "--ranks",
                       "1",           "--run-dir", client.folder,    "--quiet"};
  if (client.held_steps > 0)
    command.environment["PACELINE_FAULTS"] = concat("0:data@1-", client.held_steps, ":wait=", held_step_ms);
  command.output_file = client.folder + ".output";
  PACELINE_ASSIGN(client.process, start(command));
  return client;
}

std::int64_t steps_written(const Client& client) {
  const Result<std::string> text = read_file(client.folder + "/metrics.jsonl", most_bytes);
  return text.ok() ? std::ranges::count(*text, '\n') : 0;
}

Status await_steps(const Context& context, const Client& client, std::int64_t steps) {
  return context.stage.wait_for("a job's next step", [&]() -> Result<bool> {
    if (has_ended(client.process)) return ended_by_itself(client);
    return steps_written(client) >= steps;
  });
}

/// Returns when all are at work. `start_s`: what one needs to begin; who begins first waits longest.
Result<std::vector<Client>> start_all(const Context& context, std::int64_t count, double start_s) {
  std::vector<Client> clients;
  for (std::int64_t i = 0; i < count; ++i) {
    if (clients.size() >= most_beginning)
      PACELINE_TRY(await_steps(context, clients[clients.size() - most_beginning], 1));
    PACELINE_ASSIGN(Client client, start_client(context, start_s * static_cast<double>(count - 1 - i)));
    clients.push_back(std::move(client));
  }
  for (const Client& client : clients) PACELINE_TRY(await_steps(context, client, client.held_steps + 1));
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

/// Of the interval in which all were at work: loading and waiting for others is no part of a task.
Status read_clients(const Context& context, const std::vector<Client>& clients, double resident,
                    TasksFigures& figures) {
  std::vector<Commits> all;
  for (const Client& client : clients) {
    PACELINE_ASSIGN(const std::string metrics, read_file(client.folder + "/metrics.jsonl", most_bytes));
    Commits& commits = all.emplace_back(parse_commits(metrics));
    std::erase_if(commits, [&](const auto& commit) { return commit.first <= client.held_steps; });
  }
  const auto rate = common_rate(all);
  if (!rate) return Error{ErrorCode::io, "the jobs were never all at work: --seconds allows more time"};
  figures.grains_per_second = rate->grains_per_second;
  figures.seconds = rate->ended - rate->began;
  const double grains = figures.grains_per_second * figures.seconds;
  figures.totals.useful_samples = std::llround(grains * static_cast<double>(context.options.grain));
  figures.totals.memory_byte_s = resident * figures.seconds;
  // All are on one node, and each tells that node's energy.
  const auto telemetry = read_file(clients.front().folder + "/telemetry/worker-0.jsonl", most_bytes);
  if (telemetry.ok()) figures.totals.energy_j = energy_between(*telemetry, rate->began, rate->ended);
  return {};
}

struct AtOnce {
  TasksFigures figures;
  OneJobMemory first;  ///< of the first job
  double start_s = 0;  ///< until all were at work
};

Result<AtOnce> train_at_once(const Context& context, std::int64_t count, double start_s) {
  AtOnce measured{.figures = {.tasks = count}, .first = {}};
  const SteadyClock clock;
  const Instant began = clock.now();
  PACELINE_ASSIGN(std::vector<Client> clients, start_all(context, count, start_s));
  measured.start_s = to_seconds(clock.now() - began);
  const std::chrono::duration<double> seconds(context.options.tasks_seconds);
  PACELINE_TRY(context.stage.pause(std::chrono::duration_cast<Duration>(seconds)));
  measured.first = memory_of_job(clients.front());
  double resident = 0;
  for (const Client& client : clients) {
    const OneJobMemory memory = memory_of_job(client);
    measured.figures.bytes += memory.job_anonymous;
    resident += memory.worker_resident;
  }
  PACELINE_TRY(end_all(context, clients));
  PACELINE_TRY(read_clients(context, clients, resident, measured.figures));
  std::error_code ignored;
  for (const Client& client : clients) std::filesystem::remove_all(client.folder, ignored);
  return measured;
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
  PACELINE_ASSIGN(const AtOnce alone, train_at_once(context, 1, 0));
  report.memory = alone.first;
  report.grains_per_second_alone = alone.figures.grains_per_second;
  for (const std::int64_t count : options.tasks) {
    TasksFigures figures{.tasks = count};
    figures.skipped = why_not_fitting(count, report.memory.job_anonymous, available_memory());
    if (figures.skipped.empty()) {
      PACELINE_ASSIGN(AtOnce measured, train_at_once(context, count, alone.start_s));
      figures = std::move(measured.figures);
      figures.score = tasks_score(count, figures.grains_per_second, report.grains_per_second_alone);
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
