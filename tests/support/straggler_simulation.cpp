#include "support/straggler_simulation.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "paceline/base/text.hpp"

namespace paceline::testing {
namespace {

using What = PlantedFault::What;

constexpr double heartbeat_s = 0.1;
constexpr double grains_per_rank = 16;
// Parts of a step that is well.
constexpr double compute_part = 0.70, data_part = 0.04, optimizer_part = 0.06, exposed_part = 0.18,
                 commit_part = 0.01;
constexpr double wire_busy_part = 0.3;  ///< of the step a wire is busy; some of it behind the backward pass
constexpr double slow_noise_s = 5;      ///< for which slow noise stays
constexpr std::int64_t bytes_per_step = 4 << 20;

struct SimulatedRank {
  WorkerId worker = 0;
  std::string node;
  double speed_log = 0, slow_noise_log = 0;
  std::int64_t share = 0;
  double free_s = 0;  ///< when it can begin its next step
  double next_heartbeat_s = 0;
  double wire_rate = 0;     ///< to whom it sends most slowly, of late
  std::size_t wire_to = 0;  ///< to whom that is
  MeasuredSums sums;
  struct OnItsWay {
    double arrives_s = 0;
    RankReport report;
  };
  std::deque<OnItsWay> heartbeats;
  RankReport newest;
  bool heard = false;
  bool broken_wire_sensor = false, mute = false;
};

/// What one rank does in one step.
struct Work {
  double data_s = 0, compute_s = 0, cpu_s = 0, arrives_s = 0, begins_s = 0, wire_s = 0;
  std::vector<std::pair<std::size_t, double>> sent;  ///< to whom, and how long that takes
};

class Simulation {
 public:
  Simulation(const SimulatedJob& job, const StragglerRules& rules)
      : job_(job), detector_(rules), random_(job.seed) {
    for (int i = 0; i < job.ranks; ++i) ranks_.push_back(make_rank(i));
    share_evenly();
    if (job.broken_sensors) {
      ranks_.back().broken_wire_sensor = true;
      if (job.ranks > 4) ranks_[static_cast<std::size_t>(job.ranks) / 2].mute = true;
    }
  }

  SimulationResult run() {
    while (tick_s_ < job_.seconds) {
      step();
      double safe_s = std::numeric_limits<double>::max();
      for (const SimulatedRank& rank : ranks_) safe_s = std::min(safe_s, rank.free_s);
      for (; tick_s_ <= std::min(safe_s, job_.seconds); tick_s_ += heartbeat_s) tick();
    }
    result_.unusable = detector_.unusable();
    return std::move(result_);
  }

 private:
  double normal() { return normal_(random_); }
  double uniform() { return std::generate_canonical<double, 32>(random_); }
  double noisy(double value) { return value * std::exp(job_.noise * normal()); }

  SimulatedRank make_rank(int index) {
    SimulatedRank rank;
    rank.worker = next_worker_++;
    rank.node = concat("n", index / job_.ranks_per_node);
    rank.speed_log = job_.spread * normal();
    rank.free_s = now_s_;
    rank.next_heartbeat_s = now_s_ + heartbeat_s * uniform();
    return rank;
  }

  void share_evenly() {
    for (SimulatedRank& rank : ranks_) rank.share = static_cast<std::int64_t>(grains_per_rank);
  }

  double factor(What what, std::size_t rank, double none) const {
    double product = none;
    for (const PlantedFault& fault : job_.faults) {
      if (fault.what != what || now_s_ < fault.from_s || now_s_ >= fault.until_s) continue;
      if (fault.rank >= 0 && !concerns(fault, rank)) continue;
      product = what == What::slow_read ? product + fault.factor : product * fault.factor;
    }
    return product;
  }

  bool concerns(const PlantedFault& fault, std::size_t rank) const {
    const auto index = static_cast<std::size_t>(fault.rank);
    if (fault.what < What::slow_sending) return index == rank;
    return ranks_[index].node == ranks_[rank].node;
  }

  bool several_nodes() const { return job_.ranks > job_.ranks_per_node; }

  /// The same place on the next node.
  std::size_t next_of(std::size_t rank) const {
    return (rank + static_cast<std::size_t>(job_.ranks_per_node)) % ranks_.size();
  }

  std::vector<std::size_t> receivers_of(std::size_t from) const {
    if (!several_nodes()) return {};
    if (!job_.sends_to_all) return {next_of(from)};
    std::vector<std::size_t> all;
    for (std::size_t to = 0; to < ranks_.size(); ++to)
      if (ranks_[to].node != ranks_[from].node) all.push_back(to);
    return all;
  }

  double wire_factor(std::size_t from, std::size_t to) const {
    return std::max(factor(What::slow_sending, from, 1), factor(What::slow_receiving, to, 1)) *
           std::max(factor(What::slow_network, from, 1), factor(What::slow_network, to, 1));
  }

