#include "scaling/training.hpp"

#include <sched.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "paceline/base/text.hpp"
#include "paceline/job/plan.hpp"

namespace paceline::bench {
namespace {

constexpr std::size_t most_bytes = std::size_t{1} << 30;  // of a run's file
constexpr std::int64_t first_steps = 5;                   // are slower, and left out of telemetry
constexpr std::int64_t warm_up_steps = 5;
constexpr const char* endless = "1000000";  // epochs: `steps` ends the job

std::string line_of(const std::string& path) {
  const Result<std::string> text = read_file(path, 4096);
  return text.ok() ? text->substr(0, text->find('\n')) : "";
}

std::int64_t numa_node_of(const std::string& cpu_folder) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(cpu_folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.rfind("node", 0) != 0) continue;
    if (const auto node = parse_integer(std::string_view(name).substr(4), 0, 1 << 20)) return *node;
  }
  return 0;
}

/// Texts of the files of `folder` with this beginning and end of their names.
std::vector<std::string> texts_in(const std::string& folder, std::string_view begin, std::string_view end) {
  std::error_code error;
  std::map<std::string, std::string> by_name;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(begin) || !name.ends_with(end) || name.ends_with(".old.jsonl")) continue;
    Result<std::string> text = read_file(entry.path().string(), most_bytes);
    if (text.ok()) by_name[name] = std::move(*text);
  }
  std::vector<std::string> texts;
  for (auto& [name, text] : by_name) texts.push_back(std::move(text));
  return texts;
}

void add_parts(const std::string& run_dir, TrainingFigures& figures) {
  std::vector<StepParts> workers;
  for (const std::string& text : texts_in(run_dir + "/telemetry", "worker-", ".jsonl"))
    if (const auto parts = parse_step_parts(text, first_steps)) workers.push_back(*parts);
  if (workers.empty()) return;
  StepParts mean;
  figures.least_reduce_ms = workers.front().reduce;
  for (const StepParts& worker : workers) {
    for (double StepParts::*part : {&StepParts::data, &StepParts::forward, &StepParts::backward,
                                    &StepParts::reduce, &StepParts::commit, &StepParts::optimizer})
      mean.*part += worker.*part / static_cast<double>(workers.size());
    figures.slowest_compute_ms = std::max(figures.slowest_compute_ms, worker.forward + worker.backward);
    figures.least_reduce_ms = std::min(figures.least_reduce_ms, worker.reduce);
  }
  figures.parts = mean;
}

}  // namespace

Result<Inventory> own_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return system_error("cannot ask for the cores");
  std::map<std::pair<std::int64_t, std::int64_t>, Core> by_place;  // NUMA node, first thread
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &set)) continue;
    const std::string folder = concat("/sys/devices/system/cpu/cpu", cpu);
    // Threads of one core say the same: "0,32" or "0-1".
    const std::string siblings = line_of(folder + "/topology/thread_siblings_list");
    const auto first = parse_integer(siblings.substr(0, siblings.find_first_of("-,")), 0, CPU_SETSIZE);
    const std::int64_t node = numa_node_of(folder);
    Core& core = by_place[{node, first.value_or(cpu)}];
    core.numa_node = node;
    core.cpus.push_back(cpu);
  }
  Inventory inventory;
  for (const auto& [place, core] : by_place) inventory.cores.push_back(core);
  return inventory;
}

Result<std::vector<std::int64_t>> samples_of_ranks(const Job& job, const TrainingSize& size) {
  const std::int64_t grain = job_grain(job, size.ranks);
  PACELINE_ASSIGN(const Shares shares, equal_shares(grain_count(size.batch, grain), size.ranks));
  std::vector<std::int64_t> samples;
  for (std::int64_t rank = 0; rank < size.ranks; ++rank)
    samples.push_back(rank_range({0, size.batch}, grain, shares, rank).count);
  return samples;
}

Inventory Trainer::cores_of(std::int64_t ranks) const {
  Inventory some = cores_;
  const auto wanted = static_cast<std::size_t>(ranks * options_.threads);
  if (wanted < some.cores.size()) some.cores.resize(wanted);
  return some;
}

