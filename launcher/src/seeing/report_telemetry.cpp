#include "seeing/report_telemetry.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <set>
#include <utility>

#include "paceline/sched/run_scores.hpp"
#include "seeing/clocks.hpp"
#include "seeing/survey.hpp"

namespace paceline {
namespace {

double& use(TimeUses& uses, TimeUse which) {
  return uses.at(static_cast<std::size_t>(which));
}

/// How much of what ranks waited for sums was waiting for the last of them: what the rank that waited least
/// waited, all waited for the reduction itself. Of very many steps some are kept, evenly.
class Waits {
 public:
  void add(CommitKey key, double reduce_s) {
    if (key.second % stride_ != 0) return;
    Step& step = steps_[key];
    step.least_s = std::min(step.least_s, reduce_s);
    step.sum_s += reduce_s;
    ++step.ranks;
    constexpr std::size_t most_steps = std::size_t{1} << 18;
    while (steps_.size() > most_steps) {
      stride_ *= 2;
      std::erase_if(steps_, [this](const auto& entry) { return entry.first.second % stride_ != 0; });
    }
  }
  /// Of all that was waited for sums.
  [[nodiscard]] double unequal_part() const {
    double all = 0, unequal = 0;
    for (const auto& [key, step] : steps_) {
      all += step.sum_s;
      unequal += step.sum_s - step.least_s * static_cast<double>(step.ranks);
    }
    return all > 0 ? unequal / all : 0;
  }
  [[nodiscard]] std::int64_t steps() const { return std::ssize(steps_) * stride_; }

 private:
  struct Step {
    double least_s = std::numeric_limits<double>::infinity();
    double sum_s = 0;
    std::int64_t ranks = 0;
  };
  std::int64_t stride_ = 1;
  std::map<CommitKey, Step> steps_;
};

/// A sum of a process that only grows, and what it grew by since its file begins.
class Growth {
 public:
  void see(double value) {
    // Smaller: another process of the same number.
    if (last_ && value > *last_) grown_ += value - *last_;
    last_ = value;
  }
  [[nodiscard]] std::optional<double> grown() const { return last_ ? std::optional(grown_) : std::nullopt; }

 private:
  std::optional<double> last_;
  double grown_ = 0;
};

/// What a worker says about its node, over the time of its file.
struct NodeEnergy {
  std::string node;
  double begin = 0, end = 0;
  double joules = 0;
};

/// Takes in one worker's lines.
class WorkerSums {
 public:
  WorkerSums(const TelemetryFiles& files, const std::map<std::int64_t, bool>& planned,
             const Memberships& memberships, Waits& waits)
      : planned_(planned), memberships_(memberships), waits_(waits) {
    sums_.worker = files.worker;
  }