  Work work_of(std::size_t index, bool takes_long) {
    SimulatedRank& rank = ranks_[index];
    const double stays = std::exp(-job_.step_s / slow_noise_s);
    rank.slow_noise_log =
        stays * rank.slow_noise_log + std::sqrt(1 - stays * stays) * job_.slow_noise * normal();
    Work work;
    work.begins_s = rank.free_s;
    work.data_s = noisy(data_part * job_.step_s) + factor(What::slow_read, index, 0) * job_.step_s;
    const double grain_s = compute_part * job_.step_s / (grains_per_rank + job_.fixed_grains);
    const double grains = static_cast<double>(rank.share) + job_.fixed_grains;
    const double plain_s = noisy(grains * grain_s) * std::exp(rank.speed_log + rank.slow_noise_log) *
                           factor(What::slow_compute, index, 1) * gust_at(index) * (takes_long ? 3 : 1);
    work.compute_s = plain_s * factor(What::starved, index, 1);
    work.cpu_s = plain_s + 0.1 * work.data_s;
    work.arrives_s = work.begins_s + work.data_s + work.compute_s;
    const std::vector<std::size_t> receivers = receivers_of(index);
    for (const std::size_t to : receivers) {
      const double usual_s = wire_busy_part * job_.step_s / static_cast<double>(receivers.size());
      work.sent.emplace_back(to, noisy(usual_s) * wire_factor(index, to));
      work.wire_s += work.sent.back().second;
    }
    return work;
  }

  /// As a machine with neighbours has them (docs/stragglers.md): for all about twice a minute, by up to a
  /// half for up to 8 s; for one rank, by a third at most, for under a second.
  void gust() {
    if (now_s_ < next_gust_s_) return;
    const bool of_all = uniform() < 0.85;
    gust_rank_ = of_all ? -1 : static_cast<int>(uniform() * static_cast<double>(ranks_.size()));
    gust_factor_ = 1.2 + (of_all ? 0.3 : 0.13) * uniform();
    gust_until_s_ = now_s_ + (of_all ? 1 + 7 * uniform() * uniform() : 0.4 + 0.5 * uniform());
    next_gust_s_ = gust_until_s_ - 30 * std::log(1 - uniform());
  }

  double gust_at(std::size_t rank) const {
    if (now_s_ >= gust_until_s_) return 1;
    return gust_rank_ < 0 || gust_rank_ == static_cast<int>(rank) ? gust_factor_ : 1;
  }

  void step() {
    if (job_.gusts) gust();
    std::vector<Work> works;
    const bool has_long = uniform() < job_.long_step;
    const auto long_rank = static_cast<std::size_t>(uniform() * static_cast<double>(ranks_.size()));
    double last_s = 0, slowest_wire_s = 0;
    for (std::size_t i = 0; i < ranks_.size(); ++i) {
      works.push_back(work_of(i, has_long && i == long_rank));
      last_s = std::max(last_s, works.back().arrives_s);
      slowest_wire_s = std::max(slowest_wire_s, works.back().wire_s);
    }
    const double hidden_s = (wire_busy_part - exposed_part) * job_.step_s;
    const double reduced_s =
        last_s + (several_nodes() ? std::max(0.1 * job_.step_s, slowest_wire_s - hidden_s)
                                  : noisy(exposed_part * job_.step_s));
    const double commit_s = commit_part * job_.step_s;
    for (std::size_t i = 0; i < ranks_.size(); ++i) commit(i, works[i], works, reduced_s, commit_s);
    ++result_.steps;
    now_s_ = reduced_s;
    if (job_.life) live();
  }

  void commit(std::size_t index, const Work& work, const std::vector<Work>& works, double reduced_s,
              double commit_s) {
    SimulatedRank& rank = ranks_[index];
    const double optimizer_s = noisy(optimizer_part * job_.step_s) * factor(What::slow_optimizer, index, 1);
    const double ends_s = reduced_s + commit_s + optimizer_s;
    const double wait_s = reduced_s - work.arrives_s + commit_s;
    const double cpu_s = work.cpu_s + optimizer_s + (job_.spin ? wait_s : 0);
    send_heartbeats(rank, index, work.begins_s, ends_s, cpu_s);
    rank.free_s = ends_s + 0.002 * job_.step_s;
    MeasuredSums& sums = rank.sums;
    ++sums.steps;
    sums.grains += rank.share;
    sums.data_s += work.data_s;
    sums.forward_s += work.compute_s / 3;
    sums.backward_s += work.compute_s * 2 / 3;
    sums.reduce_s += reduced_s - work.arrives_s;
    sums.commit_s += commit_s;
    sums.optimizer_s += optimizer_s;
    sums.cpu_s += cpu_s;
    if (!several_nodes()) return;
    sums.wire_bytes += bytes_per_step;
    double slowest_s = 0;
    for (const auto& [to, sent_s] : work.sent) {
      // Who sends to a rank that isn't there yet stays busy until it is.
      const double busy_s = sent_s + std::max(0.0, works[to].arrives_s - work.arrives_s);
      sums.wire_busy_s += busy_s;
      if (busy_s > slowest_s) {
        slowest_s = busy_s;
        rank.wire_to = to;
      }
    }
    const double rate =
        static_cast<double>(bytes_per_step) / static_cast<double>(work.sent.size()) / slowest_s;
    rank.wire_rate += (rank.wire_rate == 0 ? 1 : std::min(1.0, job_.step_s / 0.2)) * (rate - rank.wire_rate);
  }

