// Whose wires are slow. What a rank measures is how fast its own bytes leave it. That may be its own node's
// doing, or that of the node which they go to: so the node that is common to most of the slow pairs is
// blamed.
#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "paceline/base/text.hpp"
#include "paceline/sched/straggler_detector.hpp"
#include "straggler_numbers.hpp"
#include "straggler_words.hpp"

namespace paceline {
namespace {

/// Of the limit: a pair speaks for another one's guilt before it is sure itself.
constexpr double suspicious_part = 0.3;
/// And so does one that is as slow, whatever is known of it: no more than so many times as fast.
constexpr double as_slow = 1.5;
/// Values that are looked at.
constexpr std::size_t lately = 3;
/// Slower than what a rank sends to all others together, as a logarithm: its other wires are better.
constexpr double much_slower = 0.26;

}  // namespace

bool StragglerDetector::wire_suspicious(const Rank& rank) const {
  if (!rank.listed || !current(rank)) return false;
  return std::any_of(rank.series.begin() + wires, rank.series.end(), [&](const DeviationSeries& series) {
    return series.sudden.sum() >= suspicious_part * sudden_rule(wires).limit ||
           series.lasting.sum() >= suspicious_part * lasting_rule(wires).limit;
  });
}

std::pair<std::string, std::int64_t> StragglerDetector::node_to_blame(const Rank& rank) const {
  // Ranks of one node share its wires: one vote for each two nodes.
  std::set<std::pair<std::string, std::string>> pairs;
  for (const auto& [worker, other] : ranks_) {
    const Rank* to = rank_numbered(other.slowest_wire_rank);
    if (to == nullptr || to->who.node == other.who.node) continue;
    const bool alike =
        current(other) && other.slowest_wire_bytes_per_s <= as_slow * rank.slowest_wire_bytes_per_s;
    if (&other == &rank || alike || wire_suspicious(other)) pairs.emplace(other.who.node, to->who.node);
  }
  const auto pairs_of = [&](const std::string& node) -> std::int64_t {
    return std::count_if(pairs.begin(), pairs.end(),
                         [&](const auto& pair) { return pair.first == node || pair.second == node; });
  };
  const std::string& sender = rank.who.node;
  const Rank* to = rank_numbered(rank.slowest_wire_rank);
  if (to != nullptr && pairs_of(to->who.node) > pairs_of(sender))
    return {to->who.node, pairs_of(to->who.node)};
  return {sender, pairs_of(sender)};
}

/// More than one between two nodes.
bool StragglerDetector::several_wires() const {
  std::set<std::string> nodes;
  for (const auto& [worker, rank] : ranks_)
    if (current(rank)) nodes.insert(rank.who.node);
  return nodes.size() > 2;
}

bool StragglerDetector::others_are_better(const Rank& rank) const {
  return rank.values[slowest_wire] - rank.values[wires] >= much_slower;
}

/// The ranks whose slowest wires are what is slow: as slow as the slowest of all, or slower than usual by
/// half as much as that one, as a logarithm.
std::vector<const StragglerDetector::Rank*> StragglerDetector::with_slow_wires() const {
  const Rank* slowest = nullptr;
  const auto has_wire = [&](const Rank& rank) {
    return current(rank) && rank_numbered(rank.slowest_wire_rank) != nullptr &&
           rank.slowest_wire_bytes_per_s > 0;
  };
  for (const auto& [worker, rank] : ranks_)
    if (has_wire(rank) &&
        (slowest == nullptr || rank.slowest_wire_bytes_per_s < slowest->slowest_wire_bytes_per_s))
      slowest = &rank;
  if (slowest == nullptr) return {};
  const double most = slowest->series[slowest_wire].over_level(lately);
  std::vector<const Rank*> slow;
  for (const auto& [worker, rank] : ranks_)
    if (has_wire(rank) && (rank.slowest_wire_bytes_per_s <= as_slow * slowest->slowest_wire_bytes_per_s ||
                           rank.series[slowest_wire].over_level(lately) >= most / 2))
      slow.push_back(&rank);
  return slow;
}

/// A rank of the node whose wires alone are slow, though all ranks find wires slow: it is at an end of all
/// that are slow, of two at least, and there are better ones: those of other ranks, or else the other wires
/// of the ranks elsewhere. Null: it is the network. Of two nodes it can't be told.
const StragglerDetector::Rank* StragglerDetector::rank_at_all_slow_wires() const {
  const std::vector<const Rank*> slow = with_slow_wires();
  if (slow.size() < 2) return nullptr;
  const auto is_at = [&](const Rank* rank, const std::string& node) {
    return rank->who.node == node || rank_numbered(rank->slowest_wire_rank)->who.node == node;
  };
  if (!several_wires()) return nullptr;
  const auto ranks = static_cast<std::size_t>(
      std::count_if(ranks_.begin(), ranks_.end(), [&](const auto& each) { return current(each.second); }));
  for (const Rank* end : {slow.front(), rank_numbered(slow.front()->slowest_wire_rank)}) {
    const std::string& node = end->who.node;
    if (!std::all_of(slow.begin(), slow.end(), [&](const Rank* rank) { return is_at(rank, node); })) continue;
    if (slow.size() < ranks || std::all_of(slow.begin(), slow.end(), [&](const Rank* rank) {
          return rank->who.node == node || others_are_better(*rank);
        }))
      return end;
  }
  return nullptr;
}

StragglerDetector::Active StragglerDetector::described_wire(const Rank& rank, const std::string& node,
                                                            std::int64_t pairs) const {
  const Quantity quantity = complete(rank, wires) && credible(rank, wires) ? wires : slowest_wire;
  StragglerEvent event;
  event.part = StepPart::wire;
  event.cause = StragglerCause::slow_wire;
  event.slow_pairs = pairs;
  event.suspect = rank.who;
  const Rank* to = rank_numbered(rank.slowest_wire_rank);
  if (to != nullptr) {
    event.pair = SlowPair{rank.who.rank, rank.slowest_wire_rank, rank.slowest_wire_bytes_per_s};
    if (to->who.node == node) event.suspect = to->who;
  }
  const double off = off_of(rank, quantity);
  const double since = since_s(rank, quantity);
  event.since = instant_of(since);
  event.at = *now_;
  event.ratio = std::exp(off);
  event.lost_s_per_step = (1 - 1 / event.ratio) * arrivals_.exposed * rank.steps.all_s() / rank.steps.steps;
  event.sentence = sentence_of(event);
  return {event, since, now_s_};
}

void StragglerDetector::blame_wire(Rank& rank, std::vector<StragglerEvent>& events) {
  const bool sure = (complete(rank, wires) && credible(rank, wires)) ||
                    (complete(rank, slowest_wire) && credible(rank, slowest_wire));
  if (!sure || !wires_matter() || receivers_of(rank, slowest_wire) == Receivers::late) return;
  const auto [node, pairs] = node_to_blame(rank);
  const Active found = described_wire(rank, node, pairs);
  // Another pair may yet show which of the two ends it is.
  if (pairs < 2 && several_wires() && now_s_ - found.since_s < sees_node_after_s) return;
  rank.blamed_node = node;
  if (slow_wires_.count(node) > 0) return;
  const std::optional<Active>& all = common_[wires].active;
  if (all && all->event.suspect && all->event.suspect->node == node) return;
  slow_wires_.emplace(rank.blamed_node, found);
  events.push_back(found.event);
}

void StragglerDetector::judge_wires(std::vector<StragglerEvent>& events) {
  std::set<std::string> still;
  for (auto& [worker, rank] : ranks_) {
    if (rank.blamed_node.empty()) {
      if (rank.fresh) blame_wire(rank, events);
    } else if (!std::any_of(rank.series.begin() + wires, rank.series.end(),
                            [](const DeviationSeries& series) {
                              return series.sudden.sum() > 0 || series.lasting.sum() > 0;
                            })) {
      rank.blamed_node.clear();
    }
    if (!rank.blamed_node.empty()) still.insert(rank.blamed_node);
  }
  for (auto at = slow_wires_.begin(); at != slow_wires_.end();) {
    if (still.count(at->first) > 0) {
      ++at;
      continue;
    }
    events.push_back(ended(at->second, StragglerEnding::over));
    at = slow_wires_.erase(at);
  }
}

}  // namespace paceline