  void take(const WorkerBegun& begun) {
    sums_.node = begun.node;
    // Nothing is held between two processes of one number.
    if (begun.pid != pid_) memory_.reset();
    pid_ = begun.pid;
    see(begun.time);
  }
  void take(const RankTaken& rank) {
    see(rank.time);
    generation_ = rank.generation;
    note_rank(rank.rank);
  }
  void take(const StepTimed& step) {
    see(step.time);
    account_for_waiting(step.time);
    see(step.end());
    ++sums_.steps;
    sums_.grains += step.grains;
    for (std::size_t i = 0; i < step.parts_us.size(); ++i) sums_.parts_s.at(i) += step.parts_us.at(i) * 1e-6;
    std::int64_t generation = generation_;
    if (const auto known = generation == 0 ? memberships_.at(sums_.worker, step.step) : std::nullopt) {
      generation = known->generation;
      note_rank(known->rank);
    }
    waits_.add({generation, step.step}, step.parts_us.at(static_cast<std::size_t>(TimedPart::reduce)) * 1e-6);
  }
  void take(const PhaseTimed& phase) {
    see(phase.time);
    see(phase.time + phase.took_us * 1e-6);
    const double took_s = phase.took_us * 1e-6;
    if (phase.phase == "evaluate")
      add(TimeUse::evaluation, took_s);
    else if (phase.phase == "save")
      add(TimeUse::checkpoints, took_s);
    else if (phase.phase == "connect" || phase.phase == "transfer" || phase.phase == "idle")
      pending_s_ += took_s;
    else if (sums_.steps > 0)
      add(TimeUse::rest, took_s);
  }
  void take(const Sampled& sample) {
    see(sample.time);
    const auto value = [&sample](const char* name) -> std::optional<double> {
      const auto found = sample.values.find(name);
      return found == sample.values.end() ? std::nullopt : std::optional(found->second);
    };
    if (const auto cpu = value("cpu_s")) cpu_.see(*cpu);
    if (const auto read = value("read_bytes")) read_.see(*read);
    if (const auto energy = value("node_energy_j")) node_energy_.see(*energy);
    if (const auto energy = value("gpu_energy_j")) gpu_energy_.see(*energy);
    if (const auto memory = value("memory_bytes"))
      sums_.peak_memory_bytes = std::max(sums_.peak_memory_bytes.value_or(0), *memory);
    hold_memory(sample.time, value("memory_bytes"));
    sums_.has_gpu = sums_.has_gpu || value("gpu_busy") || value("gpu_power_w") || value("gpu_energy_j");
  }
  void take(const LinesLost& lost) { sums_.lost_lines += lost.lines; }
  void take(const OtherLine&) {}
  void take(std::monostate) {}

  [[nodiscard]] bool is_empty() const { return !has_begun_; }
  [[nodiscard]] NodeEnergy node_energy() const {
    return {sums_.node, begin_, end_, node_energy_.grown().value_or(-1)};
  }
  /// `unequal_part`: of what is waited for sums.
  [[nodiscard]] ReportWorker finish(double unequal_part) {
    const auto part = [this](TimedPart which) { return sums_.parts_s.at(static_cast<std::size_t>(which)); };
    // It waited for a generation that never came.
    add(TimeUse::repairs, std::exchange(pending_s_, 0.0));
    add(TimeUse::compute, part(TimedPart::forward) + part(TimedPart::backward) + part(TimedPart::optimizer));
    add(TimeUse::data_wait, part(TimedPart::data));
    add(TimeUse::exposed_reduction, part(TimedPart::reduce) * (1 - unequal_part));
    add(TimeUse::unequal_finish, part(TimedPart::reduce) * unequal_part);
    add(TimeUse::commit, part(TimedPart::commit));
    sums_.seconds = end_ - begin_;
    double known = 0;
    for (const double seconds : sums_.uses_s) known += seconds;
    add(TimeUse::rest, std::max(0.0, sums_.seconds - known));
    sums_.cpu_s = cpu_.grown();
    sums_.read_bytes = read_.grown();
    sums_.gpu_energy_j = gpu_energy_.grown();
    return sums_;
  }

 private:
  /// Samples have what has changed: without a value the last one still holds.
  void hold_memory(double time, std::optional<double> bytes) {
    if (!bytes && !memory_) return;
    const MemorySample now{time, bytes ? *bytes : memory_->bytes};
    if (memory_) sums_.memory_byte_s += held_byte_s(std::array{*memory_, now});
    memory_ = now;
  }
  /// What lies before a step, since a new generation called for it: or before the first, since it began.
  void account_for_waiting(double step_begins) {
    const double waited_s = std::exchange(pending_s_, 0.0);
    const auto found = planned_.find(generation_);
    const bool is_planned = found != planned_.end() && found->second;
    if (sums_.steps == 0)
      add(TimeUse::beginning, std::max(0.0, step_begins - begin_));
    else
      add(is_planned ? TimeUse::resizes : TimeUse::repairs, waited_s);
  }
  void add(TimeUse which, double seconds) { use(sums_.uses_s, which) += seconds; }
  void note_rank(std::int64_t rank) {
    constexpr std::size_t most_ranks = 16;
    const bool known = std::ranges::find(sums_.ranks, rank) != sums_.ranks.end();
    if (!known && sums_.ranks.size() < most_ranks) sums_.ranks.push_back(rank);
  }
  void see(double time) {
    if (!has_begun_) begin_ = end_ = time;
    has_begun_ = true;
    begin_ = std::min(begin_, time);
    end_ = std::max(end_, time);
  }

