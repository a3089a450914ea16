#include "paceline/sched/resize_policy.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "paceline/base/text.hpp"
#include "resize_follow.hpp"
#include "resize_ground.hpp"

namespace paceline {
namespace {

void hold(ResizeDecision& decision, ResizeCause cause, std::string reason) {
  decision.verdict = ResizeVerdict::hold;
  decision.cause = cause;
  decision.reason = std::move(reason);
}

/// What forbids to look at sizes at all. In the order in which it matters to people.
bool must_hold(const ResizeRules& rules, ResizeDecision& decision) {
  const ResizeFacts& facts = decision.facts;
  const double now_s = decision.now_s;
  if (rules.objective == ResizeObjective::none) {
    hold(decision, ResizeCause::no_objective, "the job file has no objective for the number of ranks");
    return true;
  }
  std::string fault = fault_of(rules);
  if (fault.empty()) fault = fault_of(rules, facts);
  if (!fault.empty()) {
    pass_time(rules, decision.after, now_s);
    hold(decision, ResizeCause::bad_input, std::move(fault));
    return true;
  }
  std::string jump =
      std::isfinite(now_s) ? keep_time(rules, decision.after, now_s, facts) : "the clock shows no time";
  if (!jump.empty()) {
    hold(decision, ResizeCause::clock_jumped, std::move(jump));
    return true;
  }
  std::string failure = follow(rules, decision.after, now_s, facts);
  const ResizeState& state = decision.after;
  if (!failure.empty()) {
    hold(decision, ResizeCause::breaker, std::move(failure));
  } else if (facts.changing) {
    hold(decision, ResizeCause::changing, "the ranks are being changed");
  } else if (state.trial && !state.trial->arrived) {
    hold(decision, ResizeCause::changing,
         concat(ranks_text(state.trial->to), " were asked for ", seconds_text(now_s - state.trial->asked_s),
                " ago"));
  } else if (now_s < state.by_hand_until_s) {
    hold(decision, ResizeCause::by_hand,
         concat("a person asked for ", ranks_text(facts.wish), ", which is left alone for ",
                seconds_text(rules.by_hand_s)));
  } else if (facts.silent_rank) {
    hold(decision, ResizeCause::silent_rank, concat("rank ", *facts.silent_rank, " reports nothing"));
  } else if (!is_measured(rules, state, facts)) {
    hold(decision, ResizeCause::measuring,
         concat("what a step with ", ranks_text(facts.ranks), " takes is still being measured"));
  } else {
    return false;
  }
  return true;
}

ResizeGround ground_of(const ResizeRules& rules, const ResizeDecision& decision) {
  const ResizeFacts& facts = decision.facts;
  ResizeGround ground{.rules = rules,
                      .state = decision.after,
                      .facts = facts,
                      .now_s = decision.now_s,
                      .elapsed_s = decision.after.elapsed_s,
                      .present = present_forecast(facts)};
  // Where nothing is known of one rank, the fewest stand for it.
  const SizeForecast& base = facts.forecasts.front();
  ground.one_rank_per_s = 1e3 / base.step_ms / static_cast<double>(base.ranks);
  ground.time_left_s = static_cast<double>(facts.steps_left) * ground.present->step_ms / 1e3;
  return ground;
}

/// What forbids a change that the objective wants. Empty: nothing.
struct Gate {
  ResizeCause cause = ResizeCause::best;
  std::string why;
};

Gate gate_of(const ResizeRules& rules, const ResizeDecision& decision) {
  const ResizeState& state = decision.after;
  const double now_s = decision.now_s;
  if (now_s < state.closed_until_s && state.closed_by_failure)
    return {ResizeCause::breaker,
            concat("resizes have failed ", state.failures, state.failures == 1 ? " time" : " times in a row",
                   ", and none is tried for another ", seconds_text(state.closed_until_s - now_s))};
  if (std::ssize(state.resizes) >= rules.most_resizes)
    return {ResizeCause::rate_limit,
            concat("there were ", state.resizes.size(), " resizes in ", seconds_text(rules.rate_window_s))};
  if (now_s - state.changed_s < rules.dwell_s)
    return {ResizeCause::dwell, concat("the ranks changed ", seconds_text(now_s - state.changed_s),
                                       " ago, and stay for ", seconds_text(rules.dwell_s))};
  return {};
}

/// The one of those that were not chosen from which most is expected; of those that may be, if there are any.
std::optional<std::int64_t> runner_up(const ResizeGround& ground, const std::vector<ScoredSize>& sizes,
                                      std::int64_t chosen) {
  const bool fewest_first = ground.rules.objective == ResizeObjective::deadline;
  const auto rank_of = [&](const ScoredSize& size) {
    const double worth = fewest_first                                            ? -size.finish_s
                         : ground.rules.objective == ResizeObjective::efficiency ? size.shown.gain
                                                                                 : size.shown.score;
    return std::pair(size.shown.eligible, worth);
  };
  const ScoredSize* best = nullptr;
  for (const ScoredSize& size : sizes)
    if (size.shown.ranks != chosen && (best == nullptr || rank_of(size) > rank_of(*best))) best = &size;
  return best == nullptr ? std::nullopt : std::optional(best->shown.ranks);
}

void note_shortage(ResizeDecision& decision) {
  const std::int64_t of_ranks = decision.demand - decision.allocation;
  const std::int64_t of_places = decision.allocation - decision.capacity;
  decision.shortage = std::max<std::int64_t>({of_ranks, of_places, 0});
}

std::int64_t usable_places(const ResizeFacts& facts) {
  return facts.can_ask ? std::max(facts.max_ranks, facts.places) : facts.places;
}

/// Turns what the objective wants into a change, or says what forbids it.
void carry_out(const ResizeRules& rules, const ResizeChoice& choice, ResizeDecision& decision) {
  const ResizeFacts& facts = decision.facts;
  if (choice.ranks == facts.ranks) return hold(decision, choice.cause, choice.reason);
  if (choice.ranks == facts.wish)
    return hold(decision, ResizeCause::shortage,
                concat(ranks_text(facts.wish), " were asked for, and ", facts.ranks, " are there"));
  const auto target = std::ranges::find(facts.forecasts, choice.ranks, &SizeForecast::ranks);
  Gate gate = gate_of(rules, decision);
  if (!gate.why.empty()) return hold(decision, gate.cause, concat(choice.reason, "; but ", gate.why));
  decision.verdict = choice.ranks > facts.ranks ? ResizeVerdict::grow : ResizeVerdict::shrink;
  decision.cause = choice.cause;
  decision.reason = choice.reason;
  decision.target = choice.ranks;
  begin_trial(decision.after, decision.now_s, facts, *target, choice.tries);
}

void judge(const ResizeRules& rules, ResizeDecision& decision) {
  const ResizeGround ground = ground_of(rules, decision);
  std::vector<ScoredSize> sizes = score_sizes(ground);
  std::vector<ScoredSize> unlimited = sizes;
  const ResizeFacts& facts = decision.facts;
  const ResizeChoice wanted = choose_size(ground, unlimited, std::max(facts.max_ranks, facts.ranks));
  ResizeChoice choice = choose_size(ground, sizes, usable_places(facts));
  decision.demand = wanted.ranks;
  if (choice.ranks == facts.ranks && wanted.ranks > facts.ranks)
    choice = {facts.ranks, ResizeCause::shortage,
              concat(wanted.reason, "; but there are places for ", facts.places, " only")};
  decision.runner_up = runner_up(ground, sizes, choice.ranks);
  for (ScoredSize& size : sizes) decision.candidates.push_back(std::move(size.shown));
  carry_out(rules, choice, decision);
}

}  // namespace

ResizeDecision decide_resize(const ResizeRules& rules, const ResizeState& state, double now_s,
                             const ResizeFacts& facts) {
  ResizeDecision decision;
  decision.rules = rules;
  decision.now_s = now_s;
  decision.facts = facts;
  decision.before = state;
  decision.after = state;
  decision.target = facts.wish;
  decision.demand = decision.allocation = facts.ranks;
  decision.capacity = facts.places;
  if (!must_hold(rules, decision)) judge(rules, decision);
  note_shortage(decision);
  return decision;
}

bool is_news(const ResizeDecision& before, const ResizeDecision& next) {
  return next.verdict != ResizeVerdict::hold || next.verdict != before.verdict ||
         next.cause != before.cause || next.shortage != before.shortage;
}

std::vector<std::int64_t> candidate_sizes(std::int64_t min_ranks, std::int64_t max_ranks,
                                          std::int64_t ranks) {
  constexpr std::int64_t finest = 16;
  std::vector<std::int64_t> sizes = {1, ranks, max_ranks};
  for (std::int64_t size = min_ranks; size <= max_ranks; size += std::max<std::int64_t>(1, size / finest))
    sizes.push_back(size);
  std::erase_if(sizes, [](std::int64_t size) { return size < 1; });
  std::ranges::sort(sizes);
  sizes.erase(std::ranges::unique(sizes).begin(), sizes.end());
  return sizes;
}

ResizePolicy::ResizePolicy(ResizeRules rules, const ResizeState& state, double then_s, Instant now)
    : rules_(std::move(rules)), state_(state) {
  shift_times(state_, to_seconds(now.time_since_epoch()) - then_s);
}

ResizeDecision ResizePolicy::decide(Instant now, const ResizeFacts& facts) {
  ResizeDecision decision = decide_resize(rules_, state_, to_seconds(now.time_since_epoch()), facts);
  state_ = decision.after;
  return decision;
}

}  // namespace paceline
