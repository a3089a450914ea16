// The fewest ranks that finish in time.
#include <algorithm>
#include <optional>

#include "paceline/base/text.hpp"
#include "resize_choice.hpp"

namespace paceline {
namespace {

/// May be chosen: it is not too far away to be tried.
bool is_in_reach(const ResizeGround& ground, const ScoredSize& size, std::int64_t places) {
  if (is_present(ground, size)) return true;
  if (forbidden(ground, size, places)) return false;
  return !is_a_try(ground, size) ||
         factor_between(size.shown.ranks, ground.facts.ranks) <= ground.rules.explore_factor;
}

/// None is in time as far as is known: the one that is expected to be the first to finish.
ResizeChoice be_least_late(const ResizeGround& ground, std::vector<ScoredSize>& sizes, std::int64_t places,
                           double left_s) {
  ScoredSize* fastest = nullptr;
  double least_s = ground.time_left_s;
  for (ScoredSize& size : sizes) {
    least_s = std::min(least_s, size.mean_finish_s);
    if (is_in_reach(ground, size, places) &&
        (fastest == nullptr || size.mean_finish_s < fastest->mean_finish_s - resize_tie * left_s))
      fastest = &size;
  }
  const bool hopeless = least_s > left_s;
  const std::string needs =
      concat(hopeless ? "the deadline cannot be met: the job needs " : "the job is expected to need ",
             seconds_text(fastest->mean_finish_s), hopeless ? " more at best, with " : " more, with ",
             ranks_text(fastest->shown.ranks), ", and has ", seconds_text(left_s));
  if (is_present(ground, *fastest) || fastest->shown.gain < needed_gain(ground, fastest->shown.ranks))
    return stay(ground, hopeless ? ResizeCause::deadline_unreachable : ResizeCause::uncertain, needs);
  return go_to(ground, *fastest,
               {true, hopeless ? ResizeCause::deadline_unreachable : ResizeCause::meets_deadline, needs});
}

/// Fewest ranks that finish in `allowed_s`, by the upper bound of their step or, if so wanted, by the
/// expected one.
ScoredSize* fewest_in_time(const ResizeGround& ground, std::vector<ScoredSize>& sizes, std::int64_t places,
                           double allowed_s, bool surely = true) {
  for (ScoredSize& size : sizes)
    if (is_in_reach(ground, size, places) && (surely ? size.finish_s : size.mean_finish_s) <= allowed_s)
      return &size;
  return nullptr;
}

/// The present size is too slow: fewest ranks that surely do, or else probably.
ResizeChoice hurry(const ResizeGround& ground, std::vector<ScoredSize>& sizes, std::int64_t places,
                   double left_s) {
  const double allowed_s = left_s * (1 - ground.rules.deadline_margin);
  ScoredSize* enough = fewest_in_time(ground, sizes, places, allowed_s);
  const bool surely = enough != nullptr;
  if (!surely) enough = fewest_in_time(ground, sizes, places, allowed_s, false);
  if (enough == nullptr || is_present(ground, *enough)) return be_least_late(ground, sizes, places, left_s);
  return go_to(
      ground, *enough,
      {true, ResizeCause::meets_deadline,
       concat("the job ends in ", seconds_text(surely ? enough->finish_s : enough->mean_finish_s),
              surely ? " at the latest" : " as far as is known", ", and has ", seconds_text(left_s))});
}

}  // namespace

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
    if (in_time && !is_present(ground, size)) finding = forbidden(ground, size, places).value_or(finding);
    note(size, finding);
  }
  if (present->finish_s > allowed_s) return hurry(ground, sizes, places, left_s);
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

}  // namespace paceline
