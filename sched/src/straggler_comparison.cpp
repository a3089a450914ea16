// How ranks compare with each other and with what is usual: numbers, and nothing concluded yet.
#include <algorithm>
#include <cmath>

#include "paceline/sched/straggler_detector.hpp"
#include "straggler_numbers.hpp"

namespace paceline {
namespace {

constexpr double cores_weight = 0.02;
/// The last steps alone are noisy: only so many times the lateness that counts leaves them out.
constexpr double late_now_times = 1.5;
/// Of the common jump from one value to the next, as of a rank's.
constexpr double noise_weight = 0.03, first_sigma = 0.1, sigma_over_jump = 0.8862;
constexpr double most_jump = 0.5;
/// As a logarithm: nothing is further off, whatever is reported.
constexpr double most_off = 14;
/// A common sum beyond this part of its limit: what is seen isn't usual.
constexpr double suspicious_part = 0.25;

}  // namespace

void StragglerDetector::CoreUse::add(const MeasuredSteps& steps) {
  if (!std::isfinite(steps.cpu_s) || !std::isfinite(steps.compute_s)) return;
  const auto fade_into = [](double& sum, double value) { sum = (1 - cores_weight) * sum + value; };
  fade_into(cpu_s, steps.cpu_s);
  fade_into(span_s, steps.ended_s - steps.began_s);
  fade_into(compute_s, steps.compute_s);
  fade_into(all_s, steps.all_s());
}

DeviationRule StragglerDetector::for_ranks(DeviationRule rule) const {
  rule.limit += std::log(std::max(1.0, static_cast<double>(by_number_.size()) / rules_.ranks_of_limits));
  return rule;
}

DeviationRule StragglerDetector::sudden_rule(Quantity quantity) const {
  if (quantity == data) return for_ranks(rules_.sudden_data);
  return for_ranks(quantity >= wires ? rules_.sudden_wire : rules_.sudden_time);
}

DeviationRule StragglerDetector::lasting_rule(Quantity quantity) const {
  if (quantity == data) return for_ranks(rules_.lasting_data);
  return for_ranks(quantity >= wires ? rules_.lasting_wire : rules_.lasting_time);
}

const DeviationRule& StragglerDetector::common_rule(Quantity quantity) const {
  if (quantity == data) return rules_.common_data;
  return quantity >= wires ? rules_.common_wire : rules_.common_time;
}

double StragglerDetector::least_sigma(Quantity quantity) const {
  if (quantity == data) return rules_.least_sigma_data;
  return quantity >= wires ? rules_.least_sigma_wire : rules_.least_sigma_time;
}

void StragglerDetector::note_arrivals() {
  arrivals_ = {};
  by_number_.clear();
  for (const auto& [worker, rank] : ranks_) {
    if (!rank.listed) continue;
    by_number_[rank.who.rank] = worker;
    const double own_part = rank.own_part;
    if (!current(rank) || own_part == 0) arrivals_.unknown = true;
    if (!current(rank)) continue;
    arrivals_.exposed = std::min(arrivals_.exposed, 1 - rank.own_part);
    if (own_part > arrivals_.last && rank.who.node != arrivals_.node) {
      arrivals_.last_elsewhere = arrivals_.last;
      arrivals_.node = rank.who.node;
    }
    double& last = rank.who.node == arrivals_.node ? arrivals_.last : arrivals_.last_elsewhere;
    last = std::max(last, own_part);
  }
}

bool StragglerDetector::wires_matter() const {
  return arrivals_.exposed < 1 && arrivals_.exposed >= rules_.least_exposed;
}

StragglerDetector::Receivers StragglerDetector::receivers_of(const Rank& rank, Quantity quantity) const {
  if (quantity == wires) {
    if (arrivals_.unknown) return Receivers::late;
    const double last = rank.who.node == arrivals_.node ? arrivals_.last_elsewhere : arrivals_.last;
    if (last - rank.own_part > rules_.late) return Receivers::late;
  }
  const Rank* to = rank_numbered(rank.slowest_wire_rank);
  if (quantity == wires && to == nullptr) return Receivers::in_time;
  if (to == nullptr || !current(*to) || to->own_part == 0) return Receivers::late;
  if (to->own_part - rank.own_part > rules_.late) return Receivers::late;
  return to->last_own_part - rank.last_own_part > late_now_times * rules_.late ? Receivers::late_now
                                                                               : Receivers::in_time;
}

const StragglerDetector::Rank* StragglerDetector::rank_numbered(std::int64_t number) const {
  const auto worker = by_number_.find(number);
  return worker == by_number_.end() ? nullptr : &ranks_.at(worker->second);
}

void StragglerDetector::follow_cores(Rank& rank) {
  const DeviationSeries& series = rank.series[compute];
  if (series.sudden.run() == 0 && series.lasting.run() == 0) {
    rank.cores_lately = {};
  } else {
    rank.cores_lately.add(rank.steps);
  }
  if (series.sudden.sum() == 0 && !rank.active[compute]) rank.usual_cores.add(rank.steps);
}

void StragglerDetector::observe(Rank& rank, Quantity quantity, double off) {
  DeviationSeries& series = rank.series[quantity];
  const bool of_wires = quantity >= wires;
  if (of_wires) {
    const Receivers receivers = wires_matter() ? receivers_of(rank, quantity) : Receivers::late;
    // While another keeps it waiting, what is known of a slow wire stays, and nothing new is believed.
    if (receivers == Receivers::late && rank.blamed_node.empty()) {
      series.sudden.refute(sudden_rule(quantity));
      series.lasting.refute(lasting_rule(quantity));
    }
    if (receivers != Receivers::in_time) return;
  }
  const bool active = of_wires ? !rank.blamed_node.empty() : rank.active[quantity].has_value();
  const Common& common = common_[std::min<std::size_t>(quantity, wires)];
  const bool unusual = common.active || common.sum.sum() > suspicious_part * common_rule(quantity).limit;
  series.hold(active);
  series.freeze(active || unusual);
  series.observe(sudden_rule(quantity), lasting_rule(quantity), least_sigma(quantity), rank.values[quantity],
                 off, rank.steps.began_s);
  rank.counted[quantity] = true;
}

StragglerDetector::Peers StragglerDetector::peers_in(Quantity quantity) const {
  Peers peers;
  std::vector<double> shares;
  for (const auto& [worker, rank] : ranks_) {
    if (!rank.listed || !current(rank) || !std::isfinite(rank.values[quantity])) continue;
    peers.values.push_back(rank.values[quantity]);
    if (quantity == compute) peers.compute_as_is.push_back(rank.compute_as_is);
    if (quantity == data) shares.push_back(rank.share);
  }
  std::sort(peers.values.begin(), peers.values.end());
  std::sort(peers.compute_as_is.begin(), peers.compute_as_is.end());
  if (!shares.empty()) peers.share = median_of(std::move(shares));
  return peers;
}

double StragglerDetector::off_from(const Peers& peers, const Rank& rank, Quantity quantity) const {
  if (peers.values.size() < 2) return 0;
  const double value = rank.values[quantity], usual = median_of_others(peers.values, value);
  switch (quantity) {
    case data:  // where all wait for data, who reads more waits more
      return value - usual * (peers.share > 0 ? std::max(1.0, rank.share / peers.share) : 1);
    case compute:  // whatever the fixed part is, between none and the most
      return std::min(value - usual,
                      rank.compute_as_is - median_of_others(peers.compute_as_is, rank.compute_as_is));
    case optimizer:  // a rank that computes slowly does so in its optimizer too
      return value - usual - std::max(0.0, rank.series[compute].last_off());
    case wires:
    case slowest_wire: return value - usual;
  }
  return 0;
}

void StragglerDetector::compare(Quantity quantity) {
  const Peers peers = peers_in(quantity);
  for (auto& [worker, rank] : ranks_) {
    if (!rank.fresh || !std::isfinite(rank.values[quantity])) continue;
    observe(rank, quantity, std::clamp(off_from(peers, rank, quantity), -most_off, most_off));
    if (quantity == compute) follow_cores(rank);
  }
  if (quantity != slowest_wire) compare_common(quantity);
}

void StragglerDetector::compare_common(Quantity quantity) {
  std::vector<double> over;
  std::size_t known = 0;
  double began_s = now_s_;
  for (const auto& [worker, rank] : ranks_) {
    if (!rank.listed || !current(rank) || !rank.series[quantity].mature()) continue;
    ++known;
    if (!rank.counted[quantity] || !std::isfinite(rank.values[quantity])) continue;
    over.push_back(rank.values[quantity] - rank.series[quantity].level());
    began_s = std::min(began_s, rank.steps.began_s);
  }
  if (over.empty() || 2 * over.size() <= known) return;
  for (auto& [worker, rank] : ranks_) rank.counted[quantity] = false;
  std::sort(over.begin(), over.end());
  // The lower one of a middle two: of two ranks, both must be slower.
  const double value = std::clamp(over[(over.size() - 1) / 2], -most_off, most_off);
  Common& common = common_[quantity];
  if (common.count++ == 0) common.jump = first_sigma / sigma_over_jump;
  const double sigma = std::max(least_sigma(quantity), sigma_over_jump * common.jump);
  common.jump += noise_weight * (std::min(std::abs(value - common.last), most_jump) - common.jump);
  common.last = value;
  common.values.observe(value);
  common.sum.hold(common.active.has_value());
  common.sum.observe(common_rule(quantity), value, sigma, began_s);
}

}  // namespace paceline