  /// Those that it sends before its sums have this step in them.
  void send_heartbeats(SimulatedRank& rank, std::size_t index, double begins_s, double ends_s, double cpu_s) {
    for (; rank.next_heartbeat_s < ends_s; rank.next_heartbeat_s += heartbeat_s * (0.98 + 0.04 * uniform())) {
      if (uniform() < job_.lost) continue;
      const double part = std::max(0.0, (rank.next_heartbeat_s - begins_s) / (ends_s - begins_s));
      RankReport report;
      report.worker = rank.worker;
      report.rank = static_cast<std::int64_t>(index);
      report.node = rank.node;
      report.share = rank.share;
      report.sums = rank.mute ? MeasuredSums{} : rank.sums;
      report.sums.cpu_s += rank.mute ? 0 : part * cpu_s;
      if (rank.broken_wire_sensor) report.sums.wire_busy_s = std::numeric_limits<double>::quiet_NaN();
      if (several_nodes() && rank.wire_rate > 0 && !rank.mute) {
        report.slowest_wire_rank = static_cast<std::int64_t>(rank.wire_to);
        report.slowest_wire_bytes_per_s = rank.wire_rate;
      }
      const double delay_s = uniform() < job_.late ? 0.35 * uniform() : 0.002;
      rank.heartbeats.push_back({rank.next_heartbeat_s + delay_s, report});
    }
  }

  Instant instant(double at_s) const {
    return Instant{} +
           std::chrono::duration_cast<Duration>(std::chrono::duration<double>(1000 + at_s + clock_off_s_));
  }

  void tick() {
    std::vector<RankReport> reports;
    for (SimulatedRank& rank : ranks_) {
      for (auto at = rank.heartbeats.begin(); at != rank.heartbeats.end();) {
        if (at->arrives_s > tick_s_) {
          ++at;
          continue;
        }
        rank.newest = at->report;
        rank.newest.heard = instant(at->arrives_s);
        rank.heard = true;
        at = rank.heartbeats.erase(at);
      }
      if (rank.heard) reports.push_back(rank.newest);
    }
    for (StragglerEvent& event : detector_.observe(instant(tick_s_), generation_, reports))
      result_.events.push_back({tick_s_, std::move(event)});
  }

  // ---- what happens in the life of a job -------------------------------------------------------------

  bool each(double period_s, double& next_s) {
    if (now_s_ < next_s) return false;
    next_s += period_s;
    return true;
  }

  void live() {
    if (each(97, next_evaluation_s_))
      for (SimulatedRank& rank : ranks_) rank.free_s += 3 + 0.2 * uniform();
    if (each(61, next_checkpoint_s_)) ranks_.front().free_s += 0.4;
    if (each(23, next_move_s_)) move_grains();
    if (each(700, next_repair_s_)) repair();
    if (each(400, next_jump_s_)) clock_off_s_ = clock_off_s_ > 0 ? -50 : 3600;
  }

  void move_grains() {
    const auto from = static_cast<std::size_t>(uniform() * static_cast<double>(ranks_.size()));
    const std::size_t to = (from + 1) % ranks_.size();
    const std::int64_t grains = std::min<std::int64_t>(6, ranks_[from].share - 8);
    if (ranks_[to].share + grains > 32) return;
    ranks_[from].share -= grains;
    ranks_[to].share += grains;
  }

  /// A worker dies; another takes its place after a while.
  void repair() {
    for (SimulatedRank& rank : ranks_) rank.free_s += 0.6;
    ++generation_;
    const std::size_t lost = 1;
    const double back_s = ranks_[lost].free_s;
    ranks_[lost] = make_rank(static_cast<int>(lost));
    ranks_[lost].broken_wire_sensor = job_.broken_sensors && lost + 1 == ranks_.size();
    ranks_[lost].free_s = back_s;
    share_evenly();
  }

  SimulatedJob job_;
  StragglerDetector detector_;
  std::mt19937_64 random_;
  std::normal_distribution<double> normal_;
  std::vector<SimulatedRank> ranks_;
  SimulationResult result_;
  WorkerId next_worker_ = 10;
  std::int64_t generation_ = 1;
  double now_s_ = 0, tick_s_ = heartbeat_s, clock_off_s_ = 0;
  double next_gust_s_ = 20, gust_until_s_ = 0, gust_factor_ = 1;
  int gust_rank_ = -1;  // -1: all
  double next_evaluation_s_ = 97, next_checkpoint_s_ = 61, next_move_s_ = 23, next_repair_s_ = 700,
         next_jump_s_ = 400;
};

}  // namespace

std::vector<ObservedEvent> SimulationResult::began() const {
  std::vector<ObservedEvent> some;
  for (const ObservedEvent& observed : events)
    if (observed.event.kind == StragglerEvent::Kind::began) some.push_back(observed);
  return some;
}

SimulationResult simulate(const SimulatedJob& job, const StragglerRules& rules) {
  return Simulation(job, rules).run();
}

}  // namespace paceline::testing
