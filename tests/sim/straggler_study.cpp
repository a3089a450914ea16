// The figures of docs/stragglers.md, in its tables: detection delays, false alarms, and what other thresholds
// do to both; and the same of a real job, by the telemetry that it left.
//   straggler_study delays|clean|thresholds [RUNS]
//   straggler_study replay RUN
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "paceline/base/text.hpp"
#include "recorded_job.hpp"
#include "support/straggler_simulation.hpp"

namespace {

using namespace paceline;
using namespace paceline::testing;
using What = PlantedFault::What;

struct Fault {
  const char* name;
  What what;
  int rank;
  double factor;
  StepPart part;
};

const std::vector<Fault> faults = {
    {"one rank computes 1.5 times as long", What::slow_compute, 1, 1.5, StepPart::compute},
    {"one rank computes 3 times as long", What::slow_compute, 1, 3, StepPart::compute},
    {"one rank gets half of its cores", What::starved, 1, 2, StepPart::compute},
    {"one rank waits 0.3 steps longer for data", What::slow_read, 1, 0.3, StepPart::data},
    {"one rank's optimizer takes twice as long", What::slow_optimizer, 1, 2, StepPart::optimizer},
    {"one node sends at a quarter of its speed", What::slow_sending, 1, 4, StepPart::wire},
    {"one node sends and receives at an eighth of it", What::slow_network, 1, 8, StepPart::wire},
    {"all wait for data half a step longer", What::slow_read, -1, 0.5, StepPart::data},
    {"all compute 1.5 times as long", What::slow_compute, -1, 1.5, StepPart::compute},
    {"all wires at a quarter of their speed", What::slow_sending, -1, 4, StepPart::wire},
};

/// What some runs with the same fault showed.
struct Delays {
  std::vector<double> delays_s;  ///< of those that found it
  int missed = 0, other = 0, other_cause = 0;

