// Which size an objective wants, and what speaks against the others.
#include <algorithm>
#include <optional>

#include "paceline/base/text.hpp"
#include "resize_ground.hpp"

namespace paceline {
namespace {

/// Sizes whose expected improvements differ by less are as good, and the smaller one is taken.
constexpr double tie = 0.005;

/// So far away a size may be tried whatever it may take: one must begin somewhere.
constexpr double near = 2;

/// What is found of a size: that it may be chosen and why, or why not.
struct Finding {
  bool good = false;
  ResizeCause cause = ResizeCause::best;
  std::string why;
};

Finding rejected(ResizeCause cause, std::string why) {
  return {false, cause, std::move(why)};
}

std::string step_change(const ResizeGround& ground, const ScoredSize& size) {
  return concat("a step takes ", ms_text(size.forecast->step_ms), " instead of ",
                ms_text(ground.present->step_ms));
}

const char* unit_of(ResizeObjective objective) {
  switch (objective) {
    case ResizeObjective::cost: return "samples for the price";
    case ResizeObjective::energy: return "samples for the energy";
    default: return "samples per second";
  }
}

std::string gain_text(const ResizeGround& ground, const ScoredSize& size) {
  return concat(percent(size.shown.gain), " more ", unit_of(ground.rules.objective), ", at least ",
                percent(size.shown.gain_low));
}

/// What a choice is made among.
struct Field {
  const ResizeGround& ground;
  std::vector<ScoredSize>& sizes;
  std::int64_t places = 0;
  const ScoredSize& known;  ///< the best that was visited
};

/// Whether a resize would be left for leaving a size that was tried.
bool can_come_back(const ResizeGround& ground) {
  const ResizeState& state = ground.state;
  return state.explorations < ground.rules.most_explorations && state.made + 1 < ground.rules.most_resizes;
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

double factor_between(std::int64_t ranks, std::int64_t others) {
  return static_cast<double>(std::max(ranks, others)) / static_cast<double>(std::min(ranks, others));
}

Finding explore(const Field& field, const ScoredSize& size) {
  const auto& [ground, sizes, places, known] = field;
  const ResizeRules& rules = ground.rules;
  const ResizeCandidate& shown = size.shown;
  const std::string expected = concat("between ", percent(shown.gain_low), " and ", percent(shown.gain_high),
                                      " more ", unit_of(rules.objective), " are expected, ");
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

/// Large enough as expected, and surely one.
bool is_sure_gain(const ResizeGround& ground, const ScoredSize& size) {
  return size.shown.gain >= needed_gain(ground, size.shown.ranks) && size.shown.gain_low > 0;
}

/// A gain that is sure.
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

Finding judge_gain(const Field& field, const ScoredSize& size) {
  const ResizeGround& ground = field.ground;
  if (size.shown.expected_improvement <= tie && size.net_gain <= tie && size.shown.gain_low <= 0)
    return rejected(ResizeCause::best,
                    size.shown.gain > 0
                        ? concat("only ", percent(size.shown.gain), " more ", unit_of(ground.rules.objective))
                        : concat(percent(-size.shown.gain), " fewer ", unit_of(ground.rules.objective)));
  return pays(field, size);
}

/// Not slower than the objective allows; `slack` times that is let be.
bool is_fast_enough(const ResizeGround& ground, const std::vector<ScoredSize>& sizes, const ScoredSize& size,
                    std::int64_t places, double slack) {
  const ResizeObjective objective = ground.rules.objective;
  if (objective != ResizeObjective::cost && objective != ResizeObjective::energy) return true;
  double fastest_ms = ground.present->step_ms;
  for (const ScoredSize& other : sizes)
    if (other.shown.ranks <= places) fastest_ms = std::min(fastest_ms, other.forecast->step_ms);
  return size.forecast->step_ms <= ground.rules.most_slowdown * fastest_ms * slack;
}

std::optional<Finding> beyond(const ScoredSize& size, std::int64_t places) {
  if (size.shown.ranks <= places) return std::nullopt;
  return rejected(ResizeCause::shortage, concat("there are places for ", places, " only"));
}

bool is_present(const ResizeGround& ground, const ScoredSize& size) {
  return size.shown.ranks == ground.facts.ranks;
}

void note(ScoredSize& size, const Finding& finding) {
  size.shown.eligible = finding.good;
  size.shown.against = finding.why;
}

ResizeChoice stay(const ResizeGround& ground, ResizeCause cause, std::string reason) {
  return {ground.facts.ranks, cause, std::move(reason)};
}

ResizeChoice go_to(const ResizeGround& ground, ScoredSize& size, const Finding& finding) {
  size.shown.against.clear();
  return {size.shown.ranks, finding.cause,
          concat(ranks_text(size.shown.ranks), " instead of ", ground.facts.ranks, ": ",
                 step_change(ground, size), "; ", finding.why)};
}

/// The present size is too slow for the objective: the best of those that are not.
ResizeChoice leave_slow_size(const ResizeGround& ground, std::vector<ScoredSize>& sizes,
                             std::int64_t places) {
  ScoredSize* best = nullptr;
  for (ScoredSize& size : sizes) {
    const bool fits = size.shown.ranks <= places && is_fast_enough(ground, sizes, size, places, 1);
    note(size, fits ? Finding{true, ResizeCause::meets_bound, "another gives more for the price"}
                    : rejected(ResizeCause::best, "a step takes too long"));
    if (fits && !is_present(ground, size) && (best == nullptr || size.shown.score > best->shown.score))
      best = &size;
  }
  if (best == nullptr) return stay(ground, ResizeCause::shortage, "no size is fast enough");
  return go_to(
      ground, *best,
      {true, ResizeCause::meets_bound,
       concat("the present size takes more than ", ground.rules.most_slowdown, " times the fastest one's")});
}

/// What going there brings, with coming back where that can be.
double worth(const Field& field, const ScoredSize& size) {
  if (size.forecast->visited || !can_come_back(field.ground)) return size.net_gain;
  return field.known.net_gain + size.shown.expected_improvement;
}

/// throughput, cost and energy: the size from which most is expected, of those that may be chosen.
ResizeChoice choose_best(const ResizeGround& ground, std::vector<ScoredSize>& sizes, std::int64_t places) {
  const Field field{ground, sizes, places, best_known(sizes)};
  ScoredSize* best = nullptr;
  Finding for_best;
  const ScoredSize* missed = nullptr;
  Finding against_missed;
  for (ScoredSize& size : sizes) {
    if (is_present(ground, size)) {
      if (!is_fast_enough(ground, sizes, size, places, 1 + ground.rules.bound_slack))
        return leave_slow_size(ground, sizes, places);
      size.shown.eligible = true;
      continue;
    }
    Finding finding = judge_gain(field, size);
    if (finding.good && !is_fast_enough(ground, sizes, size, places, 1))
      finding = rejected(ResizeCause::best, concat("a step takes ", ms_text(size.forecast->step_ms),
                                                   ", longer than the objective allows"));
    if (finding.good) finding = beyond(size, places).value_or(finding);
    note(size, finding);
    const auto is_more_than = [&](const ScoredSize* other) {
      return other == nullptr || worth(field, size) > worth(field, *other) + tie;
    };
    if (finding.good && is_more_than(best)) {
      best = &size;
      for_best = finding;
    } else if (!finding.good && finding.cause != ResizeCause::best && is_more_than(missed)) {
      missed = &size;
      against_missed = finding;
    }
  }
  for (ScoredSize& size : sizes)
    if (best != nullptr && &size != best && size.shown.eligible)
      size.shown.against = is_present(ground, size) ? "the other is better"
                                                    : concat(size.shown.against, "; the other brings more");
  if (best != nullptr) return go_to(ground, *best, for_best);
  if (missed != nullptr)
    return stay(ground, against_missed.cause,
                concat(ranks_text(missed->shown.ranks), " instead of ", ground.facts.ranks, ": ",
                       against_missed.why));
  return stay(ground, ResizeCause::best,
              concat("no other size brings ", percent(ground.rules.least_gain), " more ",
                     unit_of(ground.rules.objective)));
}

/// E(N) at a step of `ms`.
double efficiency_at(const ResizeGround& ground, const ScoredSize& size, double ms) {
  return 1e3 / ms / (static_cast<double>(size.shown.ranks) * ground.one_rank_per_s);
}

/// The most ranks at the floor, where the present size is below it; the fewest where none is at it.
ResizeChoice shrink_to_floor(const ResizeGround& ground, std::vector<ScoredSize>& sizes) {
  ScoredSize* largest = nullptr;
  for (ScoredSize& size : sizes) {
    const bool fewer = size.shown.ranks < ground.facts.ranks;
    const bool at_floor = size.shown.score >= ground.rules.least_efficiency;
    note(size, at_floor ? Finding{true, ResizeCause::meets_bound, "another has more ranks at the floor"}
                        : rejected(ResizeCause::best, concat("its efficiency is ", percent(size.shown.score),
                                                             ", below the floor")));
    if (fewer && (at_floor || largest == nullptr)) largest = &size;
  }
  const std::string below =
      concat("with ", ranks_text(ground.facts.ranks), " the efficiency is below the floor of ",
             percent(ground.rules.least_efficiency));
  if (largest == nullptr)
    return stay(ground, ResizeCause::best, concat(below, ", and the job cannot have fewer"));
  return go_to(ground, *largest, {true, ResizeCause::meets_bound, below});
}

Finding judge_efficiency(const Field& field, const ScoredSize& size) {
  const ResizeGround& ground = field.ground;
  const double floor = ground.rules.least_efficiency;
  const double sure = efficiency_at(ground, size, size.forecast->high_ms);
  if (size.shown.ranks < ground.facts.ranks) return rejected(ResizeCause::best, "it has fewer ranks");
  if (size.shown.score < floor)
    return rejected(ResizeCause::best,
                    concat("its efficiency would be ", percent(size.shown.score), ", below the floor"));
  if (sure < floor) {
    if (size.forecast->visited)
      return rejected(ResizeCause::uncertain,
                      concat("its efficiency may be as low as ", percent(sure), ", below the floor"));
    return explore(field, size);
  }
  Finding finding = pays(field, size);
  if (finding.good) finding.why = concat("an efficiency of at least ", percent(sure));
  return finding;
}

ResizeChoice choose_efficient(const ResizeGround& ground, std::vector<ScoredSize>& sizes,
                              std::int64_t places) {
  const auto present = std::ranges::find_if(sizes, [&](auto& size) { return is_present(ground, size); });
  const double at_most = efficiency_at(ground, *present, present->forecast->low_ms);
  if (at_most < ground.rules.least_efficiency * (1 - ground.rules.bound_slack))
    return shrink_to_floor(ground, sizes);
  ScoredSize* best = nullptr;
  Finding for_best;
  ResizeChoice hold = stay(ground, ResizeCause::best, "no more ranks would keep the efficiency");
  for (ScoredSize& size : sizes) {
    if (is_present(ground, size)) {
      size.shown.eligible = true;
      continue;
    }
    Finding finding = judge_efficiency({ground, sizes, places, best_known(sizes)}, size);
    if (finding.good) finding = beyond(size, places).value_or(finding);
    note(size, finding);
    if (finding.good) {
      if (best != nullptr) best->shown.against = "another has more ranks at the floor";
      best = &size;
      for_best = finding;
    } else if (finding.cause != ResizeCause::best) {
      hold =
          stay(ground, finding.cause,
               concat(ranks_text(size.shown.ranks), " instead of ", ground.facts.ranks, ": ", finding.why));
    }
  }
  return best == nullptr ? hold : go_to(ground, *best, for_best);
}

/// Nobody is in time: the fastest, where that is sure to be faster.
ResizeChoice be_least_late(const ResizeGround& ground, std::vector<ScoredSize>& sizes, std::int64_t places,
                           double left_s) {
  ScoredSize* fastest = nullptr;
  for (ScoredSize& size : sizes) {
    const bool there = size.shown.ranks <= places || is_present(ground, size);
    if (there && (fastest == nullptr || size.mean_finish_s < fastest->mean_finish_s - tie * left_s))
      fastest = &size;
  }
  const std::string late =
      concat("the deadline cannot be met: the job needs ", seconds_text(fastest->mean_finish_s),
             " more at best, with ", ranks_text(fastest->shown.ranks), ", and has ", seconds_text(left_s));
  if (is_present(ground, *fastest) || fastest->shown.gain_low < needed_gain(ground, fastest->shown.ranks))
    return stay(ground, ResizeCause::deadline_unreachable, late);
  ResizeChoice choice = go_to(ground, *fastest, {true, ResizeCause::deadline_unreachable, late});
  return choice;
}

/// Fewest ranks that finish with `margin` of the time to spare, even at the upper bound of their step.
ScoredSize* fewest_in_time(const ResizeGround& ground, std::vector<ScoredSize>& sizes, std::int64_t places,
                           double allowed_s) {
  for (ScoredSize& size : sizes)
    if ((size.shown.ranks <= places || is_present(ground, size)) && size.finish_s <= allowed_s) return &size;
  return nullptr;
}

ResizeChoice choose_in_time(const ResizeGround& ground, std::vector<ScoredSize>& sizes, std::int64_t places) {
  const ResizeRules& rules = ground.rules;
  const double left_s = rules.deadline_s - ground.elapsed_s;
  if (left_s <= 0)
    return stay(ground, ResizeCause::deadline_past,
                concat("the deadline of ", seconds_text(rules.deadline_s), " passed ", seconds_text(-left_s),
                       " ago"));
  const double allowed_s = left_s * (1 - rules.deadline_margin);
  ScoredSize* present = nullptr;
  for (ScoredSize& size : sizes) {
    if (is_present(ground, size)) present = &size;
    const bool in_time = size.finish_s <= allowed_s;
    Finding finding =
        in_time ? Finding{true, ResizeCause::meets_deadline, "another needs fewer ranks"}
                : rejected(ResizeCause::best, concat("the job may need ", seconds_text(size.finish_s), " of ",
                                                     seconds_text(left_s)));
    if (in_time && !is_present(ground, size)) finding = beyond(size, places).value_or(finding);
    note(size, finding);
  }
  if (present->finish_s > allowed_s) {
    ScoredSize* enough = fewest_in_time(ground, sizes, places, allowed_s);
    if (enough == nullptr) enough = fewest_in_time(ground, sizes, places, left_s);
    if (enough == nullptr || is_present(ground, *enough)) return be_least_late(ground, sizes, places, left_s);
    return go_to(ground, *enough,
                 {true, ResizeCause::meets_deadline,
                  concat("the job ends in ", seconds_text(enough->finish_s), " at the latest, and has ",
                         seconds_text(left_s))});
  }
  ScoredSize* fewer = fewest_in_time(ground, sizes, places, left_s * (1 - rules.deadline_shrink_margin));
  const auto saves = [&](const ScoredSize& size) {
    const auto freed = static_cast<double>(present->shown.ranks - size.shown.ranks);
    return freed * size.mean_finish_s > static_cast<double>(present->shown.ranks) * ground.facts.pause_s;
  };
  if (fewer == nullptr || fewer->shown.ranks >= present->shown.ranks)
    return stay(ground, ResizeCause::best,
                concat("the job ends in ", seconds_text(present->finish_s), " at the latest, and has ",
                       seconds_text(left_s), "; fewer ranks would not do"));
  if (!saves(*fewer))
    return stay(ground, ResizeCause::does_not_pay,
                concat(ranks_text(fewer->shown.ranks), " would do, but the job is nearly over"));
  return go_to(ground, *fewer,
               {true, ResizeCause::meets_deadline,
                concat("the job ends in ", seconds_text(fewer->finish_s), " at the latest, and has ",
                       seconds_text(left_s))});
}

}  // namespace

ResizeChoice choose_size(const ResizeGround& ground, std::vector<ScoredSize>& sizes, std::int64_t places) {
  switch (ground.rules.objective) {
    case ResizeObjective::efficiency: return choose_efficient(ground, sizes, places);
    case ResizeObjective::deadline: return choose_in_time(ground, sizes, places);
    default: return choose_best(ground, sizes, places);
  }
}

}  // namespace paceline
