// The most ranks that keep the scaling efficiency.
#include <algorithm>
#include <optional>

#include "paceline/base/text.hpp"
#include "resize_choice.hpp"

namespace paceline {
namespace {

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

}  // namespace

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
    if (finding.good) finding = forbidden(ground, size, places).value_or(finding);
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

}  // namespace paceline
