// Which size gives most: of samples per second, for the price or for the energy.
#include <algorithm>
#include <optional>

#include "paceline/base/text.hpp"
#include "resize_choice.hpp"

namespace paceline {
namespace {

Finding judge_gain(const Field& field, const ScoredSize& size) {
  const ResizeGround& ground = field.ground;
  if (size.shown.expected_improvement <= resize_tie && size.net_gain <= resize_tie &&
      size.shown.gain_low <= 0)
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

}  // namespace

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
    if (finding.good) finding = forbidden(ground, size, places).value_or(finding);
    note(size, finding);
    const auto is_more_than = [&](const ScoredSize* other) {
      return other == nullptr || worth(field, size) > worth(field, *other) + resize_tie;
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

ResizeChoice choose_size(const ResizeGround& ground, std::vector<ScoredSize>& sizes, std::int64_t places) {
  switch (ground.rules.objective) {
    case ResizeObjective::efficiency: return choose_efficient(ground, sizes, places);
    case ResizeObjective::deadline: return choose_in_time(ground, sizes, places);
    default: return choose_best(ground, sizes, places);
  }
}

}  // namespace paceline