std::vector<std::string> Trainer::arguments_of(const One& one, const std::string& folder) const {
  std::vector<std::string> arguments = {"train", options_.job_file};
  const auto set = [&](const std::string& value) {
    arguments.push_back("--set");
    arguments.push_back(value);
  };
  for (const std::string& value : options_.sets) set(value);
  set(concat("batch.global=", one.batch));
  set(concat("steps=", one.steps));
  set(concat("epochs=", endless));
  set(concat("ranks.min=", std::min(one.ranks, job_.ranks.min)));
  set("ranks.grow=\"\"");
  set("data.eval=\"\"");
  set("eval_every=0");
  set("checkpoint.every_steps=-1");
  for (const std::string& more :
       {std::string("--ranks"), concat(one.ranks), std::string("--threads"), concat(options_.threads),
        std::string("--run-dir"), folder, std::string("--json"), folder + ".json", std::string("--quiet")})
    arguments.push_back(more);
  return arguments;
}

Result<TrainingFigures> Trainer::figures_in(const std::string& folder) const {
  PACELINE_ASSIGN(const std::string summary, read_file(folder + ".json", most_bytes));
  PACELINE_ASSIGN(TrainingFigures figures, parse_summary(summary));
  add_parts(folder, figures);
  for (const std::string& journal : texts_in(folder + "/journal", "", ".jsonl"))
    for (ShareChange& change : parse_share_changes(journal)) figures.shares.push_back(std::move(change));
  return figures;
}

Error Trainer::failure_of(const One& one, const std::string& folder, const Ended& end) {
  const Result<std::string> summary = read_file(folder + ".json", most_bytes);
  const std::string sentence = summary.ok() ? failure_in(*summary) : "";
  return {ErrorCode::io, concat("a training of ", one.ranks, one.ranks == 1 ? " rank" : " ranks", " and ",
                                one.batch, one.batch == 1 ? " sample" : " samples",
                                " a step failed: ", sentence.empty() ? end.why() : sentence)};
}

Result<std::vector<TrainingFigures>> Trainer::train(const std::vector<One>& all) {
  std::vector<Invocation> invocations;
  std::vector<std::string> folders;
  for (const One& one : all) {
    folders.push_back(concat(stage_.folder(), "/run-", ++runs_));
    invocations.push_back({arguments_of(one, folders.back()), one.cpus});
  }
  PACELINE_ASSIGN(const std::vector<Ended> ends, stage_.run(invocations));
  for (std::size_t i = 0; i < all.size(); ++i)
    if (ends[i].failed() && !ends[i].stopped) return failure_of(all[i], folders[i], ends[i]);
  std::vector<TrainingFigures> figures;
  for (const std::string& folder : folders) {
    PACELINE_ASSIGN(TrainingFigures one, figures_in(folder));
    figures.push_back(std::move(one));
  }
  std::error_code ignored;
  for (const std::string& folder : folders) std::filesystem::remove_all(folder, ignored);
  return figures;
}

Status Trainer::warm_up(const TrainingSize& size) {
  const auto done = train({{size.ranks, size.batch, warm_up_steps}});
  return done.ok() ? Status() : Status(done.error());
}

Result<TrainingFigures> Trainer::together(const TrainingSize& size) {
  One one{size.ranks, size.batch, options_.steps};
  const Inventory cores = cores_of(size.ranks);
  if (cores.cores.size() < cores_.cores.size())
    for (const Core& core : cores.cores) one.cpus.insert(one.cpus.end(), core.cpus.begin(), core.cpus.end());
  PACELINE_ASSIGN(std::vector<TrainingFigures> figures, train({one}));
  return std::move(figures.front());
}

Result<double> Trainer::side_by_side(const TrainingSize& size) {
  PACELINE_ASSIGN(const std::vector<std::int64_t> samples, samples_of_ranks(job_, size));
  PACELINE_ASSIGN(const std::vector<RankPlace> places,
                  allocate_ranks(cores_of(size.ranks), size.ranks, options_.threads));
  std::vector<One> all;
  for (std::size_t rank = 0; rank < samples.size(); ++rank)
    all.push_back({1, samples[rank], options_.steps, places[rank].cpus});
  PACELINE_ASSIGN(const std::vector<TrainingFigures> figures, train(all));
  std::vector<double> step_ms;
  for (const TrainingFigures& one : figures) step_ms.push_back(one.step_ms);
  return ceiling_step_ms(samples, step_ms, size.batch);
}

}  // namespace paceline::bench
