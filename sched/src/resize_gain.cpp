// Whether a size is better than the present one, and surely so.
#include <algorithm>
#include <cmath>
#include <optional>

#include "paceline/base/text.hpp"
#include "resize_choice.hpp"

namespace paceline {
namespace {

/// So far away a size may be tried whatever it may take: one must begin somewhere.
constexpr double near = 2;

std::string more_or_fewer(double gain) {
  return concat(percent(std::abs(gain)), gain < 0 ? " fewer" : " more");
}

std::string gain_text(const ResizeGround& ground, const ScoredSize& size) {
  return concat(more_or_fewer(size.shown.gain), " ", unit_of(ground.rules.objective), ", at least ",
                more_or_fewer(size.shown.gain_low));
}

/// For good, if need be: where there is little to lose, or more to win.
bool may_stay(const Field& field, const ScoredSize& size) {
  const ResizeRules& rules = field.ground.rules;
  const double may_lose = field.known.shown.gain - size.shown.gain_low;
  const double may_win = size.shown.gain - field.known.shown.gain;
  return field.ground.state.made < rules.most_resizes &&
         may_lose <= std::max(rules.risk, rules.risk_per_gain * may_win);
}

/// What trying a size costs at worst: there and back, and slow steps until it is known.
double exploration_s(const Field& field, const ScoredSize& size) {
  const ResizeRules& rules = field.ground.rules;
  const double high_ms = size.forecast->high_ms;
  const double stay_s = std::max(rules.dwell_s, static_cast<double>(rules.measure_steps) * high_ms / 1e3);
  return 2 * field.ground.facts.pause_s + stay_s * std::max(0.0, 1 - field.known.forecast->step_ms / high_ms);
}

/// Large enough as expected, and surely one.
bool is_sure_gain(const ResizeGround& ground, const ScoredSize& size) {
  return size.shown.gain >= needed_gain(ground, size.shown.ranks) && size.shown.gain_low > 0;
}

}  // namespace

Finding rejected(ResizeCause cause, std::string why) {
  return {false, cause, std::move(why)};
}

void note(ScoredSize& size, const Finding& finding) {
  size.shown.eligible = finding.good;
  size.shown.against = finding.why;
}

std::optional<Finding> forbidden(const ResizeGround& ground, const ScoredSize& size, std::int64_t places) {
  if (size.shown.ranks > places)
    return rejected(ResizeCause::shortage, concat("there are places for ", places, " only"));
  const ResizeState& state = ground.state;
  if (ground.now_s < state.closed_until_s && !state.closed_by_failure && !size.forecast->visited)
    return rejected(ResizeCause::breaker,
                    concat("the last ", state.failures == 1 ? "resize" : concat(state.failures, " resizes"),
                           " brought less than predicted, and no prediction is believed for another ",
                           seconds_text(state.closed_until_s - ground.now_s)));
  return std::nullopt;
}

double factor_between(std::int64_t ranks, std::int64_t others) {
  return static_cast<double>(std::max(ranks, others)) / static_cast<double>(std::min(ranks, others));
}

bool is_present(const ResizeGround& ground, const ScoredSize& size) {
  return size.shown.ranks == ground.facts.ranks;
}

const char* unit_of(ResizeObjective objective) {
  switch (objective) {
    case ResizeObjective::cost: return "samples for the price";
    case ResizeObjective::energy: return "samples for the energy";
    default: return "samples per second";
  }
}

bool can_come_back(const ResizeGround& ground) {
  const ResizeState& state = ground.state;
  return state.explorations < ground.rules.most_explorations && state.made + 1 < ground.rules.most_resizes;
}

bool is_a_try(const ResizeGround& ground, const ScoredSize& size) {
  return !size.forecast->visited && size.forecast->high_ms >= ground.present->low_ms;
}

Finding explore(const Field& field, const ScoredSize& size) {
  const auto& [ground, sizes, places, known] = field;
  const ResizeRules& rules = ground.rules;
  const ResizeCandidate& shown = size.shown;
  const std::string expected =
      concat("between ", more_or_fewer(shown.gain_low), " and ", more_or_fewer(shown.gain_high), " ",
             unit_of(rules.objective), " are expected, ");
  const auto not_sure = [&](const std::string& but) {
    return rejected(ResizeCause::uncertain, expected + but);
  };
  if (size.forecast->visited)
    return not_sure(concat("not surely ", percent(needed_gain(ground, shown.ranks))));
  if (shown.expected_improvement < rules.explore_gain) return not_sure("too little to try it");
  if (!can_come_back(ground) && !may_stay(field, size))
    return not_sure("and no more sizes may be tried for now");
  const double factor = factor_between(shown.ranks, ground.facts.ranks);
  if (factor > rules.explore_factor)
    return not_sure(concat("which is more than ", rules.explore_factor, " times away"));
  if (factor > near && size.forecast->high_ms > rules.explore_slowdown * ground.present->step_ms)
    return not_sure(concat("and a step could take ", ms_text(size.forecast->high_ms)));
  const double counted_s = std::clamp(ground.time_left_s - ground.lead_s(shown.ranks), 0.0, rules.horizon_s);
  const double saves_s = counted_s * shown.expected_improvement / (1 + shown.expected_improvement);
  const double costs_s = exploration_s(field, size);
  if (saves_s <= costs_s)
    return rejected(ResizeCause::does_not_pay,
                    concat("trying it can be expected to save ", seconds_text(saves_s), " and may cost ",
                           seconds_text(costs_s)));
  return {true, ResizeCause::explores, expected + "which is worth trying"};
}

Finding pays(const Field& field, const ScoredSize& size) {
  const ResizeGround& ground = field.ground;
  const ResizeRules& rules = ground.rules;
  const ResizeCandidate& shown = size.shown;
  const bool more = shown.ranks > ground.facts.ranks;
  const bool by_speed = rules.objective == ResizeObjective::throughput;
  if (by_speed && more && shown.marginal_efficiency < rules.least_marginal_efficiency &&
      is_sure_gain(ground, size) && size.forecast->visited)
    return rejected(ResizeCause::best,
                    concat(gain_text(ground, size), ": each added rank may bring as little as ",
                           percent(shown.marginal_efficiency), " of a rank alone"));
  const bool gives_back = by_speed && !more && shown.marginal_efficiency < rules.shrink_marginal_efficiency;
  const bool pays_rank = !by_speed || !more || shown.marginal_efficiency >= rules.least_marginal_efficiency;
  if (!(is_sure_gain(ground, size) && pays_rank) && !(gives_back && !is_reversal(ground.state, shown.ranks)))
    return explore(field, size);
  // What given back ranks would have used counts like time.
  const double counted_s = std::clamp(ground.time_left_s, 0.0, rules.horizon_s);
  const double freed_s = gives_back ? counted_s * static_cast<double>(ground.facts.ranks - shown.ranks) /
                                          static_cast<double>(ground.facts.ranks)
                                    : 0;
  const double saves_s = std::max(shown.saves_s, freed_s);
  if (saves_s <= ground.facts.pause_s)
    return rejected(ResizeCause::does_not_pay,
                    concat(gain_text(ground, size), ", which saves ", seconds_text(saves_s),
                           " and costs a pause of ", seconds_text(ground.facts.pause_s)));
  return {true, ResizeCause::pays, gain_text(ground, size)};
}

ResizeChoice stay(const ResizeGround& ground, ResizeCause cause, std::string reason) {
  return {ground.facts.ranks, cause, std::move(reason)};
}

ResizeChoice go_to(const ResizeGround& ground, ScoredSize& size, const Finding& finding) {
  size.shown.against.clear();
  const bool tries = finding.cause == ResizeCause::explores ||
                     (size.shown.ranks > ground.facts.ranks && is_a_try(ground, size));
  return {size.shown.ranks, finding.cause,
          concat(ranks_text(size.shown.ranks), " instead of ", ground.facts.ranks, ": a step takes ",
                 ms_text(size.forecast->step_ms), " instead of ", ms_text(ground.present->step_ms), "; ",
                 finding.why),
          tries};
}

}  // namespace paceline
