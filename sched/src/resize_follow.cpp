// What became of the last resize, and what others did to the job's ranks.
#include "resize_follow.hpp"

#include <algorithm>
#include <cmath>

#include "paceline/base/text.hpp"
#include "resize_ground.hpp"

namespace paceline {
namespace {

/// A step's promised change below this part of it is lost in what sizes differ from forecasts anyway.
constexpr double least_promise = 0.1;

void close_breaker(const ResizeRules& rules, ResizeState& state, double now_s, bool failed) {
  constexpr std::int64_t most_doublings = 30;
  const auto doublings = std::min(state.failures, most_doublings);
  const double rest_s =
      std::min(rules.most_breaker_s, rules.breaker_s * static_cast<double>(std::int64_t{1} << doublings));
  ++state.failures;
  state.closed_until_s = now_s + rest_s;
  state.closed_by_failure = failed;
}

std::string rest_text(const ResizeState& state, double now_s) {
  return concat("none is tried for ", seconds_text(state.closed_until_s - now_s), " (failure ",
                state.failures, " in a row)");
}

/// Whether the trial's size has been there for long enough to be judged, and it brought less than promised.
bool disappoints(const ResizeRules& rules, const ResizeState::Trial& trial, double step_ms) {
  const double promise_ms =
      std::max(std::abs(trial.from_ms - trial.predicted_ms), least_promise * trial.from_ms);
  return step_ms > trial.predicted_ms + (1 - rules.disappointment) * promise_ms;
}

std::string follow_trial(const ResizeRules& rules, ResizeState& state, double now_s,
                         const ResizeFacts& facts) {
  ResizeState::Trial& trial = *state.trial;
  const std::string resize = concat("the resize from ", trial.from, " to ", ranks_text(trial.to));
  if (!trial.arrived && facts.ranks == trial.to && !facts.changing) trial.arrived = true;
  if (!trial.arrived) {
    const double allowed_s = facts.rank_lead_s + facts.pause_s + rules.resize_timeout_s;
    if (now_s - trial.asked_s <= allowed_s) return "";
    const double took_s = now_s - trial.asked_s;
    state.trial.reset();
    close_breaker(rules, state, now_s, true);
    return concat(resize, " has not come about in ", seconds_text(took_s), ": ", rest_text(state, now_s));
  }
  if (facts.ranks != trial.to || facts.changing) {  // lost a rank before it could be judged
    state.trial.reset();
    return "";
  }
  if (!is_measured(rules, state, facts)) return "";
  const ResizeState::Trial judged = trial;
  state.trial.reset();
  const double step_ms = present_forecast(facts)->step_ms;
  if (!disappoints(rules, judged, step_ms)) {
    state.failures = 0;
    return "";
  }
  if (judged.exploring) return "";
  close_breaker(rules, state, now_s, false);
  return concat(resize, " brought steps of ", ms_text(step_ms), " and not of ", ms_text(judged.predicted_ms),
                " as predicted: ", rest_text(state, now_s));
}

std::int64_t reachable(const ResizeFacts& facts) {
  return facts.can_ask ? facts.max_ranks : std::min(facts.max_ranks, facts.places);
}

}  // namespace

void shift_times(ResizeState& state, double by_s) {
  if (state.now_s) *state.now_s += by_s;
  state.changed_s += by_s;
  state.closed_until_s += by_s;
  state.by_hand_until_s += by_s;
  if (state.trial) state.trial->asked_s += by_s;
  for (ResizeState::Departure& departure : state.resizes) departure.at_s += by_s;
}

std::string keep_time(const ResizeRules& rules, ResizeState& state, double now_s, const ResizeFacts& facts) {
  const std::optional<double> last_s = state.now_s;
  if (!last_s) {
    state.now_s = now_s;
    state.elapsed_s = facts.elapsed_s;
    return "";
  }
  const double gap_s = now_s - *last_s;
  if (gap_s < 0 || gap_s > rules.longest_gap_s) {
    shift_times(state, gap_s);
    state.elapsed_s = facts.elapsed_s + state.elapsed_correction_s;
    return gap_s < 0 ? concat("the clock went back by ", seconds_text(-gap_s))
                     : concat("the clock went on by ", seconds_text(gap_s), " since the last look");
  }
  state.now_s = now_s;
  const double elapsed_s = facts.elapsed_s + state.elapsed_correction_s;
  const double jump_s = elapsed_s - (state.elapsed_s + gap_s);
  state.elapsed_s += gap_s;
  if (std::abs(jump_s) > rules.longest_gap_s) {
    state.elapsed_correction_s -= jump_s;
    return concat("the job's clock was set by ", seconds_text(jump_s),
                  ": its time is counted on from where it was");
  }
  state.elapsed_s = elapsed_s;
  return "";
}

void pass_time(const ResizeRules& rules, ResizeState& state, double now_s) {
  if (!state.now_s || !std::isfinite(now_s)) return;
  const double gap_s = now_s - *state.now_s;
  if (!(gap_s >= 0 && gap_s <= rules.longest_gap_s)) return;  // seen as a jump once facts are sound again
  state.now_s = now_s;
  state.elapsed_s += gap_s;
}

std::string follow(const ResizeRules& rules, ResizeState& state, double now_s, const ResizeFacts& facts) {
  const bool first = state.wish == 0;
  const bool asked = state.trial && facts.wish == state.trial->to;
  if (!first && facts.wish != state.wish && !asked) {
    state.by_hand_until_s = now_s + rules.by_hand_s;
    state.trial.reset();
  }
  if (first || facts.changing || facts.ranks != state.ranks) {
    state.changed_s = now_s;
    state.changed_step = facts.step;
  }
  if (reachable(facts) > state.most_places) {
    if (!first) state.explorations = state.made = 0;
    state.most_places = reachable(facts);
  }
  state.ranks = facts.ranks;
  state.wish = facts.wish;
  std::erase_if(state.resizes, [&](const ResizeState::Departure& departure) {
    return now_s - departure.at_s > rules.rate_window_s;
  });
  return state.trial ? follow_trial(rules, state, now_s, facts) : "";
}

bool is_measured(const ResizeRules& rules, const ResizeState& state, const ResizeFacts& facts) {
  const SizeForecast* present = present_forecast(facts);
  return present != nullptr && present->visited && facts.step - state.changed_step >= rules.measure_steps;
}

const SizeForecast* present_forecast(const ResizeFacts& facts) {
  const auto found = std::ranges::find(facts.forecasts, facts.ranks, &SizeForecast::ranks);
  return found == facts.forecasts.end() ? nullptr : &*found;
}

void begin_trial(ResizeState& state, double now_s, const ResizeFacts& facts, const SizeForecast& target,
                 bool exploring) {
  if (is_reversal(state, target.ranks)) ++state.reversals;
  if (exploring) ++state.explorations;
  ++state.made;
  const SizeForecast& present = *present_forecast(facts);
  state.trial = {facts.ranks, target.ranks, present.step_ms, target.step_ms, now_s, exploring, false};
  state.resizes.push_back({facts.ranks, target.ranks, now_s, exploring});
}

}  // namespace paceline