  const std::map<std::int64_t, bool>& planned_;
  const Memberships& memberships_;
  Waits& waits_;
  ReportWorker sums_;
  Growth cpu_, read_, node_energy_, gpu_energy_;
  std::optional<MemorySample> memory_;  // the last
  std::int64_t pid_ = 0;
  double begin_ = 0, end_ = 0;
  double pending_s_ = 0;  // connecting and so on, for the generation whose steps come next
  std::int64_t generation_ = 0;
  bool has_begun_ = false;
};

/// Workers of a node all tell the same: each counts for the time that none before it has covered.
std::optional<double> energy_of_nodes(std::vector<NodeEnergy> parts) {
  std::erase_if(parts, [](const NodeEnergy& part) { return part.joules < 0 || part.end <= part.begin; });
  if (parts.empty()) return std::nullopt;
  std::ranges::sort(parts, {}, [](const NodeEnergy& part) { return std::pair(part.node, part.begin); });
  double joules = 0, covered = 0;
  std::string node;
  for (const NodeEnergy& part : parts) {
    if (part.node != node) covered = part.begin;
    node = part.node;
    const double fresh_s = part.end - std::max(part.begin, covered);
    if (fresh_s > 0) joules += part.joules * fresh_s / (part.end - part.begin);
    covered = std::max(covered, part.end);
  }
  return joules;
}

bool has_all_energy(const std::vector<ReportWorker>& workers, const std::vector<NodeEnergy>& energies) {
  std::set<std::string> nodes, telling;
  for (const ReportWorker& worker : workers) {
    if (worker.has_gpu && !worker.gpu_energy_j) return false;
    nodes.insert(worker.node);
  }
  for (const NodeEnergy& energy : energies)
    if (energy.joules >= 0) telling.insert(energy.node);
  return !nodes.empty() && nodes == telling;
}

}  // namespace

Result<ReportTelemetry> sum_telemetry(const std::string& run_dir,
                                      const std::map<std::int64_t, bool>& planned) {
  PACELINE_ASSIGN(const std::vector<TelemetryFiles> all, find_telemetry(run_dir));
  const Memberships memberships = Memberships::read(run_dir);
  Waits waits;
  std::vector<WorkerSums> sums;
  ReportTelemetry telemetry;
  for (const TelemetryFiles& files : all) {
    if (files.paths.size() > 1) telemetry.is_from_the_beginning = false;
    WorkerSums worker(files, planned, memberships, waits);
    PACELINE_TRY(read_telemetry(files, [&worker](const TelemetryLine& line) {
      std::visit([&worker](const auto& read) { worker.take(read); }, line);
    }));
    if (!worker.is_empty()) sums.push_back(std::move(worker));
  }
  telemetry.steps = waits.steps();
  std::vector<NodeEnergy> energies;
  for (WorkerSums& worker : sums) {
    energies.push_back(worker.node_energy());
    const ReportWorker& done = telemetry.workers.emplace_back(worker.finish(waits.unequal_part()));
    for (std::size_t i = 0; i < done.uses_s.size(); ++i) telemetry.uses_s.at(i) += done.uses_s.at(i);
    if (done.gpu_energy_j) telemetry.gpu_energy_j = telemetry.gpu_energy_j.value_or(0) + *done.gpu_energy_j;
  }
  telemetry.has_all_energy = has_all_energy(telemetry.workers, energies);
  telemetry.node_energy_j = energy_of_nodes(std::move(energies));
  return telemetry;
}

}  // namespace paceline
