#include "paceline/sched/size_meter.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace paceline {
namespace {

double whole_s(const MeasuredSums& sums) {
  return sums.data_s + sums.forward_s + sums.backward_s + sums.reduce_s + sums.commit_s + sums.optimizer_s;
}

/// Sums that can follow on others: nothing got less, and all of it is a number.
bool follows(const MeasuredSums& after, const MeasuredSums& before) {
  return after.steps >= before.steps && after.forward_s >= before.forward_s &&
         after.backward_s >= before.backward_s && after.reduce_s >= before.reduce_s &&
         after.commit_s >= before.commit_s && after.optimizer_s >= before.optimizer_s &&
         after.data_s >= before.data_s && std::isfinite(whole_s(after));
}

}  // namespace

std::optional<SizeObservation> SizeMeter::take(double now_s, std::int64_t generation, const JobSize& size,
                                               const std::vector<RankSums>& ranks) {
  Sums sums;
  for (const RankSums& rank : ranks) sums[rank.worker] = rank.sums;
  const auto goes_on = [&](const Sums& before) {
    return before.size() == sums.size() && std::ranges::all_of(sums, [&](const auto& each) {
             const auto was = before.find(each.first);
             return was != before.end() && follows(each.second, was->second);
           });
  };
  const bool same = generation == generation_ && size == size_ && goes_on(begin_ ? *begin_ : first_);
  if (!same) {
    generation_ = generation;
    size_ = size;
    first_ = sums;
    begin_.reset();
    return std::nullopt;
  }
  if (!begin_) {
    const bool warm = std::ranges::all_of(sums, [&](const auto& each) {
      return each.second.steps - first_.at(each.first).steps >= rules_.warm_up_steps;
    });
    if (warm && !sums.empty()) begin(now_s, sums);
    return std::nullopt;
  }
  note_spread(sums);
  if (!is_whole(now_s, sums)) return std::nullopt;
  const SizeObservation made = observation(sums);
  begin(now_s, sums);
  return made;
}

void SizeMeter::begin(double now_s, const Sums& sums) {
  begin_ = sums;
  begin_s_ = now_s;
  spread_from_ = sums.begin()->second;
  spread_steps_ = spread_sum_ms_ = spread_squares_ = 0;
  spread_count_ = 0;
}

/// The mean of n steps varies by the n-th part of what one does: n times its square is a step's variance.
void SizeMeter::note_spread(const Sums& sums) {
  const MeasuredSums& now = sums.begin()->second;
  const auto steps = static_cast<double>(now.steps - spread_from_.steps);
  if (steps <= 0) return;
  const double ms = 1000 * (whole_s(now) - whole_s(spread_from_));
  spread_from_ = now;
  ++spread_count_;
  spread_steps_ += steps;
  spread_sum_ms_ += ms;
  spread_squares_ += ms * ms / steps;
}

bool SizeMeter::is_whole(double now_s, const Sums& sums) const {
  return now_s - begin_s_ >= rules_.least_s && std::ranges::all_of(sums, [&](const auto& each) {
           return each.second.steps - begin_->at(each.first).steps >= rules_.least_steps;
         });
}

SizeObservation SizeMeter::observation(const Sums& sums) const {
  SizeObservation made;
  made.size = size_;
  made.steps = std::numeric_limits<std::int64_t>::max();
  made.exposed_reduce_ms = std::numeric_limits<double>::infinity();
  for (const auto& [worker, after] : sums) {
    const MeasuredSums& before = begin_->at(worker);
    const std::int64_t steps = after.steps - before.steps;
    const auto ms_per_step = [&](double seconds) { return 1000 * seconds / static_cast<double>(steps); };
    made.steps = std::min(made.steps, steps);
    made.compute_ms = std::max(made.compute_ms, ms_per_step(after.forward_s - before.forward_s +
                                                            after.backward_s - before.backward_s));
    made.exposed_reduce_ms = std::min(made.exposed_reduce_ms, ms_per_step(after.reduce_s - before.reduce_s +
                                                                          after.commit_s - before.commit_s));
    made.step_ms = std::max(made.step_ms, ms_per_step(whole_s(after) - whole_s(before)));
  }
  if (spread_count_ > 1) {
    const double variance = (spread_squares_ - spread_sum_ms_ * spread_sum_ms_ / spread_steps_) /
                            static_cast<double>(spread_count_ - 1);
    made.step_deviation_ms = std::sqrt(std::max(0.0, variance));
  }
  return made;
}

}  // namespace paceline
