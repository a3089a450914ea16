// What the detector is told, and how it keeps it.
#include "paceline/sched/straggler_detector.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "paceline/base/text.hpp"
#include "straggler_words.hpp"

namespace paceline {
namespace {

/// No two observations are further apart, as far as this is concerned: a clock that jumps doesn't age what is
/// known by more.
constexpr double most_tick_s = 1;
/// A rank's last steps stand for it for so long, or for so many times as long as they took.
constexpr double current_s = 2, current_times = 5;
constexpr double own_part_weight = 0.2;
/// Who has reported no step for so long, and so many times as long as others take, reports nothing.
constexpr double silent_s = 5, silent_times = 20;

constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

double logarithm(double value) {
  return value > 0 && std::isfinite(value) ? std::log(value) : unknown;
}

bool any_unknown(const MeasuredSteps& steps) {
  return !std::isfinite(steps.data_s + steps.compute_s + steps.optimizer_s + steps.wait_s + steps.cpu_s +
                        steps.wire_bytes + steps.wire_busy_s + steps.grains);
}

}  // namespace

StragglerEvent StragglerDetector::ended(const Active& active, StragglerEnding how) const {
  StragglerEvent event = active.event;
  event.sentence = sentence_of_end(event, how, now_s_ - active.since_s);
  event.kind = StragglerEvent::Kind::ended;
  event.at = *now_;
  return event;
}

void StragglerDetector::advance(Instant now) {
  if (now_) now_s_ += std::clamp(to_seconds(now - *now_), 0.0, most_tick_s);
  now_ = now;
}

Instant StragglerDetector::instant_of(double at_s) const {
  return *now_ - std::chrono::duration_cast<Duration>(std::chrono::duration<double>(now_s_ - at_s));
}

void StragglerDetector::begin_generation(std::int64_t generation, const std::vector<RankReport>& reports) {
  if (generation == generation_) return;
  generation_ = generation;
  const bool other_size = reports.size() != ranks_.size();
  for (auto& [worker, rank] : ranks_) {
    rank.intake.skip();
    rank.own_part = rank.last_own_part = 0;
    rank.slowest_wire_rank = -1;
    for (const Quantity quantity : {wires, slowest_wire}) rank.series[quantity].forget_level();
    if (other_size) rank.series[data].forget_level();
  }
}

void StragglerDetector::take_steps(Rank& rank, const MeasuredSteps& steps) {
  rank.steps = steps;
  rank.reported_s = now_s_;
  const double share = steps.grains / steps.steps, all_s = steps.all_s();
  if (std::isfinite(share)) rank.share = share;
  rank.last_own_part = all_s > 0 ? steps.own_s() / all_s : 0;
  rank.own_part += (rank.own_part == 0 ? 1 : own_part_weight) * (rank.last_own_part - rank.own_part);
  rank.compute_as_is = logarithm(steps.compute_s / steps.grains);
  rank.values[data] = all_s > 0 ? steps.data_s / all_s : unknown;
  rank.values[compute] = rank.compute_as_is - std::log1p(rules_.fixed_grains / share);
  rank.values[optimizer] = logarithm(steps.optimizer_s / steps.steps);
  rank.values[wires] = logarithm(steps.wire_busy_s / steps.wire_bytes);
  rank.values[slowest_wire] =
      rank.slowest_wire_rank >= 0 ? logarithm(1 / rank.slowest_wire_bytes_per_s) : unknown;
  rank.fresh = rank.intake.steps() > rules_.warm_up_steps && now_s_ - rank.known_since_s >= rules_.warm_up_s;
  if (!rank.fresh) rank.values.fill(unknown);
}

void StragglerDetector::take(const RankReport& report) {
  const auto [found, is_new] = ranks_.try_emplace(report.worker);
  Rank& rank = found->second;
  rank.who = {report.worker, report.rank, report.node};
  rank.listed = true;
  if (is_new) {
    rank.known_since_s = rank.reported_s = now_s_;
    rank.values.fill(unknown);
    rank.share = static_cast<double>(std::max<std::int64_t>(report.share, 0));
  }
  if (rank.heard == report.heard) return;
  rank.heard = report.heard;
  rank.heard_s = now_s_ - std::clamp(to_seconds(*now_ - report.heard), 0.0, most_tick_s);
  rank.slowest_wire_rank = report.slowest_wire_rank;
  rank.slowest_wire_bytes_per_s = report.slowest_wire_bytes_per_s;
  if (const auto steps = rank.intake.take(report.sums, rank.heard_s)) take_steps(rank, *steps);
}

bool StragglerDetector::current(const Rank& rank) const {
  const double lasts_s = current_times * (rank.steps.ended_s - rank.steps.began_s);
  return rank.steps.steps > 0 && now_s_ - rank.steps.ended_s <= std::max(current_s, lasts_s);
}

void StragglerDetector::forget(std::vector<StragglerEvent>& events) {
  for (auto at = ranks_.begin(); at != ranks_.end();) {
    const Rank& rank = at->second;
    if (rank.listed || now_s_ - rank.heard_s < rules_.forget_after_s) {
      ++at;
      continue;
    }
    for (const auto& active : rank.active)
      if (active) events.push_back(ended(*active, StragglerEnding::left));
    at = ranks_.erase(at);
  }
}

std::vector<StragglerEvent> StragglerDetector::observe(Instant now, std::int64_t generation,
                                                       const std::vector<RankReport>& reports) {
  std::vector<StragglerEvent> events;
  advance(now);
  const bool new_generation = generation != generation_;
  begin_generation(generation, reports);
  for (auto& [worker, rank] : ranks_) rank.listed = rank.fresh = false;
  for (const RankReport& report : reports) take(report);
  if (new_generation)
    for (auto& [worker, rank] : ranks_)
      if (!rank.listed) rank.heard_s = -rules_.forget_after_s;
  forget(events);
  note_arrivals();
  for (const Quantity quantity : {data, compute, optimizer, wires, slowest_wire}) compare(quantity);
  for (auto& [worker, rank] : ranks_)
    for (const Quantity quantity : {data, compute, optimizer}) judge(rank, quantity, events);
  judge_wires(events);
  for (const Quantity quantity : {data, compute, optimizer, wires}) judge_common(quantity, events);
  return events;
}

std::vector<StragglerEvent> StragglerDetector::active() const {
  std::vector<StragglerEvent> events;
  for (const auto& [worker, rank] : ranks_)
    for (const auto& active : rank.active)
      if (active) events.push_back(active->event);
  for (const auto& [node, active] : slow_wires_) events.push_back(active.event);
  for (const Common& common : common_)
    if (common.active) events.push_back(common.active->event);
  return events;
}

std::vector<UnusableRank> StragglerDetector::unusable() const {
  double newest_s = 0, step_s = 0;
  for (const auto& [worker, rank] : ranks_) {
    if (rank.steps.steps <= 0) continue;
    newest_s = std::max(newest_s, rank.reported_s);
    step_s = std::max(step_s, (rank.steps.ended_s - rank.steps.began_s) / rank.steps.steps);
  }
  std::vector<UnusableRank> unusable;
  for (const auto& [worker, rank] : ranks_) {
    const double behind_s = newest_s - rank.reported_s;
    if (behind_s > std::max(silent_s, silent_times * step_s)) {
      unusable.push_back({rank.who, concat("it has reported no step for ", std::llround(behind_s),
                                           " s, while others have")});
    } else if (rank.steps.steps > 0 && any_unknown(rank.steps)) {
      unusable.push_back({rank.who, "some of what it measured is not a number, or got less"});
    }
  }
  return unusable;
}

}  // namespace paceline
