// What trainings with a slow rank came to, for people and for programs.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "paceline/base/text.hpp"
#include "rebalance/live.hpp"

namespace paceline::bench {
namespace {

using nlohmann::json;

constexpr double least_fraction = 0.93, most_steps = 10, most_loss_percent = 0.5;

using Steps = std::optional<std::int64_t> Following::*;

/// Of all rounds; what was not reached within a phase counts as the whole phase.
std::vector<double> steps_of(const LiveReport& report, const LiveOptions& options,
                             Following RoundOfSlowing::*change, Steps steps) {
  std::vector<double> all;
  for (const RoundOfSlowing& round : report.disturbed.rounds)
    all.push_back(static_cast<double>((round.*change.*steps).value_or(options.steps)));
  return all;
}

std::vector<double> fractions_of(const LiveReport& report, Following RoundOfSlowing::*change) {
  std::vector<double> all;
  for (const RoundOfSlowing& round : report.disturbed.rounds)
    all.push_back((round.*change).fraction_of_ideal);
  return all;
}

std::vector<double> losses_percent(const LiveReport& report) {
  std::vector<double> all;
  for (const EqualPair& pair : report.equal) all.push_back(100 * (pair.balanced_ms / pair.fixed_ms - 1));
  return all;
}

double median_of(const std::vector<double>& values) {
  return spread_of(values).median;
}

std::int64_t moves_of_equal(const LiveReport& report) {
  std::int64_t moves = 0;
  for (const EqualPair& pair : report.equal) moves += pair.moves;
  return moves;
}

json to_json(const std::optional<std::int64_t>& steps) {
  return steps ? json(*steps) : json(nullptr);
}

json to_json(const Following& following) {
  return {{"fraction_of_ideal", following.fraction_of_ideal},
          {"steps_to_95_percent", to_json(following.steps_to_95_percent)},
          {"steps_to_93_percent", to_json(following.steps_to_93_percent)},
          {"shares_for_93_percent", to_json(following.shares_for_93_percent)},
          {"moves", following.moves},
          {"late_moves", following.late_moves}};
}

/// The median of all rounds, of which those that never got there are the worst; null: it is one of these.
json median_steps(const LiveReport& report, Following RoundOfSlowing::*change, Steps steps) {
  std::vector<std::optional<std::int64_t>> all;
  for (const RoundOfSlowing& round : report.disturbed.rounds) all.push_back(round.*change.*steps);
  if (all.empty()) return nullptr;
  std::ranges::sort(all, {}, [](const auto& value) { return value.value_or(INT64_MAX); });
  return to_json(all[(all.size() - 1) / 2]);
}

double moving_part(const LiveReport& report) {
  const DisturbedFigures& figures = report.disturbed;
  return figures.steps == 0 ? 0 : static_cast<double>(figures.moves) / static_cast<double>(figures.steps);
}

}  // namespace

PartReport summary_of(const LiveReport& report, const LiveOptions& options) {
  constexpr auto slowed = &RoundOfSlowing::slowed, ended = &RoundOfSlowing::recovered;
  const Figure of_ideal{"of the ranks' speeds together, slowed", "", fractions_of(report, slowed)};
  const Figure of_before{"of the speed before, when it has ended", "", fractions_of(report, ended)};
  const auto steps = [&](const char* what, Following RoundOfSlowing::*change, Steps which) {
    return Figure{what, "steps", steps_of(report, options, change, which)};
  };
  const Figure to_93 =
      steps("slowed: until ten steps together reach 93%", slowed, &Following::steps_to_93_percent);
  const Figure back_to_93 =
      steps("ended: until ten steps together reach 93%", ended, &Following::steps_to_93_percent);
  const Figure shares_for_93 =
      steps("slowed: until shares are right for 93%", slowed, &Following::shares_for_93_percent);
  const Figure shares_back =
      steps("ended: until shares are right for 93%", ended, &Following::shares_for_93_percent);
  const Figure lost{"lost by balancing equal ranks", "%", losses_percent(report)};
  Figure undisturbed{"undisturbed step", "ms", {}}, slow_step{"step with the slow rank", "ms", {}};
  for (const RoundOfSlowing& round : report.disturbed.rounds) {
    undisturbed.values.push_back(round.undisturbed_ms);
    slow_step.values.push_back(round.slowed_ms);
  }
  PartReport part{
      "rebalance",
      concat("rank ", options.slow.rank, " of ", options.ranks, " at one part in ", options.slow.factor,
             " of its speed; ", report.grains_per_rank, " grains for each rank; ", report.disturbed.moves,
             " moves in ", report.disturbed.steps, " steps"),
      {undisturbed, slow_step, of_ideal, of_before, to_93, back_to_93, shares_for_93, shares_back,
       steps("slowed: until ten steps together reach 95%", slowed, &Following::steps_to_95_percent),
       steps("ended: until ten steps together reach 95%", ended, &Following::steps_to_95_percent), lost},
      {}};
  part.targets = {
      {"median of the ranks' speeds together, slowed", "", median_of(of_ideal.values), least_fraction, true},
      {"median until 93%, slowed", "steps", median_of(to_93.values), most_steps},
      {"median until shares are right for it", "steps", median_of(shares_for_93.values), most_steps},
      {"median until 93%, ended", "steps", median_of(back_to_93.values), most_steps},
      {"median until shares are right for it", "steps", median_of(shares_back.values), most_steps},
      {"median lost by balancing equal ranks", "%", median_of(lost.values), most_loss_percent},
      {"moves in steady state", "", static_cast<double>(report.disturbed.late_moves + moves_of_equal(report)),
       0}};
  return part;
}

json to_json(const LiveReport& report, const LiveOptions& options) {
  constexpr auto slowed = &RoundOfSlowing::slowed, ended = &RoundOfSlowing::recovered;
  json rounds = json::array(), pairs = json::array();
  for (const RoundOfSlowing& round : report.disturbed.rounds)
    rounds.push_back({{"undisturbed_ms", round.undisturbed_ms},
                      {"slowed_ms", round.slowed_ms},
                      {"slowed", to_json(round.slowed)},
                      {"ended", to_json(round.recovered)}});
  for (const EqualPair& pair : report.equal)
    pairs.push_back({{"balanced_ms", pair.balanced_ms}, {"fixed_ms", pair.fixed_ms}, {"moves", pair.moves}});
  return {{"slow", {{"rank", options.slow.rank}, {"factor", options.slow.factor}}},
          {"model", options.model},
          {"ranks", options.ranks},
          {"batch", options.batch},
          {"grains_per_rank", report.grains_per_rank},
          {"steps", options.steps},
          {"fraction_of_ideal", median_of(fractions_of(report, slowed))},
          {"fraction_of_steps_moving", moving_part(report)},
          {"steps_to_95_percent", median_steps(report, slowed, &Following::steps_to_95_percent)},
          {"steps_to_93_percent", median_steps(report, slowed, &Following::steps_to_93_percent)},
          {"shares_for_93_percent", median_steps(report, slowed, &Following::shares_for_93_percent)},
          {"shares_back_for_93_percent", median_steps(report, ended, &Following::shares_for_93_percent)},
          {"steps_back_to_95_percent", median_steps(report, ended, &Following::steps_to_95_percent)},
          {"steps_back_to_93_percent", median_steps(report, ended, &Following::steps_to_93_percent)},
          {"lost_by_equal_ranks_percent", median_of(losses_percent(report))},
          {"steady_moves", report.disturbed.late_moves + moves_of_equal(report)},
          {"rounds", std::move(rounds)},
          {"equal", std::move(pairs)}};
}

}  // namespace paceline::bench