  void sort() { std::sort(delays_s.begin(), delays_s.end()); }
  [[nodiscard]] double quantile(double part) const {
    if (delays_s.empty()) return -1;
    return delays_s[std::min(delays_s.size() - 1,
                             static_cast<std::size_t>(part * static_cast<double>(delays_s.size())))];
  }
};

SimulatedJob job_with(const Fault& fault, int ranks, double step_s, double noise, int run, int runs) {
  SimulatedJob job;
  job.ranks = ranks;
  job.step_s = step_s;
  job.noise = noise;
  job.seconds = 45;
  job.seed = static_cast<std::uint64_t>(1000 + 17 * run + ranks);
  // At any place in a step, and between heartbeats.
  const double from_s = 30 + step_s * run / runs + 0.037 * (run % 10);
  job.faults = {{fault.what, fault.rank, fault.factor, from_s, 1e9}};
  return job;
}

/// Whether it is the fault that was planted. A node that sends and receives slowly is all wires of two nodes.
bool is(const StragglerEvent& event, const Fault& fault, int ranks) {
  if (event.part != fault.part) return false;
  if (fault.part == StepPart::wire && ranks == 2 && fault.rank >= 0) return true;
  if (!event.suspect) return fault.rank < 0;
  return event.suspect->node == concat("n", fault.rank);
}

/// Adds what one such job showed.
void observe_delay(Delays& delays, const Fault& fault, const SimulatedJob& job, const StragglerRules& rules) {
  bool found = false;
  for (const ObservedEvent& observed : simulate(job, rules).began()) {
    const StragglerEvent& event = observed.event;
    const bool right = is(event, fault, job.ranks);
    if (!right) ++delays.other;
    if (!right || found) continue;
    found = true;
    delays.delays_s.push_back(observed.at_s - job.faults[0].from_s);
    if ((event.cause == StragglerCause::starved) != (fault.what == What::starved)) ++delays.other_cause;
  }
  if (!found) ++delays.missed;
}

Delays delays_of(const Fault& fault, int ranks, double step_s, double noise, int runs,
                 const StragglerRules& rules) {
  Delays delays;
  for (int run = 0; run < runs; ++run)
    observe_delay(delays, fault, job_with(fault, ranks, step_s, noise, run, runs), rules);
  delays.sort();
  return delays;
}

void print_delays(int runs) {
  std::printf(
      "| what is planted | median | 95%% | longest | said wrongly, not at all, something else too |\n");
  std::printf("|---|---|---|---|---|\n");
  for (const Fault& fault : faults) {
    Delays delays;
    for (const int ranks : {2, 3, 4, 16})
      for (const double step_s : {0.02, 0.2})
        for (const double noise : {0.05, 0.1})
          for (int run = 0; run < runs; ++run)
            observe_delay(delays, fault, job_with(fault, ranks, step_s, noise, run, runs), {});
    delays.sort();
    std::printf("| %s | %.1f | %.1f | %.1f | %d, %d, %d |\n", fault.name, delays.quantile(0.5),
                delays.quantile(0.95), delays.quantile(1), delays.other_cause, delays.missed, delays.other);
    std::fflush(stdout);
  }
}

/// Events in so many clean runs of half an hour.
std::size_t false_alarms(int ranks, int per_node, double step_s, double noise, int runs,
                         const StragglerRules& rules, bool tell, bool gusts = false) {
  std::size_t alarms = 0;
  for (int run = 0; run < runs; ++run) {
    SimulatedJob job;
    job.ranks = ranks;
    job.ranks_per_node = per_node;
    job.step_s = step_s;
    job.noise = noise;
    job.seconds = 1800;
    job.life = true;
    job.gusts = gusts;
    job.broken_sensors = run % 2 == 1;
    job.seed = static_cast<std::uint64_t>(31 * run + ranks);
    for (const ObservedEvent& observed : simulate(job, rules).began()) {
      ++alarms;
      if (tell)
        std::fprintf(stderr, "run %d, %.1f s: %s\n", run, observed.at_s, observed.event.sentence.c_str());
    }
  }
  return alarms;
}

void print_clean(int runs) {
  std::printf("| ranks | per node | step | noise | runs | false alarms |\n|---|---|---|---|---|---|\n");
  const std::pair<int, int> jobs[] = {{2, 1}, {2, 2}, {4, 1}, {4, 2}, {16, 1}, {16, 4}, {64, 8}};
  for (const auto& [ranks, per_node] : jobs)
    for (const double step_s : {0.02, 0.2})
      for (const double noise : {0.03, 0.1}) {
        const int some = ranks == 64 ? std::max(1, runs / 4) : runs;
        std::printf("| %d | %d | %.0f ms | %.0f%% | %d | %zu |\n", ranks, per_node, 1e3 * step_s, 1e2 * noise,
                    some, false_alarms(ranks, per_node, step_s, noise, some, {}, true));
        std::fflush(stdout);
      }
  for (const double step_s : {0.02, 0.2})
    std::printf("| 2, gusts | 2 | %.0f ms | 5%% | %d | %zu |\n", 1e3 * step_s, runs,
                false_alarms(2, 2, step_s, 0.05, runs, {}, true, true));
}

struct Change {
  std::string name;
  std::function<void(StragglerRules&)> apply;
};

std::vector<Change> changes() {
  std::vector<Change> all = {{"as they are", [](StragglerRules&) {}}};
  const auto each_sudden = [](StragglerRules& rules, const std::function<void(DeviationRule&)>& change) {
    for (DeviationRule* rule : {&rules.sudden_time, &rules.sudden_data, &rules.sudden_wire}) change(*rule);
  };
  const auto sudden = [&](const std::string& name, const std::function<void(DeviationRule&)>& change) {
    all.push_back({name, [=](StragglerRules& rules) { each_sudden(rules, change); }});
  };
  for (const double limit : {5, 7, 14})
    sudden("sudden limit " + std::to_string(static_cast<int>(limit)),
           [=](DeviationRule& rule) { rule.limit = limit; });
  for (const int values : {2, 4, 6})
    sudden("sudden, least values " + std::to_string(values),
           [=](DeviationRule& rule) { rule.least_values = values; });
  for (const double factor : {0.7, 1.4})
    sudden(factor < 1 ? "sudden, rejectable 0.7 times" : "sudden, rejectable 1.4 times",
           [=](DeviationRule& rule) { rule.rejectable *= factor; });
  sudden("sudden, acceptable 0", [](DeviationRule& rule) { rule.acceptable = 0; });
  sudden("sudden, acceptable 2 times", [](DeviationRule& rule) { rule.acceptable *= 2; });
  sudden("sudden, at least 0.3 s", [](DeviationRule& rule) { rule.least_s = 0.3; });
  sudden("sudden, at least 1.5 s", [](DeviationRule& rule) { rule.least_s = 1.5; });
  all.push_back({"lasting time 0.05, 0.12", [](StragglerRules& rules) {
                   rules.lasting_time.acceptable = 0.05, rules.lasting_time.rejectable = 0.12;
                 }});
  all.push_back({"lasting limits 10", [](StragglerRules& rules) {
                   for (DeviationRule* rule : {&rules.lasting_time, &rules.lasting_data, &rules.lasting_wire})
                     rule->limit = 10;
                 }});
  all.push_back({"least sigma of time 0.1", [](StragglerRules& rules) { rules.least_sigma_time = 0.1; }});
  all.push_back({"own history never asked", [](StragglerRules& rules) { rules.own_part = 1e9; }});
  all.push_back({"own history always agrees", [](StragglerRules& rules) { rules.own_part = -1e9; }});
  all.push_back({"late receivers not minded", [](StragglerRules& rules) { rules.late = 10; }});
  all.push_back({"late from 0.2 on", [](StragglerRules& rules) { rules.late = 0.2; }});
  all.push_back({"no fixed part", [](StragglerRules& rules) { rules.fixed_grains = 0; }});
  all.push_back({"least exposed 0", [](StragglerRules& rules) { rules.least_exposed = 0; }});
  return all;
}

void print_thresholds(int runs) {
  std::printf(
      "| change | rank 1.5 times slower | reads wait 0.3 steps | node sends 4 times slower | false alarms "
      "|\n");
  std::printf("|---|---|---|---|---|\n");
  for (const Change& change : changes()) {
    StragglerRules rules;
    change.apply(rules);
    std::printf("| %s |", change.name.c_str());
    for (const std::size_t fault : {0U, 3U, 5U}) {
      const Delays delays = delays_of(faults[fault], 4, 0.2, 0.1, runs, rules);
      std::printf(" %.2f, %.2f, %.2f s", delays.quantile(0.5), delays.quantile(0.9), delays.quantile(1));
      if (delays.missed > 0) std::printf("; %d missed", delays.missed);
      std::printf(" |");
    }
    std::printf(" %zu |\n", false_alarms(16, 1, 0.2, 0.1, runs, rules, false) +
                                false_alarms(4, 1, 0.02, 0.1, runs, rules, false));
    std::fflush(stdout);
  }
}

/// A real job made slower at some fifty places, each after a while that it is as it was. Places at which
/// something was said before are left out.
Delays delays_in(const RecordedJob& job, int rank, double factor) {
  constexpr double from_s = 20, until_s = 40;
  constexpr std::size_t places = 50;
  Delays delays;
  for (std::size_t place = 0; place < places; ++place) {
    double found_s = -1;
    bool said_before = false;
    int other = 0;
    job.play(place * job.steps() / places, until_s, {from_s, until_s, rank, factor}, {},
             [&](double at_s, const StragglerEvent& event) {
               if (event.kind != StragglerEvent::Kind::began) return;
               const bool blamed = rank < 0 ? !event.suspect : event.suspect && event.suspect->rank == rank;
               if (at_s < from_s)
                 said_before = true;
               else if (!blamed)
                 ++other;
               else if (found_s < 0 && event.part == StepPart::compute)
                 found_s = at_s - from_s;
             });
    if (said_before) continue;
    delays.other += other;
    if (found_s < 0)
      ++delays.missed;
    else
      delays.delays_s.push_back(found_s);
  }
  delays.sort();
  return delays;
}

int print_replay(const char* run_dir) {
  const Result<RecordedJob> job = RecordedJob::read(run_dir);
  if (!job.ok()) {
    std::fprintf(stderr, "%s\n", job.error().message.c_str());
    return 1;
  }
  int ranks = 0, common = 0;
  job.value().play(0, 1e9, {}, {}, [&](double at_s, const StragglerEvent& event) {
    if (event.kind != StragglerEvent::Kind::began) return;
    ++(event.suspect ? ranks : common);
    std::printf("%.1f s: %s\n", at_s, event.sentence.c_str());
  });
  std::printf("as it was, %zu steps: %d times a rank, %d times all alike\n\n", job.value().steps(), ranks,
              common);
  std::printf(
      "| made slower | median | 95%% | max | said | missed | others blamed "
      "|\n|---|---|---|---|---|---|---|\n");
  for (const int rank : {1, -1})
    for (const double factor : {1.5, 2.0}) {
      const Delays delays = delays_in(job.value(), rank, factor);
      std::printf("| %s %.1f times | %.1f s | %.1f s | %.1f s | %zu | %d | %d |\n",
                  rank < 0 ? "all ranks" : "rank 1", factor, delays.quantile(0.5), delays.quantile(0.95),
                  delays.quantile(1), delays.delays_s.size(), delays.missed, delays.other);
    }
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  const std::string what = count > 1 ? arguments[1] : "";
  if (what == "replay" && count == 3) return print_replay(arguments[2]);
  const int runs = count > 2 ? std::atoi(arguments[2]) : 20;
  if (runs < 1 || (what != "delays" && what != "clean" && what != "thresholds")) {
    std::fprintf(
        stderr, "usage: straggler_study delays|clean|thresholds [RUNS]\n       straggler_study replay RUN\n");
    return 2;
  }
  if (what == "delays") print_delays(runs);
  if (what == "clean") print_clean(runs);
  if (what == "thresholds") print_thresholds(runs);
}
