// Parts `kill` and `coordinator`.
#include <algorithm>
#include <csignal>
#include <random>

#include "elastic/parts.hpp"
#include "elastic/training.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

// Between one loss and the next, so that steps are as usual again.
constexpr std::int64_t settling_steps = 25;
constexpr double most_ms_in_the_middle = 300, most_ms_of_nearly_all = 1000;
// After the loss of a coordinator, and as long before.
constexpr double window_s = 3;

struct Kill {
  double time = 0;
  std::int64_t generation = 0;  ///< in which it came
  std::int64_t whole = 0;       ///< the first one with all ranks again
};

/// At any moment of a step.
Status wait_a_random_while(Stage& stage, std::mt19937& random) {
  return stage.pause(std::chrono::milliseconds(std::uniform_int_distribution<int>(0, 200)(random)));
}

Status kill(pid_t pid, const std::string& what) {
  if (pid > 1 && ::kill(pid, SIGKILL) == 0) return {};
  return system_error(concat("cannot kill ", what, " (pid ", pid, ")"));
}

Result<Kill> kill_a_rank(const PartContext& context, BackgroundTraining& training, std::mt19937& random) {
  PACELINE_TRY(training.await_steps(settling_steps));
  PACELINE_TRY(wait_a_random_while(context.stage, random));
  PACELINE_ASSIGN(const Standing standing, training.standing());
  if (standing.ranks.empty()) return Error{ErrorCode::corrupt, "the job has no ranks"};
  const std::size_t victim = std::uniform_int_distribution<std::size_t>(0, standing.ranks.size() - 1)(random);
  Kill loss{.time = seconds_since_1970(), .generation = standing.generation};
  PACELINE_TRY(kill(standing.ranks[victim], concat("rank ", victim)));
  PACELINE_ASSIGN(loss.whole, training.await_ranks(context.options.ranks, standing.generation));
  return loss;
}

PartReport kill_report(const std::vector<Kill>& kills, const Commits& commits,
                       const std::map<std::int64_t, Beginning>& beginnings) {
  Figure raw{"from a rank's death to the next commit", "ms", {}};
  Figure beyond{"the same beyond a step's own time", "ms", {}};
  Figure whole{"until all ranks train again", "s", {}};
  for (const Kill& loss : kills) {
    const auto next = beginnings.upper_bound(loss.generation);
    if (next == beginnings.end()) continue;
    // Not a commit that was under way: the first of those who are left.
    const auto commit = commits.find(next->second.after_step + 1);
    const auto step = usual_gap(commits, next->second.after_step + 1);
    if (commit == commits.end() || !step) continue;
    raw.values.push_back((commit->second - loss.time) * 1e3);
    beyond.values.push_back((commit->second - loss.time - *step) * 1e3);
    const auto last = beginnings.find(loss.whole);
    const auto there = last == beginnings.end() ? commits.end() : commits.find(last->second.after_step + 1);
    if (there != commits.end()) whole.values.push_back(there->second - loss.time);
  }
  const Spread spread = spread_of(beyond.values);
  return {"kill",
          "ranks are killed, one at a time",
          {raw, beyond, whole},
          {{"median beyond a step's own time", "ms", spread.median, most_ms_in_the_middle},
           {"p99 beyond a step's own time", "ms", spread.p99, most_ms_of_nearly_all}}};
}

/// When it was killed.
Result<double> kill_the_coordinator(const PartContext& context, BackgroundTraining& training,
                                    std::mt19937& random) {
  // As long undisturbed, to compare with, and the steps of a second more for what came before.
  PACELINE_TRY(context.stage.pause(std::chrono::seconds(4)));
  PACELINE_TRY(wait_a_random_while(context.stage, random));
  PACELINE_ASSIGN(const Standing standing, training.standing());
  const double time = seconds_since_1970();
  PACELINE_TRY(kill(standing.coordinator, "the coordinator"));
  // Whoever asked meanwhile would take time from the ranks.
  PACELINE_TRY(
      context.stage.pause(std::chrono::duration_cast<Duration>(std::chrono::duration<double>(window_s))));
  PACELINE_TRY(context.stage.wait_for("another coordinator", [&]() -> Result<bool> {
    const Result<Standing> now = training.standing();
    if (!now.ok() && now.error().code == ErrorCode::aborted) return now.error();
    return now.ok() && now->coordinator != standing.coordinator && !now->ranks.empty();
  }));
  PACELINE_TRY(training.await_steps(2));
  return time;
}

PartReport coordinator_report(const std::vector<double>& kills, const Commits& commits) {
  Figure before{"greatest gap of 3 s, undisturbed, beyond a step", "ms", {}};
  Figure after{"greatest gap of 3 s after a coordinator's death", "ms", {}};
  for (const double time : kills) {
    const auto next = std::ranges::find_if(commits, [&](const auto& commit) { return commit.second > time; });
    const auto step = next == commits.end() ? std::nullopt : usual_gap(commits, next->first);
    if (!step) continue;
    // The gap in which it died counts as disturbed only.
    before.values.push_back((greatest_gap(commits, time - window_s, last_commit(commits, time)) - *step) *
                            1e3);
    after.values.push_back((greatest_gap(commits, time, time + window_s) - *step) * 1e3);
  }
  return {"coordinator",
          "coordinators are killed",
          {before, after},
          {{"median gap after, against the greatest undisturbed one,", "ms", spread_of(after.values).median,
            spread_of(before.values).most}}};
}

}  // namespace

Result<PartReport> measure_kills(const PartContext& context) {
  PACELINE_ASSIGN(auto training,
                  BackgroundTraining::start(context.stage, context.options, context.dataset, {}));
  std::mt19937 random(1);
  std::vector<Kill> kills;
  for (int i = 0; i < context.options.kills; ++i) {
    PACELINE_ASSIGN(const Kill one, kill_a_rank(context, training, random));
    kills.push_back(one);
  }
  PACELINE_TRY(training.await_steps(settling_steps));
  PACELINE_TRY(training.end());
  PACELINE_ASSIGN(const Commits commits, training.commits());
  PACELINE_ASSIGN(const auto beginnings, training.beginnings());
  return kill_report(kills, commits, beginnings);
}

Result<PartReport> measure_coordinator_kills(const PartContext& context) {
  PACELINE_ASSIGN(auto training,
                  BackgroundTraining::start(context.stage, context.options, context.dataset, {}));
  std::mt19937 random(2);
  std::vector<double> kills;
  PACELINE_TRY(training.await_steps(settling_steps));
  for (int i = 0; i < context.options.coordinator_kills; ++i) {
    PACELINE_ASSIGN(const double time, kill_the_coordinator(context, training, random));
    kills.push_back(time);
  }
  PACELINE_TRY(training.await_steps(settling_steps));
  PACELINE_TRY(training.end());
  PACELINE_ASSIGN(const Commits commits, training.commits());
  return coordinator_report(kills, commits);
}

}  // namespace paceline::bench
