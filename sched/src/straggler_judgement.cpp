// What is concluded of what was compared.
#include <algorithm>
#include <cmath>

#include "paceline/sched/straggler_detector.hpp"
#include "straggler_numbers.hpp"
#include "straggler_words.hpp"

namespace paceline {
namespace {

/// A sudden deviation is told by the last values of its run, no more than these.
constexpr std::size_t sudden_values = 8;
/// How a rank did of late, beside what is usual for it.
constexpr std::size_t recent_values = 16;

/// As a part of a step: what data waits are compared in.
double part_of(double off) {
  return 1 - std::exp(-off);
}

}  // namespace

bool StragglerDetector::complete(const Rank& rank, Quantity quantity) const {
  const DeviationSeries& series = rank.series[quantity];
  return series.sudden.complete(sudden_rule(quantity), now_s_) ||
         series.lasting.complete(lasting_rule(quantity), now_s_);
}

double StragglerDetector::off_of(const Rank& rank, Quantity quantity) const {
  const DeviationSeries& series = rank.series[quantity];
  if (series.sudden.run() > 0 && series.sudden.complete(sudden_rule(quantity), now_s_))
    return series.recent_off(std::min(series.sudden.run(), sudden_values));
  return series.mean_off();
}

double StragglerDetector::since_s(const Rank& rank, Quantity quantity) const {
  const DeviationSeries& series = rank.series[quantity];
  const bool sudden = series.sudden.complete(sudden_rule(quantity), now_s_);
  return sudden ? series.sudden.since_s() : series.lasting.since_s();
}

bool StragglerDetector::history_says(const Rank& rank, Quantity quantity, double off) const {
  const DeviationSeries& series = rank.series[quantity];
  if (!series.mature()) return false;
  const bool sudden = series.sudden.complete(sudden_rule(quantity), now_s_);
  const std::size_t run = sudden ? series.sudden.run() : series.lasting.run();
  return series.over_level(std::min(run, recent_values)) >= rules_.own_part * off;
}

bool StragglerDetector::stands_out(const Rank& rank, Quantity quantity, double off) const {
  std::vector<double> offs;
  std::size_t alike = 0;
  for (const auto& [worker, other] : ranks_) {
    if (!current(other) || other.series[quantity].count() == 0) continue;
    offs.push_back(other.series[quantity].mean_off());
    if (offs.back() >= off / 2 && other.who.worker != rank.who.worker) ++alike;
  }
  if (offs.size() <= 2)
    return off >= rules_.least_off_of_two &&
           rank.series[quantity].lasting.complete(lasting_rule(quantity), now_s_);
  const double few = std::max(1.0, rules_.few * static_cast<double>(offs.size()));
  const double centre = median_of(offs);
  return static_cast<double>(alike + 1) <= few && off - centre >= rules_.stands_out * robust_sigma(offs);
}

bool StragglerDetector::credible(const Rank& rank, Quantity quantity) const {
  const double off = off_of(rank, quantity);
  if (off <= sudden_rule(quantity).acceptable) return false;
  if (history_says(rank, quantity, off)) return true;
  return now_s_ - since_s(rank, quantity) >= rules_.without_history_s && stands_out(rank, quantity, off);
}

bool StragglerDetector::worth_a_word(const Rank& rank, Quantity quantity) const {
  const MeasuredSteps& steps = rank.steps;
  const double off = off_of(rank, quantity), all_s = steps.all_s();
  if (quantity == compute) return part_of(off) * steps.compute_s >= rules_.least_cost * all_s;
  if (quantity == optimizer) return part_of(off) * steps.optimizer_s >= rules_.least_cost * all_s;
  return true;
}

bool StragglerDetector::is_starved(const Rank& rank) const {
  double needed = rank.usual_cores.needed();
  if (!rank.series[compute].mature()) {
    std::vector<double> peers;
    for (const auto& [worker, other] : ranks_)
      if (worker != rank.who.worker && other.usual_cores.span_s > 0)
        peers.push_back(other.usual_cores.needed());
    if (peers.empty()) return false;
    needed = median_of(std::move(peers));
  }
  return needed >= rules_.least_cores && rank.cores_lately.span_s > 0 &&
         rank.cores_lately.computing() < rules_.starved * needed;
}

bool StragglerDetector::goes_on(const Rank& rank, Quantity quantity) const {
  const DeviationSeries& series = rank.series[quantity];
  return series.sudden.sum() > 0 || series.lasting.sum() > lasting_rule(quantity).limit / 2;
}

StragglerDetector::Active StragglerDetector::described(const Rank& rank, Quantity quantity) const {
  const MeasuredSteps& steps = rank.steps;
  const double off = off_of(rank, quantity);
  StragglerEvent event;
  event.part = static_cast<StepPart>(quantity);
  event.suspect = rank.who;
  const double since = since_s(rank, quantity);
  event.since = instant_of(since);
  event.at = *now_;
  event.ratio = std::exp(off);
  switch (quantity) {
    case data: {
      const double own = steps.own_s() / steps.all_s();
      event.cause = StragglerCause::slow_read;
      event.ratio = own / std::max(own - off, least_part);
      event.lost_s_per_step = off * steps.all_s() / steps.steps;
      break;
    }
    case compute:
      event.cause = is_starved(rank) ? StragglerCause::starved : StragglerCause::slow_compute;
      event.lost_s_per_step = part_of(off) * steps.compute_s / steps.steps;
      break;
    default:
      event.cause = StragglerCause::slow_optimizer;
      event.lost_s_per_step = part_of(off) * steps.optimizer_s / steps.steps;
  }
  event.sentence = sentence_of(event);
  return {event, since, now_s_};
}

void StragglerDetector::judge(Rank& rank, Quantity quantity, std::vector<StragglerEvent>& events) {
  std::optional<Active>& active = rank.active[quantity];
  if (active) {
    if (goes_on(rank, quantity)) return;
    events.push_back(ended(*active, StragglerEnding::over));
    active.reset();
    return;
  }
  if (!rank.fresh || !std::isfinite(rank.values[quantity])) return;
  if (!complete(rank, quantity) || !credible(rank, quantity) || !worth_a_word(rank, quantity)) return;
  active = described(rank, quantity);
  events.push_back(active->event);
}

// ---- all ranks at once -----------------------------------------------------------------------------

bool StragglerDetector::is_common(Quantity quantity, double over) const {
  std::size_t known = 0, alike = 0;
  for (const auto& [worker, rank] : ranks_) {
    if (!current(rank) || !rank.series[quantity].mature()) continue;
    ++known;
    if (rank.series[quantity].over_level(sudden_values) >= over / 2) ++alike;
  }
  return static_cast<double>(alike) >= rules_.most_ranks * static_cast<double>(known);
}

StragglerDetector::Active StragglerDetector::described_common(Quantity quantity) const {
  const Common& common = common_[quantity];
  StragglerEvent event;
  event.part = static_cast<StepPart>(quantity);
  event.since = instant_of(common.sum.since_s());
  event.at = *now_;
  event.ratio = std::exp(common.over());
  std::vector<double> lost_s;
  std::size_t ranks = 0, starved = 0;
  for (const auto& [worker, rank] : ranks_) {
    if (!current(rank) || !std::isfinite(rank.values[quantity])) continue;
    ++ranks;
    const MeasuredSteps& steps = rank.steps;
    const double spent_s = quantity == data        ? steps.all_s()
                           : quantity == compute   ? steps.compute_s
                           : quantity == optimizer ? steps.optimizer_s
                                                   : steps.all_s() - steps.own_s();
    lost_s.push_back((quantity == data ? common.over() : part_of(common.over())) * spent_s / steps.steps);
    if (quantity == compute && is_starved(rank)) ++starved;
  }
  event.cause = cause_of(event.part);
  if (2 * starved > ranks) event.cause = StragglerCause::starved;
  if (quantity == data) event.ratio = 1 / std::max(1 - common.over(), least_part);
  if (const Rank* end = quantity == wires ? rank_at_all_slow_wires() : nullptr) event.suspect = end->who;
  if (!lost_s.empty()) event.lost_s_per_step = median_of(std::move(lost_s));
  event.sentence = sentence_of(event, ranks);
  return {event, common.sum.since_s(), now_s_};
}

void StragglerDetector::judge_common(Quantity quantity, std::vector<StragglerEvent>& events) {
  Common& common = common_[quantity];
  const auto end = [&](StragglerEnding how) {
    events.push_back(ended(*common.active, how));
    common.active.reset();
  };
  if (common.active) {
    if (common.sum.sum() == 0) return end(StragglerEnding::over);
    if (now_s_ - common.active->at_s < rules_.usual_after_s) return;
    for (auto& [worker, rank] : ranks_) rank.series[quantity].accept();
    common.sum.reset();
    return end(StragglerEnding::usual);
  }
  if (!common.sum.complete(common_rule(quantity), now_s_) || !is_common(quantity, common.over())) return;
  // That all wait for one node's wires is known by then, and no news.
  if (quantity == wires && (!wires_matter() || !slow_wires_.empty())) return;
  const Active found = described_common(quantity);
  if (quantity == wires && !found.event.suspect && now_s_ - found.since_s < sees_node_after_s) return;
  common.active = found;
  events.push_back(found.event);
}

}  // namespace paceline
