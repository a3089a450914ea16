// Whose wires are slow. What a rank measures is how fast its own bytes leave it. That may be its own node's
// doing, or that of the node which they go to: so the node that is common to most of the slow pairs is
// blamed.
#include <algorithm>
#include <cmath>
#include <set>

#include "paceline/base/text.hpp"
#include "paceline/sched/straggler_detector.hpp"
#include "straggler_words.hpp"

namespace paceline {
namespace {

/// Of the limit: a pair speaks for another one's guilt before it is sure itself.
constexpr double suspicious_part = 0.3;

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
    if (&other == &rank || wire_suspicious(other)) pairs.emplace(other.who.node, to->who.node);
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
  rank.blamed_node = node;
  if (slow_wires_.count(rank.blamed_node) > 0) return;
  const Active active = described_wire(rank, node, pairs);
  slow_wires_.emplace(rank.blamed_node, active);
  events.push_back(active.event);
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
