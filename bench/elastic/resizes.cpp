// Part `resize`.
#include <algorithm>
#include <cstring>
#include <memory>

#include "allreduce/statistics.hpp"
#include "elastic/parts.hpp"
#include "elastic/training.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

constexpr std::int64_t settling_steps = 25;
constexpr double most_pause_ms = 100;
constexpr double least_fraction = 0.7;

struct Resize {
  double time = 0;  ///< of the command
  bool up = false;
  std::int64_t generation = 0;  ///< to which the ranks changed
};

Result<Resize> resize(const PartContext& context, BackgroundTraining& training, int ranks) {
  PACELINE_TRY(training.await_steps(settling_steps));
  PACELINE_ASSIGN(const Standing standing, training.standing());
  Resize change{.time = seconds_since_1970(), .up = ranks == context.options.ranks};
  PACELINE_TRY(context.stage.paceline({"resize", training.folder(), concat(ranks)}));
  PACELINE_ASSIGN(change.generation, training.await_ranks(ranks, standing.generation));
  return change;
}

/// How long this memory takes to copy so many bytes once, from one place that is in use to another.
double copy_seconds(std::int64_t bytes) {
  const auto size = static_cast<std::size_t>(bytes);
  std::vector<char> from(size, 1), to(size, 2);
  const SteadyClock clock;
  std::vector<double> times;
  for (int i = 0; i < 7; ++i) {
    const Instant begin = clock.now();
    std::memcpy(to.data(), from.data(), size);
    from[size / 2] =
        static_cast<char>(to[static_cast<std::size_t>(i) % size] + 1);  // so that none is left out
    times.push_back(to_seconds(clock.now() - begin));
  }
  return median(std::move(times));
}

PartReport resize_report(const std::vector<Resize>& changes, const Commits& commits,
                         const std::map<std::int64_t, Beginning>& beginnings) {
  Figure up{"from the command to the switch, a rank more", "s", {}};
  Figure down{"from the command to the switch, a rank less", "s", {}};
  Figure pause{"pause beyond a step's own time", "ms", {}};
  Figure rest{"the same beyond the state's transfer", "ms", {}};
  Figure transfer{"transfer of the state", "ms", {}};
  Figure fraction{"one copy of its bytes in memory / transfer", "", {}};
  for (const Resize& change : changes) {
    const auto beginning = beginnings.find(change.generation);
    if (beginning == beginnings.end()) continue;
    const Beginning& begin = beginning->second;
    const auto commit = commits.find(begin.after_step + 1);
    const auto gap = gap_of(commits, begin.after_step + 1);
    const auto step = usual_gap(commits, begin.after_step + 1);
    if (!gap || !step) continue;
    (change.up ? up : down).values.push_back(commit->second - change.time);
    pause.values.push_back((*gap - *step) * 1e3);
    rest.values.push_back((*gap - *step - begin.seconds) * 1e3);
    if (begin.bytes == 0 || begin.seconds <= 0) continue;
    transfer.values.push_back(begin.seconds * 1e3);
    fraction.values.push_back(copy_seconds(begin.bytes) / begin.seconds);
  }
  PartReport report{"resize", "`paceline resize`, a rank less and a rank more in turn", {}, {}};
  report.targets.push_back(
      {"median pause beyond step and transfer", "ms", spread_of(rest.values).median, most_pause_ms});
  if (!fraction.values.empty())
    report.targets.push_back(
        {"median share of the memory's rate", "", spread_of(fraction.values).median, least_fraction, true});
  report.figures = {up, down, pause, rest, transfer, fraction};
  return report;
}

}  // namespace

Result<PartReport> measure_resizes(const PartContext& context) {
  PACELINE_ASSIGN(auto training,
                  BackgroundTraining::start(context.stage, context.options, context.dataset, {}));
  std::vector<Resize> changes;
  for (int i = 0; i < context.options.resizes; ++i) {
    PACELINE_ASSIGN(const Resize one,
                    resize(context, training, context.options.ranks - (i % 2 == 0 ? 1 : 0)));
    changes.push_back(one);
  }
  PACELINE_TRY(training.await_steps(settling_steps));
  PACELINE_TRY(training.end());
  PACELINE_ASSIGN(const Commits commits, training.commits());
  PACELINE_ASSIGN(const auto beginnings, training.beginnings());
  return resize_report(changes, commits, beginnings);
}

}  // namespace paceline::bench
